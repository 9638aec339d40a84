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
with M distinct scores of positives, sorted, place 2j + 1 is the j-th of them exactly, and place 2j all that
lies between it and the one before. The curve over places has the same area as the curve over pixels, without
the order and the weights of every negative. Where the levels are is known when all positives have been seen:
until then a picture's negatives wait, sorted, in a spool.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jaxsode.metrics.curve import Float64s, area, rate
from jaxsode.metrics.levels import Levels, count
from jaxsode.metrics.spool import Spool

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
    """Sums of weights by place, each (2M + 1,) float64, lowest scores first."""

    negative: Float64s
    pixel: Float64s
    """Of positives, for ROC."""
    region: Float64s
    """Of positives, for PRO."""
    merged: NDArray[np.bool_]
    """(M,), the levels that are more than one score."""

    def area(self, positive: Float64s, *, limit: float) -> tuple[float, float] | None:
        """Area under the curve of one weighting, and how far it can be from that of unmerged levels.

        Args:
            positive: `pixel` or `region`, (n,).
            limit: of the false-positive rate, in (0, 1].

        Returns:
            (area, bound of its error); the bound is 0 where nothing is merged. None without a positive or
            without a negative.
        """
        if not (positive.any() and self.negative.any()):
            return None
        fpr, tpr = rate(self.negative[::-1]), rate(positive[::-1])
        bound = 0.0
        if self.merged.any():
            # Place 2j + 1, counted from the highest score, lies between points 2j + 1 and 2j + 2.
            j = np.flatnonzero(self.merged[::-1])
            j = j[fpr[2 * j + 1] < limit]
            start, end = 2 * j + 1, 2 * j + 2
            bound = float(((fpr[end] - fpr[start]) * (tpr[end] - tpr[start])).sum()) / 2 / limit
        return area(fpr, tpr, limit=limit), bound


class Pixels:
    """Weights of pixels by level, a picture at a time; the levels are common to all protocols.

    With P protocols, P' of them stricter than the laxest, and scores of b bytes, holds, beside a few vectors
    of a picture's size:

    - in the spool, b for each pixel that is a negative under all protocols, and 32 + 8 P a picture;
    - in memory, for each of M levels, 8 (2 P + P') + b (2 b once levels are merged), up to three times that
      while scores are sorted in, and while weights are asked for and a curve is drawn 16 P + 130 more.
    """

    def __init__(self, protocols: Sequence[Protocol], *, levels: int | None = None) -> None:
        """Nothing yet.

        Args:
            protocols: at least one.
            levels: M at most, ≥ 4; None: as many as there are distinct scores of positives.
        """
        self._protocols = protocols
        self._lowest = min(protocol.lowest for protocol in protocols)
        self._stricter = [i for i, p in enumerate(protocols) if p.lowest > self._lowest]
        positives = 2 * len(protocols)
        self._levels = Levels(columns=positives + len(self._stricter), guides=positives, most=levels)
        self._spool = Spool()

    @property
    def merged(self) -> bool:
        """Whether there have been too many levels, and some are merged; as of the last `weights`."""
        return self._levels.merged

    def close(self) -> None:
        """Give back memory and disk; nothing can be added or asked for afterwards."""
        self._spool.close()
        self._levels = Levels(columns=0, guides=0, most=None)

    def add(self, scores: NDArray[Any], mask: NDArray[np.uint8]) -> None:
        """Add one picture.

        Args:
            scores: (height, width), real, no NaN.
            mask: (height, width), 0…255.

        Raises:
            OutputError: there is no room for a temporary file. Nothing can be added afterwards.
        """
        positive = mask >= self._lowest
        values = mask[positive]
        negatives = np.array([scores.size - (values >= p.lowest).sum() for p in self._protocols], np.float64)
        if values.size < scores.size:
            rest = scores[~positive] if values.size else scores
            # Weights are divided by these: 1 where pixels count alike.
            shares = np.where([p.per_picture for p in self._protocols], negatives, 1.0)
            self._spool.append(np.sort(rest, axis=None), shares)
        if values.size:
            self._levels.add(scores[positive], self._weights_of_positives(mask, positive, negatives))

    def _weights_of_positives(
        self, mask: NDArray[np.uint8], positive: NDArray[np.bool_], negatives: Float64s
    ) -> Float64s:
        """(columns, positives): pixel and region of each protocol; then what stricter ones call negative."""
        values = mask[positive]
        weights = np.zeros((self._levels.sums.shape[0], values.size))
        found: dict[int, tuple[NDArray[np.int32], int]] = {}
        for i, protocol in enumerate(self._protocols):
            if protocol.lowest not in found:
                labels, number = regions(mask >= protocol.lowest)
                found[protocol.lowest] = labels[positive], number
            region_of, number = found[protocol.lowest]
            inside = region_of > 0
            if number:
                in_region = np.bincount(region_of)[region_of[inside]]
                weights[2 * i, inside] = 1 / (inside.sum() if protocol.per_picture else 1)
                weights[2 * i + 1, inside] = 1 / (in_region * (number if protocol.per_picture else 1))
            if i in self._stricter and not inside.all():
                column = 2 * len(self._protocols) + self._stricter.index(i)
                weights[column, ~inside] = 1 / (negatives[i] if protocol.per_picture else 1)
        return weights

    def weights(self) -> Iterator[LevelWeights]:
        """For each protocol the sums of weights so far; all 0 where a class has no pixel.

        Raises:
            OutputError: the temporary file can't be read.
        """
        levels = self._levels
        levels.settle()
        places = 2 * levels.lowest.size + 1
        negative = np.zeros((len(self._protocols), places))
        spooled = iter(self._spool)
        for scores, shares in zip(spooled, spooled, strict=True):
            where, numbers = count(scores, levels.lowest, levels.highest)
            for total, share in zip(negative, shares, strict=True):
                total[where] += numbers / share if share != 1 else numbers
        for column, i in enumerate(self._stricter, start=2 * len(self._protocols)):
            negative[i, 1::2] += levels.sums[column]
        for i in range(len(self._protocols)):
            pixel, region = np.zeros((2, places))
            pixel[1::2], region[1::2] = levels.sums[2 * i : 2 * i + 2]
            yield LevelWeights(negative[i], pixel, region, levels.highest > levels.lowest)


def regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Regions connected by edges or corners: (height, width) bool → (labels from 1, 0 outside; how many)."""
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, structure=EIGHT_CONNECTED, output=labels)
    return labels, int(labels.max())


def level_weights(
    maps: NDArray[Any], masks: NDArray[np.uint8], protocols: Sequence[Protocol]
) -> list[LevelWeights]:
    """Weights by level under each protocol; the levels are common to all, and never merged.

    Args:
        maps: (N, height, width), real, no NaN.
        masks: (N, height, width), 0…255.
        protocols: at least one.

    Returns:
        for each protocol the sums of weights; all 0 where a class has no pixel.

    Raises:
        OutputError: there is no room for a temporary file.
    """
    pixels = Pixels(protocols)
    try:
        for scores, mask in zip(maps, masks, strict=True):
            pixels.add(scores, mask)
        return list(pixels.weights())
    finally:
        pixels.close()
