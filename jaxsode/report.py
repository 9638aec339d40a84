"""What a run leaves behind: heat maps, metrics.json, a table; and the colours they are drawn in."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from scipy import ndimage

from jaxsode.errors import OutputError

CLAMP = 10.0
"""Distances are drawn from 0 to this value, as in the paper; never rescaled from picture to picture."""

METRICS = ("pixel_auroc.pooled", "pixel_auroc.paper", "pro.pooled", "pro.paper", "image_auroc")

_GREEN = (0, 255, 0)
_GAP = 4


def jet(x: np.ndarray) -> np.ndarray:
    """The map of the paper's figures: blue, cyan, yellow, red.

    Args:
        x: (…) in [0, 1]; clamped.

    Returns:
        (…, 3) uint8.
    """
    x = np.clip(x, 0, 1)[..., None]
    centres = np.array([0.75, 0.5, 0.25])
    return _bytes(1.5 - 4 * np.abs(x - centres))


def cubehelix(x: np.ndarray) -> np.ndarray:
    """A perceptual map: brightness rises evenly from black to white while the hue turns (Green, 2011).

    Args:
        x: (…) in [0, 1]; clamped.

    Returns:
        (…, 3) uint8.
    """
    x = np.clip(x, 0, 1)[..., None]
    # Green's defaults: start 0.5, −1.5 rotations, hue 1; the rows turn his two axes into red, green, blue.
    angle = 2 * np.pi * (0.5 / 3 + 1 - 1.5 * x)
    amplitude = x * (1 - x) / 2
    cosine = np.array([-0.14861, -0.29227, 1.97294])
    sine = np.array([1.78277, -0.90649, 0.0])
    return _bytes(x + amplitude * (cosine * np.cos(angle) + sine * np.sin(angle)))


COLOUR_MAPS = {"jet": jet, "cubehelix": cubehelix}


def panel(
    picture: np.ndarray, anomaly_map: np.ndarray, mask: np.ndarray | None, *, colours: str = "jet"
) -> np.ndarray:
    """Picture, heat map, and the picture with the outline of the truth in green, side by side (Figure 5).

    Args:
        picture: (height, width, 3 or 1) uint8.
        anomaly_map: (height, width), in units of the Mahalanobis distance.
        mask: (height, width) uint8, a defect where above 127; None for a good picture.
        colours: one of COLOUR_MAPS.

    Returns:
        (height, 3 · width + 2 · gap, 3) uint8.
    """
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    heat = COLOUR_MAPS[colours](anomaly_map / CLAMP)
    outlined = picture.copy()
    if mask is not None:
        truth = mask > 127
        outlined[np.asarray(ndimage.binary_dilation(truth, np.ones((3, 3))), bool) & ~truth] = _GREEN
    tiles = np.pad(
        np.stack([picture, heat, outlined]), ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255
    )
    return rearrange(tiles, "tile h w c -> h (tile w) c")[:, :-_GAP]


def write_panel(path: Path, panel: np.ndarray) -> None:
    """Write a panel as PNG, making the folder."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(panel).save(path, compress_level=3)


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


def flatten(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """The five metrics of `jaxsode.metrics.evaluate` by dotted name, as METRICS lists them."""
    return {
        "pixel_auroc.pooled": metrics["pixel_auroc"]["pooled"],
        "pixel_auroc.paper": metrics["pixel_auroc"]["paper"],
        "pro.pooled": metrics["pro"]["pooled"],
        "pro.paper": metrics["pro"]["paper"],
        "image_auroc": metrics["image_auroc"],
    }


def summarise(folds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation (of the sample, as the paper's ±) of each metric over the folds.

    Args:
        folds: the metrics of each fold, as `jaxsode.metrics.evaluate` gives them.

    Returns:
        {"mean": {metric: value}, "std": {metric: value}}. None where a fold has no such metric, and for the
        deviation of a single fold.
    """
    rows = [flatten(fold) for fold in folds]
    columns = {name: [row[name] for row in rows] for name in METRICS}
    known = {name: [v for v in values if v is not None] for name, values in columns.items()}
    complete = {name: len(values) == len(rows) for name, values in known.items()}
    mean = {n: float(np.mean(v)) if complete[n] else None for n, v in known.items()}
    std = {n: float(np.std(v, ddof=1)) if complete[n] and len(v) > 1 else None for n, v in known.items()}
    return {"mean": mean, "std": std}


def write_json(path: Path, content: Any) -> None:
    """Write JSON, making the folder; a number that is not finite is an error, not `NaN`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


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
    made.add_column("", no_wrap=True)
    for heading in ("pixel ROC\npooled", "pixel ROC\npaper", "PRO\npooled", "PRO\npaper", "picture\nROC"):
        made.add_column(heading, justify="right")
    for label, values in rows:
        made.add_row(label, *("–" if values[name] is None else f"{values[name]:.4f}" for name in METRICS))
    return made


def _bytes(colour: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(colour, 0, 1)).astype(np.uint8)
