"""The five numbers of a split, their mean and deviation over splits, and the terminal's table of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

METRICS = ("pixel_auroc.pooled", "pixel_auroc.paper", "pro.pooled", "pro.paper", "image_auroc")
HEADINGS = ("pixel ROC\npooled", "pixel ROC\npaper", "PRO\npooled", "PRO\npaper", "picture\nROC")
"""Of METRICS, in a table."""


def flatten(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The five metrics of `jaxsode.metrics.evaluate` by dotted name, as METRICS lists them."""
    return {
        "pixel_auroc.pooled": metrics["pixel_auroc"]["pooled"],
        "pixel_auroc.paper": metrics["pixel_auroc"]["paper"],
        "pro.pooled": metrics["pro"]["pooled"],
        "pro.paper": metrics["pro"]["paper"],
        "image_auroc": metrics["image_auroc"],
    }


def summarise(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (of the sample, as the paper's ±) of each metric over the folds.

    Args:
        folds: the metrics of each fold, as `jaxsode.metrics.evaluate` gives them.

    Returns:
        {"mean": …, "std": …}, each of them nested as a fold's metrics are. None where a fold has no such
        metric, and for the deviation of a single fold.
    """
    rows = [flatten(fold) for fold in folds]
    columns = {name: [row[name] for row in rows] for name in METRICS}
    known = {name: [v for v in values if v is not None] for name, values in columns.items()}
    complete = {name: len(values) == len(rows) for name, values in known.items()}
    mean = {n: float(np.mean(v)) if complete[n] else None for n, v in known.items()}
    std = {n: float(np.std(v, ddof=1)) if complete[n] and len(v) > 1 else None for n, v in known.items()}
    return {"mean": _nested(mean), "std": _nested(std)}


def _nested(flat: Mapping[str, float | None]) -> dict[str, Any]:
    """What `flatten` made flat."""
    made: dict[str, Any] = {}
    for name, value in flat.items():
        metric, _, average = name.partition(".")
        if average:
            made.setdefault(metric, {})[average] = value
        else:
            made[metric] = value
    return made


def table(title: str, rows: Sequence[tuple[str, Mapping[str, float | None]]]) -> Any:
    """The terminal's table of metrics.

    Args:
        title: above it.
        rows: label, and values by metric; None is printed as a dash.

    Returns:
        A rich table.
    """
    from rich.table import Table

    made = Table(title=title, title_justify="left")
    made.add_column("", overflow="fold")
    for heading in HEADINGS:
        made.add_column(heading, justify="right", no_wrap=True)
    for label, values in rows:
        made.add_row(label, *("–" if values[name] is None else f"{values[name]:.4f}" for name in METRICS))
    return made
