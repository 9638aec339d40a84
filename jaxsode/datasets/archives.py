"""Compressed tar archives, which can't be read at random: unpacked once, into the cache."""

import lzma
import shutil
import tarfile
import zlib
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO

from jaxsode.errors import DataError

from .dataset import Card, Progress
from .files import is_leftover, stamp, unreadable
from .prepared import make_once, place

_DAMAGED = (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError)
_MEGABYTE = 1 << 20


def unpacked(archive: Path, card: Card, *, remedy: str, progress: Progress | None) -> Path:
    """The folder of the cache with the files of a `.tar.xz`, unpacked now unless it was before.

    Links and devices, and files that would lie outside of the folder, are refused.

    Args:
        archive: a tar file, compressed in any way that Python reads.
        card: of the data set, whose part of the cache it is kept in.
        remedy: what to do about a damaged one.
        progress: called with (done, total) megabytes of the archive.

    Raises:
        DataError: it is cut short, damaged or no archive of files alone, or the cache can't be written.
    """
    key = sha256(stamp(archive).encode()).hexdigest()[:16]
    folder = place(card, f"{key}-unpacked")

    def make(unfinished: Path) -> Path:
        into = unfinished / "files"
        into.mkdir()
        try:
            _unpack(archive, into, progress)
        except _DAMAGED as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{archive} is cut short or damaged: {remedy} ({reason})") from error
        return into

    make_once(folder, make)
    return folder


def _unpack(archive: Path, into: Path, progress: Progress | None) -> None:
    total = max(1, archive.stat().st_size // _MEGABYTE)
    with _opened(archive) as raw, tarfile.open(fileobj=raw, mode="r|*") as tar:
        for member in tar:
            if member.isdir() or is_leftover(member.name.removeprefix("./")):
                continue
            _copy(tar, member, into)
            if progress is not None:
                progress(min(total, raw.tell() // _MEGABYTE), total)


def _copy(tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    # Not `extract`, whose filters Python has from 3.11.4 on.
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise tarfile.ExtractError(f"{member.name} lies outside of the folder")
    found = tar.extractfile(member) if member.isfile() else None
    if found is None:
        raise tarfile.ExtractError(f"{member.name} is no plain file")
    target = into / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with found, target.open("wb") as file:
        shutil.copyfileobj(found, file, _MEGABYTE)


def _opened(archive: Path) -> IO[bytes]:
    try:
        return archive.open("rb")
    except OSError as error:
        raise unreadable(archive, error) from error
