"""KolektorSDD: 399 grey pictures of electrical commutators, 52 of them cracked, in three folds by unit.

Published by Kolektor Group and ViCoS Lab, Ljubljana (Tabernik et al., J. Intell. Manuf. 2020), under
CC BY-NC-SA 4.0. Each fold is tested on, and the good pictures of the other two are trained on.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from jaxsode.errors import DataError
from jaxsode.home import expanded, home

from .dataset import Archive, Card, Dataset, Example, Progress, Record, Split
from .files import Files, find, fingerprint
from .pairs import paired, read_pair
from .prepared import in_parallel, prepared

HOMEPAGE = "https://www.vicos.si/resources/kolektorsdd/"
CARD = Card(
    name="kolektor",
    channels=1,
    description="KolektorSDD: electrical commutators, 399 grey pictures of 50 units, 52 with cracks.",
    homepage=HOMEPAGE,
    licence="CC BY-NC-SA 4.0, Kolektor Group and ViCoS Lab, Ljubljana: no commercial use",
    archive=Archive(
        file="KolektorSDD.zip",
        url="https://go.vicos.si/kolektorsdd",
        size=101_831_129,
        sha256="65dc621693418585de9c4467d1340ea7958a6181816f0dc2883a1e8b61f9d4dc",
    ),
)
SIZE = (704, 256)

# The published split: the numbers of the units that each fold is tested on.
FOLDS = {
    "1": (2, 8, 9, 10, 15, 19, 21, 25, 27, 28, 30, 37, 38, 41, 43, 46, 47),
    "2": (1, 3, 4, 6, 11, 17, 22, 24, 29, 31, 32, 36, 39, 40, 42, 44, 48),
    "3": (5, 7, 12, 13, 14, 16, 18, 20, 23, 26, 33, 34, 35, 45, 49, 50),
}
COMPLETE = {f"kos{unit:02d}": 7 if unit == 21 else 8 for unit in range(1, 51)}  # pictures of each unit

_FOLD_OF_UNIT = {f"kos{unit:02d}": fold for fold, units in FOLDS.items() for unit in units}

_UNIT = re.compile(r"kos\d+")
_FILE = re.compile(r"Part(?P<part>\d+)(?P<label>_label)?\.(jpe?g|png|bmp|tiff?)", re.IGNORECASE)

Pair = tuple[str, int, str, str]  # unit, part, the picture's file, the mask's file


def load(*, data_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
    """KolektorSDD.

    Args:
        data_dir: the published zip, the unpacked folder, or a folder that holds either; by default
            $JAXSODE_HOME/datasets. It is only read.
        progress: called while the pictures are checked, the first time.

    Raises:
        DataError: the data are missing, not all of them are there, or something is wrong with them.
    """
    files = find(
        home() / "datasets" if data_dir is None else expanded(data_dir),
        title="KolektorSDD",
        patterns=("kos*/*",),
        homepage=HOMEPAGE,
        inside="kos01 … kos50",
    )
    pairs = _pairs(files)
    _check_complete(files, pairs)
    key = fingerprint(files, (name for _, _, *both in pairs for name in both), decided=FOLDS)
    examples, records = prepared(CARD, key, lambda: _records(files, pairs, progress))
    return Dataset(
        name=CARD.name,
        size=SIZE,
        channels=CARD.channels,
        paper_full_mask=True,
        examples=examples,
        splits={fold: _split(examples, fold) for fold in FOLDS},
        records=records,
        source=str(files.path),
        licence=CARD.licence,
    )


def _pairs(files: Files) -> list[Pair]:
    """Every picture with its mask, by unit and part."""
    pairs = paired(files, _found(files), wanted=_published)
    if not pairs:
        raise DataError(f"{files.path} holds no pictures kosNN/PartM.jpg: get the data set from {HOMEPAGE}")
    return [(*key, *names) for key, names in pairs.items()]


def _found(files: Files) -> Iterator[tuple[tuple[str, int], bool, str]]:
    for name in files.names:
        *_, unit, file = "", *name.split("/")
        unit = unit.lower()
        match = _FILE.fullmatch(file)
        if match is None or not _UNIT.fullmatch(unit):
            continue  # a read-me, or what an operating system leaves behind
        if unit not in _FOLD_OF_UNIT:
            raise DataError(
                f"{files.path} has a unit {unit}, which no fold of KolektorSDD (kos01 … kos50) has: remove it"
            )
        yield (unit, int(match["part"])), bool(match["label"]), name


def _published(key: tuple[str, int], is_mask: bool) -> str:
    return f"{key[0]}/Part{key[1]}" + ("_label.bmp" if is_mask else ".jpg")


def _check_complete(files: Files, pairs: list[Pair]) -> None:
    """The protocol is of all units: on some of them its numbers would be others, and look as good."""
    found = Counter(unit for unit, *_ in pairs)
    lacking = [
        f"{unit} ({found[unit]} of {wanted})" if found[unit] else unit
        for unit, wanted in COMPLETE.items()
        if found[unit] < wanted
    ]
    if lacking:
        named = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        raise DataError(
            f"{files.path} holds {len(pairs)} of KolektorSDD's {sum(COMPLETE.values())} pictures, missing "
            f"are those of {named}: get KolektorSDD.zip from {HOMEPAGE} and give it as it is, or unpack it "
            "again"
        )


def _records(files: Files, pairs: list[Pair], progress: Progress | None) -> Iterator[Record]:
    def record(pair: Pair) -> Record:
        unit, part, *names = pair
        picture, mask, defective = read_pair(files, *names, channels=CARD.channels)
        kind = "crack" if defective else "good"
        example = Example(f"{unit}/Part{part}", _FOLD_OF_UNIT[unit], kind, part="", defective=defective)
        return Record(example, picture, mask)

    return in_parallel(record, pairs, progress)


def _split(examples: tuple[Example, ...], fold: str) -> Split:
    return Split(
        fold,
        train=tuple(
            i for i, example in enumerate(examples) if example.group != fold and not example.defective
        ),
        test=tuple(i for i, example in enumerate(examples) if example.group == fold),
    )
