"""Where jaxsode keeps what it makes once: weights, data sets, programs. Paths as users write them."""

import os
from pathlib import Path

from jaxsode.errors import ArgumentError


def home() -> Path:
    """The cache folder: $JAXSODE_HOME, or `jaxsode` in the user's cache directory. It may not exist yet.

    Raises:
        ArgumentError: the user has no home folder, as happens in containers.
    """
    if chosen := os.environ.get("JAXSODE_HOME"):
        return expanded(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxsode"
    except RuntimeError as error:
        raise ArgumentError(
            "this user has no home folder to keep weights and prepared data in: set JAXSODE_HOME to a folder "
            "where you may write"
        ) from error


def expanded(path: str | Path) -> Path:
    """A path whose leading ~ or ~NAME is that user's home folder, as a shell has it.

    Args:
        path: as it was given.

    Raises:
        ArgumentError: there is no such home folder, or it is no path at all.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"{path!r} is no path: give the path of a file or a folder")
    if "\0" in os.fspath(path):
        raise ArgumentError(f"{os.fspath(path)!r} is no path, for the NUL in it: give another one")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ArgumentError(
            f"{readable(path)}: no home folder is known for its ~: write the path out"
        ) from error


def readable(path: str | Path) -> str:
    r"""A path as text that can be printed and written anywhere.

    Args:
        path: bytes of a name that the locale can't decode are surrogates in it. They are taken as UTF-8; what
            isn't becomes \xNN.
    """
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
