"""Files of a folder or of a zip, read through one interface, and the search for them where a user points."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import IO, Protocol

from jaxsode.errors import DataError

PICTURES = ("png", "jpg", "jpeg", "bmp", "tif", "tiff")  # suffixes that a copy of published data may have

DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError)  # what reading may raise
_ENCRYPTED = 0x1  # of a zip's flags of a file
_SYSTEM = ("thumbs.db", "desktop.ini")


class Files(Protocol):
    """Files that belong together, by name (with "/")."""

    path: Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """All of a file."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """A file to be read from its start on, for one that should not be in memory whole."""
        ...

    def stamp(self, name: str) -> str:
        """What changes with a file's content and can be told without reading it."""
        ...


class FolderFiles:
    """The files of a folder whose names match a pattern, a level at a time ("kos*/*").

    The pattern is in lower case, and matches names in either. What operating systems leave behind is passed
    over: see `is_leftover`.

    Raises:
        DataError: a folder can't be listed. (`Path.glob` would pass over it in silence.)
    """

    def __init__(self, path: Path, *patterns: str):
        self.path = path
        found = {name for pattern in patterns for name in _matching(path, "", pattern.split("/"))}
        self.names = tuple(sorted(found))

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise unreadable(self.path / name, error) from error

    def open(self, name: str) -> IO[bytes]:
        try:
            return (self.path / name).open("rb")
        except OSError as error:
            raise unreadable(self.path / name, error) from error

    def stamp(self, name: str) -> str:
        return stamp(self.path / name)


class ZipFiles:
    """The files of a zip, without unpacking it. Back-slashes in their names are read as slashes."""

    def __init__(self, path: Path, remedy: str):
        self.path, self.remedy = path, remedy
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} is cut short or not a zip file: {remedy}") from error
        infos = self._zip.infolist()
        if any(info.flag_bits & _ENCRYPTED for info in infos):
            raise DataError(f"{path} asks for a password: unpack it yourself, and give the folder")
        named: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename.replace("\\", "/").removeprefix("./")
            other = named.setdefault(name, info)
            if (other.CRC, other.file_size) != (info.CRC, info.file_size) and not is_leftover(name):
                raise DataError(f"{path} holds two files {name}, which differ: {remedy}")
        files = {name: info for name, info in named.items() if not name.endswith("/")}
        self._infos = {name: info for name, info in files.items() if not is_leftover(name)}
        self.names = tuple(sorted(self._infos))
        self.leftovers = tuple(sorted(files.keys() - self._infos.keys()))

    def read(self, name: str) -> bytes:
        try:
            with self.open(name) as file:
                return file.read()
        except DAMAGED as error:
            raise DataError(f"{name} in {self.path} is damaged: {self.remedy} ({error})") from error

    def open(self, name: str) -> IO[bytes]:
        try:
            return self._zip.open(self._infos[name])
        except RuntimeError as error:  # a method that zipfile doesn't know, or whose module isn't there
            raise DataError(
                f"{self.path} is compressed by a method that can't be read here: unpack it yourself, and "
                f"give the folder ({error})"
            ) from error
        except DAMAGED as error:
            raise DataError(f"{name} in {self.path} is damaged: {self.remedy} ({error})") from error

    def stamp(self, name: str) -> str:
        info = self._infos[name]
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
        digest.update(f"{name}: {files.stamp(name)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def stamp(path: Path) -> str:
    """What changes with a file on the disk, without reading it.

    Raises:
        DataError: it can't be looked at.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    # what unpacks or copies may set the first date back; the second one it can't
    return f"{status.st_size} bytes of {status.st_mtime_ns}, {status.st_ctime_ns}"


def is_leftover(name: str) -> bool:
    """Whether a file is one that an operating system leaves behind: .DS_Store, ._x, __MACOSX/…, Thumbs.db."""
    parts = name.split("/")
    return any(_hidden(part) or part == "__MACOSX" for part in parts) or parts[-1].lower() in _SYSTEM


def _hidden(name: str) -> bool:
    return name.startswith(".") and name not in (".", "..")


def find(path: Path, *, title: str, patterns: Sequence[str], homepage: str, inside: str) -> Files:
    """A data set that is published as one zip: that, the unpacked folder, or a folder that holds either.

    Args:
        path: where the user says that it is.
        title: of the data set, and the stem of its zip and of the folder in it.
        patterns: of its files, as `FolderFiles` takes them.
        homepage: where it is published.
        inside: what its folder holds, for the message.

    Raises:
        DataError: nothing of it is there, or it can't be read.
    """
    remedy = f"get {title}.zip again from {homepage}"
    try:
        if path.is_file():
            return ZipFiles(path, remedy)
        for folder in (path, path / title):
            if folder.is_dir() and (files := FolderFiles(folder, *patterns)).names:
                return files
        if (path / f"{title}.zip").is_file():
            return ZipFiles(path / f"{title}.zip", remedy)
        what = f"holds no {title}" if path.is_dir() else "does not exist"
    except OSError as error:  # of a folder above that may not be entered
        raise unreadable(path, error) from error
    raise DataError(
        f"{path} {what}: get {title}.zip from {homepage} and give its path, or the folder it is unpacked "
        f"in (with {inside}), as --data-dir"
    )


def _matching(folder: Path, prefix: str, patterns: list[str]) -> Iterator[str]:
    """Names of the files, with `prefix` before each."""
    here, *below = patterns
    try:
        with os.scandir(folder) as entries:
            found = [e for e in entries if fnmatchcase(e.name.lower(), here) and not is_leftover(e.name)]
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
