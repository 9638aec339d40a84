"""The one exact ROC curve, with weights. Every metric of this package is an area under it."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxsode.errors import ArgumentError, NumericalError

Float64s = NDArray[np.float64]


def roc(scores: ArrayLike, *, positive: ArrayLike, negative: ArrayLike) -> tuple[Float64s, Float64s]:
    """The weighted ROC curve at every distinct score; equal scores share one point.

    Args:
        scores: (n,), any order, higher is more anomalous. Only their order counts.
        positive: (n,) ≥ 0, what each score adds to the true positives once the threshold is at or below it.
        negative: (n,) ≥ 0, the same for the false positives. A score may carry both.

    Returns:
        (fpr, tpr), each (distinct scores + 1,) float64, rising from 0 to exactly 1.

    Raises:
        ArgumentError: shapes differ, a weight is negative or not finite, or a class's weights sum to 0.
        NumericalError: a score is NaN, which has no place in an order.
    """
    values: NDArray[Any] = np.asarray(scores)
    gains, losses = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if values.ndim != 1 or not values.shape == gains.shape == losses.shape:
        raise ArgumentError(
            f"roc: scores {values.shape}, positive {gains.shape} and negative {losses.shape} differ in shape:"
            " give three vectors of one length"
        )
    if values.dtype.kind not in "fiub":
        raise ArgumentError(f"roc: scores are {values.dtype}: give real numbers")
    if np.isnan(values).any():
        raise NumericalError(f"roc: score {np.isnan(values).argmax()} is NaN: look where it was computed")
    for name, weights in (("positive", gains), ("negative", losses)):
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise ArgumentError(f"roc: weights `{name}` must be finite, not below 0 and not all 0")

    order = np.argsort(values, kind="stable")[::-1]
    values = values[order]
    last_of_tie = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
    found = [np.cumsum(weights[order]) for weights in (losses, gains)]
    fpr, tpr = (np.append(0.0, total[last_of_tie] / total[-1]) for total in found)
    return fpr, tpr


def rate(weights: Float64s) -> Float64s:
    """Either rate of a curve: (n,) weights ≥ 0, not all 0, highest score first, no ties → (n + 1,), 0…1."""
    total = np.empty(weights.size + 1)
    total[0] = 0.0
    np.cumsum(weights, out=total[1:])
    total /= total[-1]
    return total


def area(fpr: Float64s, tpr: Float64s, *, limit: float = 1.0) -> float:
    """Mean true-positive rate over false-positive rates from 0 to `limit`.

    Args:
        fpr, tpr: (n,), a curve as `roc` gives it; straight between its points, the limit included.
        limit: in (0, 1].

    Returns:
        ∫₀^limit tpr d(fpr) / limit, in [0, 1].

    Raises:
        ArgumentError: the limit is outside (0, 1].
    """
    check_limit(limit)
    inside = int(np.searchsorted(fpr, limit, side="right"))
    # Where the curve rises vertically at the limit itself, the last piece has no width: any height will do.
    x = np.append(fpr[:inside], limit)
    y = np.append(tpr[:inside], np.interp(limit, fpr, tpr))
    return float(np.trapezoid(y, x)) / limit


def check_limit(limit: float) -> None:
    """ArgumentError unless the limit of the false-positive rate is in (0, 1]."""
    if not 0.0 < limit <= 1.0:
        raise ArgumentError(f"the limit of the false-positive rate is {limit}: choose one in (0, 1]")
