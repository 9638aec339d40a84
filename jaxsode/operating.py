"""Thresholds by labelled pictures: of the best F1, of the least cost; every one that differs is tried."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jaxsode.errors import DataError


@dataclass(frozen=True)
class Operating:
    """A threshold, and what it does to the pictures that it was chosen by.

    Attributes:
        threshold: what scores above it is defective.
        found: of the defective pictures, those above.
        defective: how many there are.
        false_alarms: of the good pictures, those above.
        good: how many there are.
        f1: 2·found / (found + false_alarms + defective).
    """

    threshold: float
    found: int
    defective: int
    false_alarms: int
    good: int
    f1: float

    def page(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def best_f1(good: np.ndarray, bad: np.ndarray) -> Operating:
    """The threshold of the highest F1; of several the highest.

    Args:
        good: (N,) scores of good pictures.
        bad: (M,) scores of defective ones.

    Raises:
        DataError: there are none of a kind, or a score isn't finite.
    """
    thresholds, missed, false = _counts(good, bad)
    found = len(bad) - missed
    f1 = 2 * found / (found + false + len(bad))
    return _at(thresholds, missed, false, int(np.flatnonzero(f1 == f1.max())[-1]), len(good), len(bad))


def cheapest(good: np.ndarray, bad: np.ndarray, *, missed: float = 1.0, false: float = 1.0) -> Operating:
    """The threshold of the least cost; of several the highest.

    Args:
        good: (N,) scores of good pictures.
        bad: (M,) scores of defective ones.
        missed: what a defect costs that isn't found.
        false: what a false alarm costs.

    Raises:
        DataError: there are none of a kind, or a score isn't finite.
    """
    thresholds, lost, alarms = _counts(good, bad)
    cost = missed * lost + false * alarms
    return _at(thresholds, lost, alarms, int(np.flatnonzero(cost == cost.min())[-1]), len(good), len(bad))


def _counts(good: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds midway between neighbouring scores and at either end, missed defects and false alarms."""
    good, bad = np.sort(np.asarray(good, np.float64)), np.sort(np.asarray(bad, np.float64))
    for scores, kind in ((good, "good"), (bad, "defective")):
        if not len(scores) or not np.isfinite(scores).all():
            raise DataError(f"thresholds by labels take finite scores of {kind} pictures: give some")
    scores = np.unique(np.concatenate([good, bad]))
    between = scores[:-1] + np.diff(scores) / 2
    # The mean of two neighbouring doubles may be the upper one, which must stay above.
    between = np.where(between < scores[1:], between, scores[:-1])
    thresholds = np.concatenate([[np.nextafter(scores[0], -np.inf)], between, scores[-1:]])
    missed = np.searchsorted(bad, thresholds, side="right")
    false = len(good) - np.searchsorted(good, thresholds, side="right")
    return thresholds, missed, false


def _at(
    thresholds: np.ndarray, missed: np.ndarray, false: np.ndarray, i: int, good: int, bad: int
) -> Operating:
    found, alarms = bad - int(missed[i]), int(false[i])
    f1 = 2 * found / (found + alarms + bad)
    return Operating(float(thresholds[i]), found, bad, alarms, good, f1)
