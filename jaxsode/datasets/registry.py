"""Data sets by name."""

from importlib import import_module
from pathlib import Path
from typing import Any

from jaxsode.errors import ArgumentError

from .dataset import Card, Dataset, Progress

# The module of each, whose `load(*, data_dir, progress)` gives it, and whose CARD says what it is. `load` may
# take settings of its own by name, which stand under [data] in its TOML.
DATASETS = {
    "demo": "jaxsode.datasets.demo.dataset",
    "kolektor": "jaxsode.datasets.kolektor",
    "kolektor2": "jaxsode.datasets.kolektor2",
    "mstc": "jaxsode.datasets.mstc",
    "mvtec_ad": "jaxsode.datasets.mvtec_ad",
    "folder": "jaxsode.datasets.folder",
}
NAMES = tuple(DATASETS)


def check_name(name: str) -> None:
    """Raise an ArgumentError if there is no data set of this name."""
    if name not in DATASETS:
        raise ArgumentError(f"there is no data set {name!r}: choose one of {', '.join(DATASETS)}")


def card(name: str) -> Card:
    """What is said of a data set.

    Args:
        name: one of NAMES.

    Raises:
        ArgumentError: there is no such data set.
    """
    check_name(name)
    return import_module(DATASETS[name]).CARD


def load(
    name: str, *, data_dir: str | Path | None = None, progress: Progress | None = None, **settings: Any
) -> Dataset:
    """A data set, prepared in the cache folder ($JAXSODE_HOME) the first time and read from there after.

    Args:
        name: one of NAMES.
        data_dir: where its files are, `~` being the home folder; what is accepted depends on the data set.
            Nothing is written there.
        progress: called with (done, total) while the data set is prepared.
        settings: the data set's own, such as `hold_out` of mvtec_ad: see its module.

    Raises:
        ArgumentError: there is no such data set, or the path is none.
        DataError: its files are missing, or something is wrong with them.
    """
    check_name(name)
    return import_module(DATASETS[name]).load(data_dir=data_dir, progress=progress, **settings)
