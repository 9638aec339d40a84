"""The levels of a curve: the distinct scores of positives, and the sums of weights at each.

A level is an interval of scores, both ends included; levels don't touch. It is a single score, lowest =
highest, as long as there are no more levels than allowed. Beyond, neighbours are merged: all scores from the
first of a level to its last then count as equal, and the curve goes straight where it had steps. At both ends
of a merged level the rates are still exact, and between them both curves rise within one rectangle
dFPR × dTPR, the straight one along its diagonal. So the area is wrong by at most dFPR dTPR / 2 for each
merged level, up to any limit of the false-positive rate; and as all dFPR add up to at most 1, by at most half
the greatest dTPR.

Which neighbours: shares of the positives, averaged over their G weightings, are cut into most // 4 cells of
one size; levels that begin in one cell are merged, save those that would fill a cell alone. So what is merged
holds less than 2 / (most // 4) of the averaged shares, less than G times that of any true-positive rate, and
the area's error is less than G / (most // 4): with four weightings and 2²⁴ levels, 10⁻⁶. That is how the
positives stand when they are merged. If later ones crowd into levels merged before, their dTPR grows; the
bound by Σ dFPR dTPR / 2 over merged levels has no such condition, and is the one that is reported.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64s = NDArray[np.float64]

AT_ONCE = 2**16
"""Scores that are sorted in together, at the least."""


class Levels:
    """Sums of weights by level, from scores in any order, a few at a time.

    Holds 8 · columns + (bytes of a score, twice once levels are merged) for each level; while scores are
    sorted in up to three times that. What waits to be sorted in is a quarter of the levels, AT_ONCE scores or
    those of one `add`, whatever is most.

    Attributes (after `settle`), levels in rising order:
        lowest, highest: (M,) first and last score of each level, in the widest dtype that was added.
        sums: (columns, M) float64.
        merged: whether any level is more than one score.
    """

    def __init__(self, *, columns: int, guides: int, most: int | None) -> None:
        """Nothing yet.

        Args:
            columns: weights that each score carries.
            guides: how many of them, the first ones, say which levels to merge: weights of positives.
            most: M at most, ≥ 4; None: as many as there are distinct scores.
        """
        self.lowest: NDArray[Any] = np.empty(0, np.float16)  # the narrowest: any other dtype widens it
        self.highest = self.lowest
        self.sums = np.empty((columns, 0))
        self.merged = False
        self._guides, self._most = guides, most
        self._waiting: list[tuple[NDArray[Any], Float64s]] = []
        self._number_waiting = 0

    def add(self, scores: NDArray[Any], weights: Float64s) -> None:
        """Add scores (n,), no NaN, with their weights (columns, n) ≥ 0."""
        self._waiting.append((scores, weights))
        self._number_waiting += scores.size
        if self._number_waiting >= max(AT_ONCE, self.lowest.size // 4):
            self.settle()

    def settle(self) -> None:
        """Sort in what waits, and merge levels if there are too many."""
        if not self._waiting:
            return
        scores = np.concatenate([scores for scores, _ in self._waiting])
        weights = np.concatenate([weights for _, weights in self._waiting], axis=1)
        self._waiting.clear()
        self._number_waiting = 0
        order = np.argsort(scores, kind="stable")
        scores, weights = scores[order], weights[:, order]

        at = locate(scores, self.lowest, self.highest)
        inside = at % 2 == 1
        for total, part in zip(self.sums, weights, strict=True):
            np.add.at(total, at[inside] // 2, part[inside])
        scores, weights, at = scores[~inside], weights[:, ~inside], at[~inside]
        if scores.size:
            first = np.append(0, np.flatnonzero(scores[1:] != scores[:-1]) + 1)
            new, where = scores[first], at[first] // 2
            dtype = np.result_type(self.lowest, new)
            single = not self.merged
            self.lowest = np.insert(self.lowest.astype(dtype, copy=False), where, new)
            # Unmerged, both ends are one array: half the memory.
            self.highest = (
                self.lowest if single else np.insert(self.highest.astype(dtype, copy=False), where, new)
            )
            self.sums = np.insert(self.sums, where, np.add.reduceat(weights, first, axis=1), axis=1)
        if self._most is not None and self.lowest.size > self._most:
            self._merge(self._most // 4)

    def _merge(self, cells: int) -> None:
        """Leave at most 2 · cells levels."""
        totals = self.sums[: self._guides].sum(axis=1)
        share = np.zeros(self.lowest.size)
        for weights, total in zip(self.sums, totals, strict=False):
            if total:
                share += weights / total
        share /= share.sum()
        cell = np.minimum((np.cumsum(share) - share) * cells, cells - 1).astype(np.intp)
        # What would fill a cell begins a level; the score after it lies in another cell and begins one, too.
        begins = (np.diff(cell, prepend=-1) != 0) | (share * cells >= 1)
        first = np.flatnonzero(begins)
        self.highest = self.highest[np.append(first[1:], begins.size) - 1]
        self.lowest = self.lowest[first]
        self.sums = np.add.reduceat(self.sums, first, axis=1)
        self.merged = True


def locate(scores: NDArray[Any], lowest: NDArray[Any], highest: NDArray[Any]) -> NDArray[np.intp]:
    """2j + 1 for scores (n,) within the j-th of the levels (m,), 2j between it and the one before.

    Sorted scores are found much faster.
    """
    return np.searchsorted(highest, scores, "left") + np.searchsorted(lowest, scores, "right")


def count(scores: NDArray[Any], lowest: NDArray[Any], highest: NDArray[Any]) -> tuple[Any, Any]:
    """How many scores fall where.

    Args:
        scores: (n,), rising.
        lowest, highest: (M,), the levels.

    Returns:
        (where, numbers): an index into the 2M + 1 places that `locate` names, and how many scores lie there;
        no place twice. Takes O(min(n log M, M log n)).
    """
    if lowest.size <= scores.size:
        below = np.searchsorted(scores, lowest, "left")
        through = np.searchsorted(scores, highest, "right")
        ends = np.empty(2 * lowest.size + 2, np.intp)
        ends[0], ends[-1] = 0, scores.size
        ends[1:-1:2], ends[2:-1:2] = below, through
        return slice(None), np.diff(ends)
    at = locate(scores, lowest, highest)
    first = np.flatnonzero(np.diff(at, prepend=-1))
    return at[first], np.diff(first, append=at.size)
