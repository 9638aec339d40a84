"""Data sets whose owners offer a direct link, downloaded to where `load` looks for them."""

import hashlib
from pathlib import Path

from jaxsode.download import Progress, download
from jaxsode.errors import ArgumentError, DataError, OutputError
from jaxsode.home import home

from .dataset import Archive, Card
from .registry import card


def announcement(name: str) -> str:
    """What is to be said before a data set is downloaded: what comes from where, under which licence.

    Args:
        name: of the data set.

    Raises:
        ArgumentError: there is no such data set, or nothing to download, with what to do instead.
    """
    known, archive = _downloadable(name)
    return (
        f"{archive.file}, {archive.size / 1e6:.0f} MB, from {archive.url} into {_folder()}; "
        f"{known.homepage}; licence: {known.licence}"
    )


def fetch(name: str, *, progress: Progress | None = None, timeout: float = 30.0) -> Path:
    """Downloads a data set's archive into $JAXSODE_HOME/datasets, unless it is there.

    A download that was cut is resumed by the next call. Where nobody has told the archive's SHA-256, that of
    the first download is written beside it, and a later one must have the same.

    Args:
        name: of the data set.
        progress: called with the bytes that are here, and with all of them.
        timeout: seconds without a byte before giving up.

    Returns:
        The archive's path.

    Raises:
        ArgumentError: there is no such data set, or nothing to download, with what to do instead.
        DownloadError: the server can't be reached, the connection was cut, or the checksum is wrong.
        DataError: another file of that name is there.
        OutputError: the file can't be written.
    """
    known, archive = _downloadable(name)
    target = _folder() / archive.file
    note = target.with_name(f"{target.name}.sha256")
    try:
        expected = archive.sha256 or (note.read_text(encoding="utf-8").strip() if note.exists() else "")
        if target.exists():
            if expected and _sha256(target) != expected:
                raise DataError(
                    f"{target} is not the file that {known.homepage} publishes, or damaged: remove it, and "
                    "it is downloaded again"
                )
            return target
        by_hand = f"give its path as --data-dir (see {known.homepage})"
        digest = download(
            archive.url, target, by_hand=by_hand, sha256=expected, progress=progress, timeout=timeout
        )
        if not expected:
            note.write_text(f"{digest}\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"can't use {target}: {error.strerror}; set JAXSODE_HOME elsewhere") from error
    return target


def _folder() -> Path:
    return home() / "datasets"


def _downloadable(name: str) -> tuple[Card, Archive]:
    known = card(name)
    if known.archive is None:
        instead = known.how_to_get or "it needs no download: leave --download out"
        raise ArgumentError(f"{name} can't be downloaded from here: {instead}")
    return known, known.archive


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
