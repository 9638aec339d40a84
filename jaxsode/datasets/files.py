"""Files of a folder or of a zip, read through one interface."""

import zipfile
import zlib
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from jaxsode.errors import DataError

# what zipfile raises on reading: the last for a password, or a method of compression it doesn't know
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError)


class Files(Protocol):
    """Files that belong together, by name (with "/")."""

    path: Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """All of a file."""
        ...

    def checksum(self, name: str) -> tuple[int, int]:
        """A file's length and CRC-32."""
        ...


class FolderFiles:
    """The files in the subfolders of a folder whose names match a pattern ("kos*/*")."""

    def __init__(self, path: Path, pattern: str):
        self.path = path
        self.names = tuple(
            sorted(found.relative_to(path).as_posix() for found in path.glob(pattern) if found.is_file())
        )

    def read(self, name: str) -> bytes:
        path = self.path / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"can't read {path}: mend or replace it ({error.strerror})") from error

    def checksum(self, name: str) -> tuple[int, int]:
        content = self.read(name)
        return len(content), zlib.crc32(content)


class ZipFiles:
    """The files of a zip, without unpacking it."""

    def __init__(self, path: Path, remedy: str):
        self.path, self.remedy = path, remedy
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{path} is cut short or not a zip file: {remedy}") from error
        self.names = tuple(sorted(info.filename for info in self._zip.infolist() if not info.is_dir()))

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except _DAMAGED as error:
            raise DataError(f"{name} in {self.path} is damaged: {self.remedy} ({error})") from error

    def checksum(self, name: str) -> tuple[int, int]:
        info = self._zip.getinfo(name)
        return info.file_size, info.CRC


def fingerprint(files: Files, names: Iterable[tuple[str, str]]) -> str:
    """A digest of content: of (label, name of a file) pairs, each file's length and CRC-32.

    It doesn't depend on where the files lie, on their dates, or on whether they are zipped. A zip holds the
    checksums of its files; those of a folder are read for them.
    """
    digest = sha256()
    for label, name in names:
        digest.update(f"{label} {files.checksum(name)}\n".encode())
    return digest.hexdigest()[:16]
