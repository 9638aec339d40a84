"""Pictures and masks: data sets by name, and the input pipeline."""

from .dataset import Dataset, Example, Progress, Split
from .downloads import announcement, fetch
from .pipeline import Batch, batches
from .registry import NAMES, check_name, load

__all__ = [
    "NAMES",
    "Batch",
    "Dataset",
    "Example",
    "Progress",
    "Split",
    "announcement",
    "batches",
    "check_name",
    "fetch",
    "load",
]
