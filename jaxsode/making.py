"""A folder in the making: beside the one that it becomes, locked by the process that makes it.

What a killed process left has no lock, and so it can be told from one that is still being made, whatever the
process ids are: containers have the same ones again and again.
"""

import contextlib
import fcntl
import os
import re
import shutil
from pathlib import Path


def beside(path: Path, number: int) -> Path:
    """The name of a folder in the making.

    Args:
        path: what it is called when it is made.
        number: from 0 to 2³² − 1, drawn at random.
    """
    return path.parent / f".{path.name}.partial-{number:08x}"


def above(path: Path) -> list[Path]:
    """Make the folders above a path that are not there yet.

    Args:
        path: whatever is to be made below them.

    Returns:
        Those that were made, the deepest first.

    Raises:
        OSError: one can't be made; then none is left.
    """
    lacking: list[Path] = []
    for folder in path.parents:
        if folder.exists():
            break
        lacking.append(folder)
    made: list[Path] = []
    try:
        for folder in reversed(lacking):
            try:
                folder.mkdir()
            except FileExistsError:
                if not folder.is_dir():
                    raise
            else:
                made.insert(0, folder)
    except OSError:
        unmake(made)
        raise
    return made


def unmake(folders: list[Path]) -> None:
    """Remove folders that `above` made and that nothing lies in.

    Args:
        folders: the deepest first.
    """
    with contextlib.suppress(OSError):  # somebody else's are in it by now
        for folder in folders:
            folder.rmdir()


def locked(partial: Path) -> int:
    """Make a folder that is locked until the file descriptor is closed, or the process ends.

    Args:
        partial: the folder; the one above is there.

    Returns:
        The file descriptor.

    Raises:
        OSError: it can't be made.
    """
    while True:
        partial.mkdir()
        lock = os.open(partial, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks, on which nobody sweeps
            fcntl.flock(lock, fcntl.LOCK_EX)
        if partial.exists():
            return lock
        os.close(lock)  # swept before it was locked


def sweep(path: Path) -> None:
    """Remove what killed processes left of a folder in the making: nobody holds its lock.

    Args:
        path: the folder's name when it is made.
    """
    ours = re.compile(re.escape(f".{path.name}.partial-") + "[0-9a-f]{8}")
    try:
        left = [entry for entry in path.parent.iterdir() if ours.fullmatch(entry.name)]
    except OSError:
        return  # not made yet, or not ours to list
    for partial in left:
        with contextlib.suppress(OSError):
            lock = os.open(partial, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(partial, ignore_errors=True)
            finally:
                os.close(lock)
