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
until then a picture's negatives wait. Where they would take too much memory, they and the levels go into a
histogram, and so does every later picture, once and for all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from jaxsode.metrics.curve import Float64s, area, rate
from jaxsode.metrics.histogram import PAGE, Histogram
from jaxsode.metrics.levels import Levels, count

EIGHT_CONNECTED = np.ones((3, 3), bool)

BYTES_PER_POSITIVE = 256
"""What a positive of a score of its own takes at the most: with its level, while a curve is drawn."""

BYTES_PER_BIN = 160
"""The same of a bin."""

BINS = 2**21
"""No more are of use: with these the bound is some 10⁻⁶ already."""

LEAST_MEMORY = 16 * 2**20


@dataclass(frozen=True)
class Protocol:
    """Which pixels are defective, and whether pixels or pictures count alike."""

    lowest: int
    """The least value of a resized mask, 0…255, that counts as defective."""
    per_picture: bool
    """The sums of weights are one in each picture (`paper`), or free (`pooled`)."""


@dataclass(frozen=True)
class Weights:
    """Sums of weights by place or by bin, each (n,) float64, lowest scores first."""

    negative: Float64s
    pixel: Float64s
    """Of positives, for ROC."""
    region: Float64s
    """Of positives, for PRO."""
    binned: bool
    """Whether scores that differ may share a sum."""

    def area(self, positive: Float64s, *, limit: float) -> tuple[float, float] | None:
        """Area under the curve of one weighting, and how far it can be from that of all scores told apart.

        Args:
            positive: `pixel` or `region`, (n,).
            limit: of the false-positive rate, in (0, 1].

        Returns:
            (area, bound of its error); the bound is 0 where nothing is binned. None without a positive or
            without a negative.
        """
        if not (positive.any() and self.negative.any()):
            return None
        fpr, tpr = rate(self.negative[::-1]), rate(positive[::-1])
        bound = 0.0
        if self.binned:
            begun = int(np.searchsorted(fpr, limit)) + 1  # points up to the end of the bin that has the limit
            bound = float(np.dot(np.diff(fpr[:begun]), np.diff(tpr[:begun]))) / 2 / limit
        return area(fpr, tpr, limit=limit), bound


