"""Sums of weights by bin, in memory that doesn't grow: a histogram over the ordered bits of float32.

Read as an integer, its sign bit turned round (and all others of a negative number), a float32 is a place in
the order of all 2³² of them. A bin is 2^shift neighbouring places, so its width is a share of the score, and
neither the least nor the greatest score need be known before. Bins exist in pages where there are scores, and
nowhere else. The shift is 0 at first, each score a bin of its own. When there are more pages than allowed,
neighbouring bins are added up two by two and the shift grows by 1: it is the least at which the scores so far
fit, whatever their order.

All scores of a bin count as equal: the curve goes straight where it had steps. Between the ends of a bin, at
which the rates are exact, both curves rise within one rectangle ΔFPR × ΔTPR, the straight one along its
diagonal. So up to any limit of the false-positive rate the area is wrong by at most ½ Σ ΔFPR ΔTPR.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxsode.metrics.curve import Float64s

_BITS = 10
PAGE = 2**_BITS
"""Bins that come into being together."""


class Histogram:
    """Sums of weights by bin.

    Holds 8 · columns bytes for each bin of a page that is in use, 12 more while bins are added up. The table
    of pages takes 4 bytes for each that could be, 16 MiB; an operating system that gives memory when it is
    first written to gives some 32 KiB of it for each binary order of magnitude that scores are of.
    """

    def __init__(self, *, columns: int, bins: int) -> None:
        """Nothing yet.

        Args:
            columns: weights that each score carries.
            bins: at most, ≥ PAGE.
        """
        self._most = bins // PAGE
        self._shift = 0
        self._pages = np.empty(0, np.int64)  # in order of their coming
        # Where each page's bins begin, 0 where it has none: the first page of `_sums` stays empty.
        self._begins = np.zeros(2 ** (32 - _BITS), np.int32)
        self._sums = [self._empty() for _ in range(columns)]

    def _empty(self) -> Float64s:
        return np.zeros((self._most + 1) * PAGE)

    def add(self, scores: NDArray[Any], weights: Sequence[Float64s | float]) -> None:
        """Add scores.

        Args:
            scores: (n,), real, no NaN; counted as the nearest float32.
            weights: for each column (n,) ≥ 0, or one number for all.
        """
        places = ordered(scores)
        begins = self._begins[self._page(places)]
        while not begins.all():
            self._make_room(np.unique(self._page(places[begins == 0])))
            begins = self._begins[self._page(places)]
        within = (places >> np.uint32(self._shift)) & np.uint32(PAGE - 1)
        bins = (begins + within.view(np.int32)).astype(np.intp)
        for total, part in zip(self._sums, weights, strict=True):
            if np.ndim(part) or part:
                np.add.at(total, bins, part)

    def column(self, number: int) -> Float64s:
        """(bins,) sums of one column's weights, lowest scores first."""
        return self._sums[number].reshape(-1, PAGE)[1 + np.argsort(self._pages)].ravel()

    def _page(self, places: NDArray[np.uint32]) -> NDArray[np.uint32]:
        return places >> np.uint32(self._shift + _BITS)

    def _make_room(self, new: NDArray[np.uint32]) -> None:
        """Pages that were not there; or bins so wide that all pages fit, and then not yet those."""
        if self._pages.size + new.size <= self._most:
            self._open(new)
            return
        pages = np.union1d(self._pages, new)
        while pages.size > self._most:
            pages = np.unique(pages // 2)
            self._widen()

    def _open(self, new: NDArray[Any]) -> None:
        self._begins[new] = (1 + self._pages.size + np.arange(new.size)) * PAGE
        self._pages = np.append(self._pages, new.astype(np.int64))

    def _widen(self) -> None:
        """Add bins up two by two."""
        old = self._pages
        self._begins[old] = 0
        self._shift += 1
        self._pages = old[:0]
        self._open(np.unique(old // 2))
        half = PAGE // 2
        where = self._begins[old // 2] // half + old % 2
        for i, total in enumerate(self._sums):
            wider = self._empty()
            wider.reshape(-1, half)[where] = (
                total.reshape(-1, PAGE)[1 : 1 + old.size].reshape(-1, half, 2).sum(axis=2)
            )
            self._sums[i] = wider


def ordered(scores: NDArray[Any]) -> NDArray[np.uint32]:
    """The place of each score, as the nearest float32, in the order of all; real, no NaN, any shape.

    The two zeros share one place. What is beyond the range of float32 counts as infinite.
    """
    with np.errstate(over="ignore"):
        values = scores.astype(np.float32, copy=False) + np.float32(0)
    bits = values.view(np.int32)
    return (bits ^ ((bits >> 31) | np.int32(-(2**31)))).view(np.uint32)
