"""What each pixel weighs in the curve: ROC or PRO, pooled or as the paper averages.

| | `pooled` | `paper` |
| --- | --- | --- |
| negative | 1 | 1 / negatives of its picture |
| positive, ROC | 1 | 1 / positives of its picture |
| positive, PRO | 1 / pixels of its region | 1 / (pixels of its region × regions of its picture) |

So in `paper` each picture's negatives weigh 1 together, and so do its positives. A picture without positives
under the protocol has no true-positive rate: it counts for the false-positive rate alone, whether it is good
or its defect is too small to leave a pixel. A picture without negatives counts for the true-positive rate
alone.

The curve turns only at scores of positives; between two of them it is flat. So scores are reduced to levels:
with M distinct scores of positives, sorted, level 2j + 1 is the j-th of them exactly, and level 2j all that
lies between it and the one before. The curve over levels has the same area as the curve over pixels, without
the order and the weights of every negative. Beyond the maps this holds two vectors of a picture's size, and
about 200 bytes for each distinct score of a positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float64s = NDArray[np.float64]

EIGHT_CONNECTED = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Protocol:
    """Which pixels are defective, and whether pixels or pictures count alike."""

    lowest: int
    """The least value of a resized mask, 0…255, that counts as defective."""
    per_picture: bool
    """The sums of weights are one in each picture (`paper`), or free (`pooled`)."""


@dataclass(frozen=True)
class LevelWeights:
    """Sums of weights by level, each (2M + 1,) float64, lowest scores first."""

    negative: Float64s
    pixel: Float64s
    """Of positives, for ROC."""
    region: Float64s
    """Of positives, for PRO."""


def regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Regions connected by edges or corners: (height, width) bool → (labels from 1, 0 outside; how many)."""
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, structure=EIGHT_CONNECTED, output=labels)
    return labels, int(labels.max())


def level_weights(
    maps: NDArray[Any], masks: NDArray[np.uint8], protocols: Sequence[Protocol]
) -> list[LevelWeights]:
    """Weights by level under each protocol; the levels are common to all.

    Args:
        maps: (N, height, width), real, no NaN.
        masks: (N, height, width), 0…255.
        protocols: at least one.

    Returns:
        for each protocol the sums of weights; all 0 where a class has no pixel.
    """
    lowest = min(protocol.lowest for protocol in protocols)
    thresholds = np.unique(
        np.concatenate([scores[mask >= lowest] for scores, mask in zip(maps, masks, strict=True)])
    )
    sums = [LevelWeights(*np.zeros((3, 2 * thresholds.size + 1))) for _ in protocols]
    for scores, mask in zip(maps, masks, strict=True):
        levels = _levels(np.sort(scores, axis=None), thresholds)
        first = np.flatnonzero(np.diff(levels, prepend=-1))
        occupied, counts = levels[first], np.diff(first, append=levels.size)
        for protocol, weights in zip(protocols, sums, strict=True):
            positive = mask >= protocol.lowest
            order = np.argsort(scores[positive])
            at = _levels(scores[positive][order], thresholds)
            negatives = counts.copy()
            np.subtract.at(negatives, np.searchsorted(occupied, at), 1)
            if at.size < scores.size:
                share = scores.size - at.size if protocol.per_picture else 1
                weights.negative[occupied] += negatives / share
            if at.size:
                labels, number = regions(positive)
                region_of = labels[positive][order]
                in_region = np.bincount(region_of)[region_of]
                np.add.at(weights.pixel, at, 1 / (at.size if protocol.per_picture else 1))
                np.add.at(weights.region, at, 1 / (in_region * (number if protocol.per_picture else 1)))
    return sums


def _levels(scores: NDArray[Any], thresholds: NDArray[Any]) -> NDArray[np.intp]:
    """2j + 1 at the j-th threshold, 2j between it and the one before. Sorted scores are found much faster."""
    return np.searchsorted(thresholds, scores, "left") + np.searchsorted(thresholds, scores, "right")
