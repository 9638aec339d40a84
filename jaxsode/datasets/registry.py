"""Data sets by name."""

from pathlib import Path

from jaxsode.errors import ArgumentError

from . import kolektor
from .dataset import Dataset, Progress
from .demo import dataset as demo

_LOADERS = {"demo": demo.load, "kolektor": kolektor.load}
NAMES = tuple(_LOADERS)


def load(name: str, *, data_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
    """A data set, prepared in the cache folder ($JAXSODE_HOME) the first time and read from there after.

    Args:
        name: one of NAMES.
        data_dir: where its files are; what is accepted depends on the data set. Nothing is written there.
        progress: called with (done, total) pictures while the data set is prepared.

    Raises:
        ArgumentError: there is no such data set.
        DataError: its files are missing, or something is wrong with them.
    """
    if name not in _LOADERS:
        raise ArgumentError(f"there is no data set {name!r}: choose one of {', '.join(NAMES)}")
    return _LOADERS[name](data_dir=data_dir, progress=progress)
