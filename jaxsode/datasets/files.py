"""Files of a folder or of a zip, read through one interface."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from jaxsode.errors import DataError

_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError)
_ENCRYPTED = 0x1  # of a zip's flags of a file


class Files(Protocol):
    """Files that belong together, by name (with "/")."""

    path: Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """All of a file."""
        ...

    def stamp(self, name: str) -> str:
        """What changes with a file's content and can be told without reading it."""
        ...


class FolderFiles:
    """The files of a folder whose names match a pattern, a level at a time ("kos*/*").

    Raises:
        DataError: a folder can't be listed. (`Path.glob` would pass over it in silence.)
    """

    def __init__(self, path: Path, pattern: str):
        self.path = path
        self.names = tuple(sorted(_matching(path, "", pattern.split("/"))))

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise unreadable(self.path / name, error) from error

    def stamp(self, name: str) -> str:
        try:
            status = (self.path / name).stat()
        except OSError as error:
            raise unreadable(self.path / name, error) from error
        # what unpacks or copies may set the first date back; the second one it can't
        return f"{status.st_size} bytes of {status.st_mtime_ns}, {status.st_ctime_ns}"


class ZipFiles:
    """The files of a zip, without unpacking it."""

    def __init__(self, path: Path, remedy: str):
        self.path, self.remedy = path, remedy
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} is cut short or not a zip file: {remedy}") from error
        infos = self._zip.infolist()
        if any(info.flag_bits & _ENCRYPTED for info in infos):
            raise DataError(f"{path} asks for a password: unpack it yourself, and give the folder")
        self.names = tuple(sorted(info.filename for info in infos if not info.is_dir()))

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except RuntimeError as error:  # a method that zipfile doesn't know, or whose module isn't there
            raise DataError(
                f"{self.path} is compressed by a method that can't be read here: unpack it yourself, and "
                f"give the folder ({error})"
            ) from error
        except _DAMAGED as error:
            raise DataError(f"{name} in {self.path} is damaged: {self.remedy} ({error})") from error

    def stamp(self, name: str) -> str:
        info = self._zip.getinfo(name)
        return f"{info.file_size} bytes of CRC {info.CRC}"


def fingerprint(files: Files, names: Iterable[str], *, decided: object) -> str:
    """A digest of what prepared data are made from, without reading the pictures.

    Of a folder's files it has sizes and dates, so that a copy counts as another; of a zip's their sizes and
    the checksums that the zip holds. It doesn't depend on where the files lie.

    Args:
        files: where the data set lies.
        names: the files of it that are used.
        decided: what the code adds to them (a list of folds); its `repr` counts.
    """
    digest = sha256(f"{decided!r}\n".encode())
    for name in names:
        digest.update(f"{name}: {files.stamp(name)}\n".encode())
    return digest.hexdigest()[:16]


def _matching(folder: Path, prefix: str, patterns: list[str]) -> Iterator[str]:
    """Names of the files, with `prefix` before each."""
    here, *below = patterns
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if fnmatchcase(entry.name, here)]
        wanted = [entry for entry in found if (entry.is_dir() if below else entry.is_file())]
    except OSError as error:
        raise unreadable(folder, error) from error
    for entry in wanted:
        if below:
            yield from _matching(folder / entry.name, f"{prefix}{entry.name}/", below)
        else:
            yield prefix + entry.name


def unreadable(path: Path, error: OSError) -> DataError:
    """The error of a file or folder that is there but can't be read."""
    return DataError(f"can't read {path}: mend or replace it ({error.strerror})")
