"""What lies in a folder, however deep, and what of it is passed over, with the reason."""

import errno
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxsode.errors import DataError

from .files import FolderFiles, ZipFiles, stamp

_SYSTEM = frozenset({"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "lost+found"})

HIDDEN, LEFTOVER = "hidden", "left by an operating system"
LINKED, SPECIAL = "a link to a folder, which is not followed", "neither a file nor a folder"


@dataclass(frozen=True)
class Listing:
    """Files by name, with "/", in the order of their paths.

    Attributes:
        names: of files and of links to nothing.
        skipped: names of what is passed over, and why; of a folder its own name alone.
    """

    names: tuple[str, ...]
    skipped: Mapping[str, str]


def listed(folder: Path) -> Listing:
    """List a folder and the folders in it. Links to folders are not followed.

    Args:
        folder: where.

    Raises:
        DataError: it, or a folder in it, can't be listed.
    """
    names: list[str] = []
    skipped: dict[str, str] = {}
    below = [""]
    while below:
        here = below.pop()
        try:
            with os.scandir(folder / here) as entries:
                for entry in entries:
                    name = f"{here}{entry.name}"
                    if (reason := passed_over(entry.name)) is not None:
                        skipped[name] = reason
                    elif _is_dir(entry):
                        if entry.is_symlink():
                            skipped[name] = LINKED
                        else:
                            below.append(f"{name}/")
                    elif (entry.is_symlink() and not os.path.exists(entry)) or entry.is_file():
                        names.append(name)
                    else:
                        skipped[name] = SPECIAL
        except OSError as error:
            raise DataError(
                f"can't list {shown(str(folder / here))}: name a folder of pictures ({error.strerror})"
            ) from error
    return Listing(tuple(sorted(names, key=lambda name: name.split("/"))), skipped)


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    """Of a link, whether it leads to a folder; one that leads round in a circle leads nowhere."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def passed_over(name: str) -> str | None:
    """Why a file or folder of this name, without its path, is no concern of ours; None if it may be one."""
    if name.startswith("."):
        return HIDDEN
    return LEFTOVER if name.lower() in _SYSTEM else None


def shown(name: str) -> str:
    """A name as it can be printed and stored: on one line, and what is not UTF-8 as \\xNN.

    Args:
        name: as Python gives it, undecodable bytes as surrogates.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in name)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


class TreeFiles(FolderFiles):
    """The files of a folder and of the folders in it, `skipped` being what is passed over."""

    def __init__(self, path: Path):
        self.path = path
        listing = listed(path)
        self.names, self.skipped = listing.names, listing.skipped

    def read(self, name: str) -> bytes:
        return read_file(self.path / name)

    def stamp(self, name: str) -> str:
        try:
            return stamp(self.path / name)
        except DataError as error:
            return str(error)  # what is wrong with it is said when it is read


class UnpackedFiles(ZipFiles):
    """A zip's files by their names within the one folder that it holds, if it holds but one; `skipped` being
    what is passed over.

    Args:
        path: of the zip.
        telling: names of folders that say what is in them: such a one is the folder only where it holds more.
    """

    def __init__(self, path: Path, *, telling: Collection[str] = ()):
        super().__init__(path, "pack it again, or give the folder")
        tops = {top for name in self.names if passed_over(top := name.split("/")[0]) is None}
        self._top = f"{tops.pop()}/" if len(tops) == 1 and all("/" in name for name in self.names) else ""
        inner = {name.removeprefix(self._top).split("/")[0].lower() for name in self.names}
        if self._top[:-1].lower() in telling and not inner & {"good", "train"}:
            self._top = ""
        own = (name.removeprefix(self._top) for name in self.names if name.startswith(self._top))
        self.names = tuple(sorted(own, key=lambda name: name.split("/")))
        self.skipped = dict(map(_passed, self.leftovers))

    def read(self, name: str) -> bytes:
        return super().read(self._top + name)

    def stamp(self, name: str) -> str:
        return super().stamp(self._top + name)


def _passed(name: str) -> tuple[str, str]:
    """The file, or the folder of it, that is passed over, and why."""
    parts = name.split("/")
    for depth, part in enumerate(parts, start=1):
        if (reason := passed_over(part)) is not None:
            return "/".join(parts[:depth]), reason
    return name, LEFTOVER


def read_file(path: Path) -> bytes:
    """All of a file.

    Args:
        path: of it.

    Raises:
        DataError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        what = "a link to nothing" if path.is_symlink() and not path.exists() else error.strerror
        raise DataError(f"can't read {shown(str(path))}: mend or remove it ({what})") from error