class Pixels:
    """Weights of pixels by level or by bin, a picture at a time; common to all protocols.

    Holds, for scores of b bytes, beside a few vectors of a picture's size: b for each pixel that is a
    negative under all protocols, and for each other at most BYTES_PER_POSITIVE. Where these would be more
    than 7/8 of the memory allowed, the histogram takes their place: as many bins as fit the last eighth,
    BINS at the most.
    """

    def __init__(self, protocols: Sequence[Protocol], *, memory: int | None = None) -> None:
        """Nothing yet.

        Args:
            protocols: at least one.
            memory: bytes, ≥ LEAST_MEMORY; None: as many as it takes.
        """
        self._protocols = protocols
        self._lowest = min(protocol.lowest for protocol in protocols)
        self._stricter = [i for i, p in enumerate(protocols) if p.lowest > self._lowest]
        self._memory = memory
        self._needed = 0
        self._waiting: list[tuple[NDArray[Any], Float64s]] = []
        self._levels = Levels(columns=2 * len(protocols) + len(self._stricter))
        self._histogram: Histogram | None = None

    @property
    def binned(self) -> bool:
        """Whether scores that differ may share a bin."""
        return self._histogram is not None

    def close(self) -> None:
        """Give back memory; nothing can be added or asked for afterwards."""
        self._waiting.clear()
        self._levels = Levels(columns=0)
        self._histogram = None

    def add(self, scores: NDArray[Any], mask: NDArray[np.uint8]) -> None:
        """Add one picture.

        Args:
            scores: (height, width), real, no NaN.
            mask: (height, width), 0…255.
        """
        positive = mask >= self._lowest
        values = mask[positive]
        negatives = np.array([scores.size - (values >= p.lowest).sum() for p in self._protocols], np.float64)
        # Weights of negatives are divided by these: 1 where pixels count alike.
        shares = np.where([p.per_picture for p in self._protocols], negatives, 1.0)
        rest = scores[~positive] if values.size else scores.flatten()
        weights = self._weights_of_positives(mask, positive, negatives)
        self._needed += rest.nbytes + BYTES_PER_POSITIVE * values.size
        if self._histogram is None and self._memory is not None and self._needed > self._memory // 8 * 7:
            self._histogram = self._all_binned(self._memory // 8)
        if self._histogram is not None:
            self._bin(self._histogram, rest, shares)
            self._bin_positives(self._histogram, scores[positive], weights)
            return
        if rest.size:
            self._waiting.append((rest, shares))
        if values.size:
            self._levels.add(scores[positive], weights)

    def _all_binned(self, memory: int) -> Histogram:
        """All that waits, in a histogram instead; each picture's memory is given back on the way."""
        histogram = Histogram(
            columns=3 * len(self._protocols), bins=max(PAGE, min(BINS, memory // BYTES_PER_BIN))
        )
        self._levels.settle()
        self._bin_positives(histogram, self._levels.scores, self._levels.sums)
        self._levels = Levels(columns=0)
        while self._waiting:
            self._bin(histogram, *self._waiting.pop())
        return histogram

    def _bin(self, histogram: Histogram, scores: NDArray[Any], shares: Float64s) -> None:
        """Negatives of one picture: columns 0, 3, …"""
        weights = [0.0] * (3 * len(self._protocols))
        weights[::3] = [1 / share if share else 0.0 for share in shares]
        histogram.add(scores, weights)

    def _bin_positives(self, histogram: Histogram, scores: NDArray[Any], weights: Float64s) -> None:
        """Those of levels or of a picture: columns 1, 2, 4, 5, …; what the stricter call negative: 3 i."""
        columns: list[Float64s | float] = [0.0] * (3 * len(self._protocols))
        for i in range(len(self._protocols)):
            columns[3 * i + 1 : 3 * i + 3] = weights[2 * i : 2 * i + 2]
        for row, i in enumerate(self._stricter, start=2 * len(self._protocols)):
            columns[3 * i] = weights[row]
        histogram.add(scores, columns)

    def _weights_of_positives(
        self, mask: NDArray[np.uint8], positive: NDArray[np.bool_], negatives: Float64s
    ) -> Float64s:
        """(rows, positives): pixel and region of each protocol; then what the stricter call negative."""
        values = mask[positive]
        weights = np.zeros((2 * len(self._protocols) + len(self._stricter), values.size))
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
                row = 2 * len(self._protocols) + self._stricter.index(i)
                weights[row, ~inside] = 1 / (negatives[i] if protocol.per_picture else 1)
        return weights

    def weights(self) -> Iterator[Weights]:
        """For each protocol the sums of weights so far; all 0 where a class has no pixel."""
        if self._histogram is not None:
            for i in range(len(self._protocols)):
                negative, pixel, region = (self._histogram.column(3 * i + j) for j in range(3))
                yield Weights(negative, pixel, region, binned=True)
            return
        levels = self._levels
        levels.settle()
        places = 2 * levels.scores.size + 1
        negative = np.zeros((len(self._protocols), places))
        for scores, shares in self._waiting:
            scores.sort()
            where, numbers = count(scores, levels.scores)
            for total, share in zip(negative, shares, strict=True):
                total[where] += numbers / share if share != 1 else numbers
        for row, i in enumerate(self._stricter, start=2 * len(self._protocols)):
            negative[i, 1::2] += levels.sums[row]
        for i in range(len(self._protocols)):
            pixel, region = np.zeros((2, places))
            pixel[1::2], region[1::2] = levels.sums[2 * i : 2 * i + 2]
            yield Weights(negative[i], pixel, region, binned=False)


def regions(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Regions connected by edges or corners: (height, width) bool → (labels from 1, 0 outside; how many)."""
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, structure=EIGHT_CONNECTED, output=labels)
    return labels, int(labels.max())


def weights_of(maps: NDArray[Any], masks: NDArray[np.uint8], protocols: Sequence[Protocol]) -> list[Weights]:
    """Weights by level under each protocol; the levels are common to all.

    Args:
        maps: (N, height, width), real, no NaN.
        masks: (N, height, width), 0…255.
        protocols: at least one.

    Returns:
        for each protocol the sums of weights; all 0 where a class has no pixel.
    """
    pixels = Pixels(protocols)
    for scores, mask in zip(maps, masks, strict=True):
        pixels.add(scores, mask)
    return list(pixels.weights())
