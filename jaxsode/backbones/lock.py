"""One at a time in a folder, whatever the process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxsode.errors import OutputError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process, and one thread of it, at a time: the next waits until the block of the one before ends.

    Args:
        folder: made if it is not there; nothing is written into it.

    Raises:
        OutputError: the folder can't be made, or not be locked, as on some network file systems.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"can't write {folder}: {error.strerror}; set JAXSODE_HOME elsewhere") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise OutputError(f"can't lock {folder}: {error.strerror}; set JAXSODE_HOME elsewhere") from error
        yield
    finally:
        os.close(handle)  # and with it the lock, also where a process is killed
