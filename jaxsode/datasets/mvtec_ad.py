"""MVTec AD: 15 categories, five textures and ten objects, each trained on its own good pictures.

Published by MVTec Software GmbH (Bergmann et al., IJCV 2021), under CC BY-NC-SA 4.0. A split is a category.
As in the paper, every tenth training picture is held out: it is neither trained nor tested on.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxsode.errors import ArgumentError, DataError
from jaxsode.home import expanded, home

from .archives import unpacked
from .dataset import Card, Dataset, Example, Progress, Split
from .files import PICTURES, Files, FolderFiles, ZipFiles, unreadable
from .in_place import InPlace, Place

HOMEPAGE = "https://www.mvtec.com/company/research/datasets/mvtec-ad"
ARCHIVE = "mvtec_anomaly_detection"
CARD = Card(
    name="mvtec_ad",
    channels=3,  # grid, screw and zipper are stored grey, which is repeated
    description="MVTec AD: 15 categories of textures and objects, 3,629 good pictures to train on.",
    homepage=HOMEPAGE,
    licence="CC BY-NC-SA 4.0, MVTec Software GmbH: no commercial use",
    how_to_get=(
        f"get {ARCHIVE}.tar.xz or a category's archive from {HOMEPAGE} (a form, then the licence) and give "
        "its path, or the folder that it lies or is unpacked in, as --data-dir"
    ),
)
SIZE = (256, 256)

# As published: training pictures, good test pictures, defective test pictures.
TEXTURES = {
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "leather": (245, 32, 92),
    "tile": (230, 33, 84),
    "wood": (247, 19, 60),
}
OBJECTS = {
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "hazelnut": (391, 40, 70),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "zipper": (240, 32, 119),
}
CATEGORIES = TEXTURES | OBJECTS

_REMEDY = f"get it again from {HOMEPAGE}"
_FILE = re.compile(rf"(?P<stem>.+?)(?P<mask>_mask)?\.({'|'.join(PICTURES)})", re.IGNORECASE)

Key = tuple[str, str, str, str]  # category, part, kind, stem


@dataclass(frozen=True)
class _Source:
    """Some files, and the category they are of where their names don't begin with it."""

    files: Files
    category: str


def load(*, data_dir: Path | None = None, progress: Progress | None = None, hold_out: int = 10) -> Dataset:
    """MVTec AD, or as many of its categories as there are.

    Folders and zips are read where they lie; what is published as `.tar.xz` is unpacked into the cache.

    Args:
        data_dir: the whole archive or a category's (`.tar.xz`, or a zip), a category's folder, or a folder
            with any of these; by default $JAXSODE_HOME/datasets. It is only read.
        progress: called while an archive is unpacked, the first time.
        hold_out: every so many-th training picture of a category (the first, to begin with) is left out; 0
            trains on all of them.

    Raises:
        ArgumentError: `hold_out` is 1 or negative.
        DataError: the data are missing, or something is wrong with them.
    """
    if hold_out < 0 or hold_out == 1:
        raise ArgumentError(f"hold_out is {hold_out}: give 0 for none, or 2 and more for every so many-th")
    path = home() / "datasets" if data_dir is None else expanded(data_dir)
    pictures, masks = _keyed(_sources(path, progress), path)
    keys = _checked(pictures, masks, path)
    examples = tuple(Example("/".join(key), key[0], key[2], key[1], key[2] != "good") for key in keys)
    places = []
    for key in keys:
        (files, name), (_, mask) = pictures[key], masks.get(key, (None, ""))
        places.append(Place(files, name, mask))
    categories = [category for category in CATEGORIES if any(key[0] == category for key in keys)]
    return Dataset(
        name=CARD.name,
        size=SIZE,
        channels=CARD.channels,
        paper_full_mask=False,
        examples=examples,
        splits={category: _split(examples, category, hold_out) for category in categories},
        records=InPlace(places, channels=CARD.channels),
        source=str(path),
        licence=CARD.licence,
        notes=tuple(_notes(examples, categories)),
    )


def _sources(path: Path, progress: Progress | None) -> Iterator[_Source]:
    """What there is at the path; of a category that lies in it twice, the folder, else the zip."""
    try:
        if path.is_file():
            yield _archive(path, progress)
            return
        if not path.is_dir():
            raise DataError(f"{path} does not exist: {CARD.how_to_get}")
        if (inner := path / ARCHIVE).is_dir():
            path = inner
        entries = sorted(path.iterdir())
        if any(entry.name.lower() == "train" for entry in entries):
            yield _Source(FolderFiles(path, "*/*/*"), path.name)
            return
        files = FolderFiles(path, "*/train/*/*", "*/test/*/*", "*/ground_truth/*/*")
        if files.names:
            yield _Source(files, "")
        found = {name.split("/")[0].lower() for name in files.names}
        for suffix in (".zip", ".tar.xz"):
            for entry in entries:
                stem = entry.name.lower().removesuffix(suffix)
                if entry.name.lower().endswith(suffix) and (stem in CATEGORIES.keys() - found):
                    found.add(stem)
                    yield _archive(entry, progress)
        for whole in (path / f"{ARCHIVE}.zip", path / f"{ARCHIVE}.tar.xz"):
            if not found and whole.is_file():
                yield _archive(whole, progress)
                return
    except OSError as error:
        raise unreadable(path, error) from error


