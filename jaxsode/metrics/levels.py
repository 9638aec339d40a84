"""The levels of a curve: the distinct scores of positives, and the sums of weights at each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxsode.metrics.curve import Float64s

AT_ONCE = 2**16
"""Scores that are sorted in together, at the least."""


class Levels:
    """Sums of weights by level, from scores in any order, a few at a time.

    Holds 8 · columns + (bytes of a score) for each level; while scores are sorted in up to three times that.
    What waits to be sorted in is a quarter of the levels, AT_ONCE scores or those of one `add`, whatever is
    most.

    Attributes (after `settle`), levels in rising order:
        scores: (M,) in the widest dtype that was added.
        sums: (columns, M) float64.
    """

    def __init__(self, *, columns: int) -> None:
        """Nothing yet.

        Args:
            columns: weights that each score carries.
        """
        self.scores: NDArray[Any] = np.empty(0, np.float16)  # the narrowest: any other dtype widens it
        self.sums = np.empty((columns, 0))
        self._waiting: list[tuple[NDArray[Any], Float64s]] = []
        self._number_waiting = 0

    def add(self, scores: NDArray[Any], weights: Float64s) -> None:
        """Add scores (n,), no NaN, with their weights (columns, n) ≥ 0."""
        self._waiting.append((scores, weights))
        self._number_waiting += scores.size
        if self._number_waiting >= max(AT_ONCE, self.scores.size // 4):
            self.settle()

    def settle(self) -> None:
        """Sort in what waits."""
        if not self._waiting:
            return
        scores = np.concatenate([scores for scores, _ in self._waiting])
        weights = np.concatenate([weights for _, weights in self._waiting], axis=1)
        self._waiting.clear()
        self._number_waiting = 0
        order = np.argsort(scores, kind="stable")
        scores, weights = scores[order], weights[:, order]

        at = locate(scores, self.scores)
        inside = at % 2 == 1
        for total, part in zip(self.sums, weights, strict=True):
            np.add.at(total, at[inside] // 2, part[inside])
        scores, weights, at = scores[~inside], weights[:, ~inside], at[~inside]
        if scores.size:
            first = np.append(0, np.flatnonzero(scores[1:] != scores[:-1]) + 1)
            new, where = scores[first], at[first] // 2
            dtype = np.result_type(self.scores, new)
            self.scores = np.insert(self.scores.astype(dtype, copy=False), where, new)
            self.sums = np.insert(self.sums, where, np.add.reduceat(weights, first, axis=1), axis=1)


def locate(scores: NDArray[Any], levels: NDArray[Any]) -> NDArray[np.intp]:
    """2j + 1 for scores (n,) at the j-th of the levels (m,), 2j between it and the one before.

    Sorted scores are found much faster.
    """
    return np.searchsorted(levels, scores, "left") + np.searchsorted(levels, scores, "right")


def count(scores: NDArray[Any], levels: NDArray[Any]) -> tuple[Any, Any]:
    """How many scores fall where.

    Args:
        scores: (n,), rising.
        levels: (M,), rising.

    Returns:
        (where, numbers): an index into the 2M + 1 places that `locate` names, and how many scores lie there;
        no place twice. Takes O(min(n log M, M log n)).
    """
    if levels.size <= scores.size:
        ends = np.empty(2 * levels.size + 2, np.intp)
        ends[0], ends[-1] = 0, scores.size
        ends[1:-1:2] = np.searchsorted(scores, levels, "left")
        ends[2:-1:2] = np.searchsorted(scores, levels, "right")
        return slice(None), np.diff(ends)
    at = locate(scores, levels)
    first = np.flatnonzero(np.diff(at, prepend=-1))
    return at[first], np.diff(first, append=at.size)
