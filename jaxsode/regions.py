"""The regions of a picture that are above a threshold: where they lie, how large they are."""

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from scipy import ndimage

from jaxsode.preparation import Placing


@dataclass(frozen=True)
class Region:
    """8-connected pixels above a threshold.

    Attributes:
        x, y: of the box's left upper corner, in pixels.
        width, height: of the box, in pixels.
        area: how many pixels are above.
        score: the highest distance among them.
    """

    x: int
    y: int
    width: int
    height: int
    area: int
    score: float


def regions(anomaly_map: np.ndarray, threshold: float) -> list[Region]:
    """Those of a map, the highest first.

    Args:
        anomaly_map: (height, width) distances; NaN is above nothing.
        threshold: what is greater is above.
    """
    above = np.nan_to_num(anomaly_map, nan=-np.inf) > threshold
    labels, number = cast("tuple[np.ndarray, int]", ndimage.label(above, np.ones((3, 3))))
    if not number:
        return []
    index = np.arange(1, number + 1)
    areas = ndimage.sum_labels(above, labels, index)
    highest = ndimage.maximum(np.where(above, anomaly_map, -np.inf), labels, index)
    found = [
        Region(
            x=int(columns.start),
            y=int(rows.start),
            width=int(columns.stop - columns.start),
            height=int(rows.stop - rows.start),
            area=int(area),
            score=float(score),
        )
        for (rows, columns), area, score in zip(ndimage.find_objects(labels), areas, highest, strict=True)
    ]
    return sorted(found, key=lambda region: -region.score)


def on_original(region: Region, placing: Placing) -> Region:
    """A region of a resized picture in the original's pixels.

    Args:
        region: of the resized picture.
        placing: where the original's pixels lie in it.

    Returns:
        The smallest box of whole pixels that holds it; the area rounded to whole pixels, at least one.
    """
    top, left = placing.inside[:2]
    y, x = placing.box[:2]
    down, along = _scales(placing)
    rows = _span(region.y - top, region.height, down, y, placing.original[0])
    columns = _span(region.x - left, region.width, along, x, placing.original[1])
    return replace(
        region,
        x=columns[0],
        y=rows[0],
        width=columns[1] - columns[0],
        height=rows[1] - rows[0],
        area=max(round(region.area * down * along), 1),
    )


def mask_on_original(anomaly_map: np.ndarray, threshold: float, placing: Placing) -> np.ndarray:
    """What is above a threshold, at the original's size: each pixel as the one that it became part of.

    Where the original is the smaller one, a pixel of several of the map's is marked where any is: what is
    above is never lost.

    Args:
        anomaly_map: (height, width) of the resized picture.
        threshold: what is greater is above.
        placing: where the original's pixels lie in it.

    Returns:
        (height, width) bool of the original; False where it was cropped away.
    """
    above = np.nan_to_num(anomaly_map, nan=-np.inf) > threshold
    top, left, bottom, right = placing.inside
    y, x, y_end, x_end = placing.box
    down, along = _scales(placing)
    rows = np.clip(top + (np.arange(y_end - y) + 0.5) / down, top, bottom - 1).astype(int)
    columns = np.clip(left + (np.arange(x_end - x) + 0.5) / along, left, right - 1).astype(int)
    out = np.zeros(placing.original, bool)
    out[y:y_end, x:x_end] = above[rows][:, columns]
    marked, at = np.nonzero(above[top:bottom, left:right])
    out[_middles(marked, down, y, y_end), _middles(at, along, x, x_end)] = True
    return out


def _scales(placing: Placing) -> tuple[float, float]:
    """The original's pixels for each of the resized picture's, down and along."""
    top, left, bottom, right = placing.inside
    y, x, y_end, x_end = placing.box
    return (y_end - y) / (bottom - top), (x_end - x) / (right - left)


def _middles(places: np.ndarray, scale: float, start: int, end: int) -> np.ndarray:
    return np.clip(start + (places + 0.5) * scale, start, end - 1).astype(int)


def _span(start: int, length: int, scale: float, offset: int, most: int) -> tuple[int, int]:
    first = min(max(offset + math.floor(start * scale), 0), most - 1)
    return first, min(max(offset + math.ceil((start + length) * scale), first + 1), most)