def _archive(path: Path, progress: Progress | None) -> _Source:
    if path.suffix.lower() == ".zip":
        return _Source(ZipFiles(path, _REMEDY), path.stem)
    folder = unpacked(path, CARD, remedy=_REMEDY, progress=progress)
    return _Source(FolderFiles(folder, "*/*/*", "*/*/*/*", "*/*/*/*/*"), path.name.split(".")[0])


def _keyed(
    sources: Iterator[_Source], path: Path
) -> tuple[dict[Key, tuple[Files, str]], dict[Key, tuple[Files, str]]]:
    """Pictures and masks by category, part, kind and stem, whatever their case."""
    pictures: dict[Key, tuple[Files, str]] = {}
    masks: dict[Key, tuple[Files, str]] = {}
    for source in sources:
        for name in source.files.names:
            *_, category, part, kind, file = "", "", source.category, *name.split("/")
            match = _FILE.fullmatch(file)
            part = part.lower()
            if match is None or part not in ("train", "test", "ground_truth"):
                continue  # a read-me, the licence
            if category.lower() not in CATEGORIES:
                raise DataError(
                    f"{path} has a category {category!r}, which MVTec AD hasn't ({', '.join(CATEGORIES)}): "
                    "rename or remove it; pictures of your own in this layout are --dataset folder"
                )
            kept, part = (masks, "test") if part == "ground_truth" else (pictures, part)
            stem = match["stem"] + (match["mask"] or "" if kept is pictures else "")
            key = (category.lower(), part, kind.lower(), stem.lower())
            other = kept.setdefault(key, (source.files, name))[1]
            if other != name:
                raise DataError(f"{path} has both {other} and {name}: remove one of them")
    return pictures, masks


def _checked(
    pictures: dict[Key, tuple[Files, str]], masks: dict[Key, tuple[Files, str]], path: Path
) -> list[Key]:
    """The keys in order, once each picture has the mask that it needs."""
    if not pictures:
        raise DataError(f"{path} holds no MVTec AD: {CARD.how_to_get}")
    for category, part, kind, stem in sorted(pictures.keys() | masks.keys()):
        key = (category, part, kind, stem)
        if part == "train" and kind != "good":
            name = pictures[key][1]
            raise DataError(f"{path} has {name}, but MVTec AD trains on good pictures alone: remove it")
        if key not in pictures:
            raise DataError(
                f"{path} has {masks[key][1]} but no picture {'/'.join(key)}: add it, or remove the mask"
            )
        if part == "test" and kind != "good" and key not in masks:
            wanted = f"{category}/ground_truth/{kind}/{stem}_mask.png"
            raise DataError(
                f"{path} has {pictures[key][1]} but no mask {wanted}: add it, or remove the picture"
            )
        if kind == "good" and key in masks:
            raise DataError(f"{path} has {masks[key][1]}, a mask of a good picture: remove it")
    return sorted(pictures, key=lambda key: (list(CATEGORIES).index(key[0]), key[1] == "test", *key[2:]))


def _split(examples: tuple[Example, ...], category: str, hold_out: int) -> Split:
    def of(part: str) -> tuple[int, ...]:
        return tuple(i for i, e in enumerate(examples) if (e.group, e.part) == (category, part))

    train = of("train")
    if hold_out:
        train = tuple(index for order, index in enumerate(train) if order % hold_out)
    return Split(category, train=train, test=of("test"))


def _notes(examples: tuple[Example, ...], categories: list[str]) -> Iterator[str]:
    missing = [category for category in CATEGORIES if category not in categories]
    if missing:
        yield (
            f"{len(categories)} of MVTec AD's 15 categories are here, missing are {', '.join(missing)}: "
            "a mean over those here is not the published one's"
        )
    counts = Counter((e.group, e.part, e.defective) for e in examples)
    kinds = (("train", False, "training"), ("test", False, "good test"), ("test", True, "defective test"))
    for category in categories:
        for (part, defective, what), published in zip(kinds, CATEGORIES[category], strict=True):
            found = counts[category, part, defective]
            if found != published:
                yield f"{category} has {found} {what} pictures where MVTec AD has {published}"
