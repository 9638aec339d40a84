"""KolektorSDD2: 3,335 colour pictures of a production item, 356 of them defective, in the published split.

Published by Kolektor Group and ViCoS Lab, Ljubljana (Božič et al., Computers in Industry 2021), under
CC BY-NC-SA 4.0. Its good training pictures are trained on; which ones are good, their masks tell.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jaxsode.errors import DataError
from jaxsode.home import expanded, home

from .dataset import Archive, Card, Dataset, Example, Progress, Record, Split
from .files import PICTURES, Files, find, fingerprint
from .pairs import paired, read_pair
from .prepared import in_parallel, prepared

HOMEPAGE = "https://www.vicos.si/resources/kolektorsdd2/"
CARD = Card(
    name="kolektor2",
    channels=3,
    description="KolektorSDD2: 3,335 colour pictures of a production item, 356 of them defective.",
    homepage=HOMEPAGE,
    licence="CC BY-NC-SA 4.0, Kolektor Group and ViCoS Lab, Ljubljana: no commercial use",
    archive=Archive(
        file="KolektorSDD2.zip",
        url="https://go.vicos.si/kolektorsdd2",
        size=853_126_555,
        sha256="edcdb486809b24f1d17b785e30c52fafc5999554dd5fe18ddf77b61ceb6f36a8",
    ),
)
SIZE = (704, 256)
SPLIT = "published"

# As published: good and defective pictures.
COMPLETE = {"train": (2085, 246), "test": (894, 110)}

_NAME = re.compile(rf"(?P<number>\d+)(?P<label>_GT)?\.({'|'.join(PICTURES)})", re.IGNORECASE)
_COPY = re.compile(r"\d+(_GT)? \(copy\)\..+", re.IGNORECASE)  # the archive has 10301 twice

Pair = tuple[str, str, str, str]  # part, number, the picture's file, the mask's file


def load(*, data_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
    """KolektorSDD2.

    Args:
        data_dir: the published zip, the unpacked folder, or a folder that holds either; by default
            $JAXSODE_HOME/datasets. It is only read.
        progress: called while the pictures are checked, the first time.

    Raises:
        DataError: the data are missing, or something is wrong with them.
    """
    files = find(
        home() / "datasets" if data_dir is None else expanded(data_dir),
        title="KolektorSDD2",
        patterns=("train/*", "test/*"),
        homepage=HOMEPAGE,
        inside="train and test",
    )
    pairs = _pairs(files)
    key = fingerprint(files, (name for _, _, *both in pairs for name in both), decided=SPLIT)
    examples, records = prepared(CARD, key, lambda: _records(files, pairs, progress))
    return Dataset(
        name=CARD.name,
        size=SIZE,
        channels=CARD.channels,
        paper_full_mask=False,
        examples=examples,
        splits={
            SPLIT: Split(
                SPLIT,
                train=tuple(i for i, e in enumerate(examples) if e.part == "train" and not e.defective),
                test=tuple(i for i, e in enumerate(examples) if e.part == "test"),
            )
        },
        records=records,
        source=str(files.path),
        licence=CARD.licence,
        notes=tuple(_notes(examples)),
    )


def _pairs(files: Files) -> list[Pair]:
    """Every picture with its mask, training pictures first, by number."""
    pairs = paired(files, _found(files), wanted=_published)
    if not pairs:
        raise DataError(
            f"{files.path} holds no pictures train/NNNNN.png and test/NNNNN.png: get the data set "
            f"from {HOMEPAGE}"
        )
    ordered = sorted(pairs, key=lambda key: (key[0] == "test", int(key[1])))
    return [(*key, *pairs[key]) for key in ordered]


def _found(files: Files) -> Iterator[tuple[tuple[str, str], bool, str]]:
    for name in files.names:
        *_, part, file = "", *name.split("/")
        part = part.lower()
        if part not in COMPLETE or _COPY.fullmatch(file):
            continue
        match = _NAME.fullmatch(file)
        if match is not None:
            yield (part, match["number"]), bool(match["label"]), name
        elif file.lower().endswith(PICTURES):  # and not a read-me
            raise DataError(f"{files.path} has {name}, which KolektorSDD2 hasn't: rename or remove it")


def _published(key: tuple[str, str], is_mask: bool) -> str:
    return "/".join(key) + ("_GT.png" if is_mask else ".png")


def _records(files: Files, pairs: list[Pair], progress: Progress | None) -> Iterator[Record]:
    def record(pair: Pair) -> Record:
        part, number, *names = pair
        picture, mask, defective = read_pair(files, *names, channels=CARD.channels)
        kind = "defect" if defective else "good"
        return Record(Example(f"{part}/{number}", SPLIT, kind, part, defective), picture, mask)

    return in_parallel(record, pairs, progress)


def _notes(examples: tuple[Example, ...]) -> Iterator[str]:
    counts = Counter((e.part, e.defective) for e in examples)
    for part, published in COMPLETE.items():
        for defective, wanted in zip((False, True), published, strict=True):
            found = counts[part, defective]
            if found != wanted:
                what = f"{'defective' if defective else 'good'} {part} pictures"
                yield f"{found} {what} are here where KolektorSDD2 has {wanted}"
