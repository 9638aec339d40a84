"""A detector's folder on the line: the saved detector, what it was fitted on, its threshold, its page.

It appears whole or not at all. One that is replaced lies under its name until the new one is whole; between
two renamings it is called `.NAME.before-…` beside it.
"""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from jaxsode import checkpoint, making
from jaxsode.calibration import FILE as CALIBRATION
from jaxsode.errors import ArgumentError, CheckpointError, DataError, OutputError
from jaxsode.home import expanded, readable
from jaxsode.report import read_json, write_json

FITTED = "fitted.json"
PAGE = "index.html"
SCHEMA = 1


@dataclass(frozen=True)
class Picture:
    """A picture that a detector was fitted on.

    Attributes:
        name: as its data set has it.
        sha256: of its file.
        group: it is left out together with those of the same one; "" for none but those like it.
    """

    name: str
    sha256: str
    group: str = ""


@dataclass(frozen=True)
class Fitted:
    """What a detector was fitted on.

    Attributes:
        pictures: in the order of the fit.
        excluded: those that were taken out by name.
        about: options, weights, versions, seconds, whatever else was recorded.
    """

    pictures: tuple[Picture, ...]
    excluded: tuple[Picture, ...]
    about: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Of a detector's folder.

        Args:
            folder: that `jaxsode fit` left.

        Raises:
            CheckpointError: it has none, or a damaged one.
        """
        page = read_json(folder / FITTED)
        if page is None:
            raise CheckpointError(
                f"{readable(folder)} doesn't say what it was fitted on: fit it by jaxsode fit (no {FITTED})"
            )
        try:
            pictures, excluded = (
                tuple(Picture(**each) for each in page.pop(name)) for name in ("pictures", "excluded")
            )
            if page.pop("schema") != SCHEMA:
                raise ValueError("another schema")
            return cls(pictures, excluded, page)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{readable(folder / FITTED)} is damaged: fit again ({error})") from error

    def write(self, folder: Path) -> None:
        """Beside the detector.

        Args:
            folder: the detector's.
        """
        lists = {"pictures": [vars(p) for p in self.pictures], "excluded": [vars(p) for p in self.excluded]}
        write_json(folder / FITTED, {"schema": SCHEMA, **lists, **self.about})

    def joined(self, other: "Fitted") -> "Fitted":
        """Of both, whose pictures are different ones.

        Args:
            other: of another fit.

        Raises:
            DataError: a picture is in both, byte for byte.
        """
        self.refuse(other.pictures)
        pictures = self.pictures + other.pictures
        inside = {picture.sha256 for picture in pictures}
        out = {picture.sha256: picture for picture in (*self.excluded, *other.excluded)}
        excluded = tuple(picture for sha256, picture in out.items() if sha256 not in inside)
        return replace(self, pictures=pictures, excluded=excluded)

    def refuse(self, pictures: Sequence[Picture], *, what: str = "give new ones") -> None:
        """Refuse pictures that were fitted on.

        Args:
            pictures: others.
            what: the remedy.

        Raises:
            DataError: one is among them, byte for byte.
        """
        known = {each.sha256: each.name for each in self.pictures}
        again = [each for each in pictures if each.sha256 in known]
        if again:
            first = again[0]
            more = "" if len(again) == 1 else f", and {len(again) - 1} more"
            raise DataError(
                f"{readable(first.name)} was fitted on already, as {readable(known[first.sha256])}{more}: "
                f"{what}"
            )


def digest(encoded: bytes) -> str:
    """The SHA-256 of a picture's file.

    Args:
        encoded: its bytes.
    """
    return hashlib.sha256(encoded).hexdigest()


def existing(path: Path) -> Path:
    """The folder of a detector that is there.

    Args:
        path: as it was given.

    Raises:
        CheckpointError: there is none; what a process left that ended while it replaced it is named.
    """
    folder = expanded(path)
    if folder.is_dir():
        return folder.resolve()
    left = sorted(folder.parent.glob(f".{folder.name}.before-*")) if folder.parent.is_dir() else []
    if left:
        raise CheckpointError(
            f"{readable(folder)} was being replaced when a process ended: it is {readable(left[-1])}, give "
            "it its name back"
        )
    raise CheckpointError(f"{readable(folder)} holds no detector: name a folder that jaxsode fit left")


@contextmanager
def made(path: Path, *, again: bool = False) -> Iterator[Path]:
    """A detector's folder in the making, which gets its name when the block ends well.

    Args:
        path: its name.
        again: whether it replaces the one of that name.

    Yields:
        The path to save a detector to, where nothing is yet; the rest goes beside it, into the same folder.

    Raises:
        OutputError: there is something of that name already, or it can't be written.
    """
    folder = expanded(path).resolve() if again else expanded(path)
    check_new(folder, again=again)
    made_above = making.above(folder)
    staging = making.beside(folder, secrets.randbits(32))
    lock = None
    try:
        making.sweep(folder)
        lock = making.locked(staging)
        yield staging / "new"
        before = None
        if again:
            before = folder.with_name(f".{folder.name}.before-{secrets.token_hex(4)}")
            os.rename(folder, before)
        try:
            os.rename(staging / "new", folder)
        except OSError:
            if before is not None:
                os.rename(before, folder)
            raise
        if before is not None:
            shutil.rmtree(before)
    except OSError as error:
        raise OutputError(f"{readable(folder)} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        if not folder.exists():
            making.unmake(made_above)


def check_new(path: Path, *, again: bool = False) -> None:
    """Refuse an output that is there already, before anything is computed.

    Args:
        path: of it.
        again: whether it is to be replaced.

    Raises:
        OutputError: it is there.
    """
    if not again and os.path.lexists(path):
        raise OutputError(f"{readable(path)} exists already: choose another --output, or remove it")


def check_ours(folder: Path) -> None:
    """Refuse to replace a folder that holds anything beside the detector, before anything is computed.

    Args:
        folder: of the detector.

    Raises:
        OutputError: it does.
    """
    saved = {Path(name).parts[0] for name in checkpoint.read_page(folder).get("files", {})}
    ours = saved | {checkpoint.PAGE, CALIBRATION, FITTED, PAGE}
    if strangers := sorted(entry.name for entry in folder.iterdir() if entry.name not in ours):
        raise OutputError(
            f"{readable(folder)} is to be replaced and holds {readable(strangers[0])}, which is none of the "
            "detector's: move it away"
        )


def grouped(pictures: Sequence[Picture]) -> list[int]:
    """Which pictures are left out together: those of a group, and those that are the same byte for byte.

    Args:
        pictures: in order.

    Returns:
        A number for each; equal ones go together.
    """
    number: list[int] = list(range(len(pictures)))

    def root(i: int) -> int:
        while number[i] != i:
            number[i] = number[number[i]]
            i = number[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i, picture in enumerate(pictures):
        for key in (("sha256", picture.sha256), ("group", picture.group)):
            if key[1]:
                number[root(i)] = root(first.setdefault(key, i))
    return [root(i) for i in range(len(pictures))]


def by_name(pictures: Sequence[Picture], names: Sequence[str], option: str) -> set[int]:
    """The places of pictures that were named, by their name or their file's.

    Args:
        pictures: all.
        names: with or without folder and suffix, as long as they tell.
        option: that named them, for the error.

    Raises:
        ArgumentError: a name that none has, or several have.
    """
    found = set()
    for name in names:
        wanted = str(Path(name).with_suffix(""))
        exact = [i for i, p in enumerate(pictures) if p.name in (name, wanted)]
        places = exact or [
            i for i, p in enumerate(pictures) if str(Path(p.name).with_suffix("")).endswith(f"/{wanted}")
        ]
        if len(places) != 1:
            how = "is none of" if not places else f"is {len(places)} of"
            example = readable(pictures[0].name) if pictures else "none"
            raise ArgumentError(
                f"{option} {readable(name)} {how} the {len(pictures)} pictures: name one as the page does, "
                f"such as {example}"
            )
        found.add(places[0])
    return found
