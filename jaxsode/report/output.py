"""An output folder, whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxsode.errors import OutputError


def check_output(folder: Path) -> None:
    """Refuse a folder that holds something, or a path that can't be a folder.

    Raises:
        OutputError: naming it.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"--output {folder} is a file: choose a new or an empty folder")
        if folder.is_dir() and any(folder.iterdir()):
            raise OutputError(f"--output {folder} holds something already: choose a new or an empty folder")
    except OSError as error:
        raise OutputError(f"--output {folder} can't be read ({error.strerror}): choose another") from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into whose content gets its final name when the block ends well, and goes if not.

    Args:
        folder: the final name; new, or an empty folder, which stays the same one: it may be someone's working
            folder, a link or a mount point.

    Yields:
        The folder to write into: beside it if it is new, else within.

    Raises:
        OutputError: it can't be made, the disk is full, or something was put into `folder` meanwhile; in this
            last case what was written is kept, and it is said where.
    """
    folder = folder.resolve()
    beside = not folder.exists()
    partial = (folder.parent if beside else folder) / f".{folder.name}.partial-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"--output {folder} can't be written ({error.strerror}): choose another") from error
    try:
        yield partial
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"--output {folder}: {error.strerror}: make room, or choose another") from error
        raise
    try:
        _give_name(partial, folder, beside=beside)
    except OSError as error:
        raise OutputError(
            f"--output {folder} was taken meanwhile ({error.strerror}): the results are in {partial}"
        ) from error


def _give_name(partial: Path, folder: Path, *, beside: bool) -> None:
    if beside:
        partial.rename(folder)
        return
    if len(list(folder.iterdir())) > 1:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
    for child in sorted(partial.iterdir()):
        child.rename(folder / child.name)
    partial.rmdir()


def write_json(path: Path, content: Any) -> None:
    """Write JSON, making the folder; a number that is not finite is an error, not `NaN`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
