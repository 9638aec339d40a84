"""Data sets by name."""

from importlib import import_module
from pathlib import Path

from jaxsode.errors import ArgumentError

from .dataset import Dataset, Progress

# The module of each, whose `load(*, data_dir, progress)` gives it.
DATASETS = {
    "demo": "jaxsode.datasets.demo.dataset",
    "kolektor": "jaxsode.datasets.kolektor",
    "kolektor2": "jaxsode.datasets.kolektor2",
    "mstc": "jaxsode.datasets.mstc",
    "mvtec_ad": "jaxsode.datasets.mvtec_ad",
}
NAMES = tuple(DATASETS)


def check_name(name: str) -> None:
    """Raise an ArgumentError if there is no data set of this name."""
    if name not in DATASETS:
        raise ArgumentError(f"there is no data set {name!r}: choose one of {', '.join(DATASETS)}")


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
    check_name(name)
    return import_module(DATASETS[name]).load(data_dir=data_dir, progress=progress)
