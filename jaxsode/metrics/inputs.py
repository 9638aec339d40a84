"""What the metrics take, checked: one line for each mistake, pictures counted on from batch to batch."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxsode.errors import ArgumentError, NumericalError

Bools = NDArray[np.bool_]


def maps_and_masks(
    maps: ArrayLike, masks: ArrayLike, *, first: int = 0
) -> tuple[NDArray[Any], NDArray[np.uint8], NDArray[Any]]:
    """Maps and masks of one batch, and the maximum of each map.

    Args:
        maps: (B, height, width), real, B ≥ 1.
        masks: (B, height, width) uint8.
        first: the index of the first picture, for messages.

    Returns:
        both as arrays, and (B,) maxima.

    Raises:
        ArgumentError: shapes or kinds do not fit.
        NumericalError: a map has NaN.
    """
    scores: NDArray[Any] = np.asarray(maps)
    truth: NDArray[Any] = np.asarray(masks)
    if scores.ndim != 3 or scores.size == 0 or not np.issubdtype(scores.dtype, np.floating):
        raise ArgumentError(
            f"maps are {scores.dtype} {scores.shape}: give (N, height, width) real numbers, N ≥ 1"
        )
    if truth.shape != scores.shape:
        raise ArgumentError(f"masks {truth.shape} and maps {scores.shape} differ in shape: resize them alike")
    if truth.dtype != np.uint8:
        raise ArgumentError(f"masks are {truth.dtype}: give uint8, 255 for defective pixels and 0 for good")
    highest = scores.max(axis=(1, 2))  # a maximum is NaN if anything is: no mask of the maps' size
    missing = np.isnan(highest)
    if missing.any():
        raise NumericalError(f"the anomaly map of picture {first + missing.argmax()} has NaN: raise epsilon")
    return scores, truth, highest


def flags(given: ArrayLike, number: int, *, name: str = "defective") -> Bools:
    """(number,) bool, or ArgumentError."""
    values: NDArray[Any] = np.asarray(given)
    if values.shape != (number,) or values.dtype != np.bool_:
        raise ArgumentError(f"{name} is {values.dtype} {values.shape}: give one bool a picture, ({number},)")
    return values


def image_scores(scores: ArrayLike, defective: ArrayLike, *, first: int = 0) -> tuple[NDArray[Any], Bools]:
    """One real score and one flag a picture, both (B,).

    Raises:
        ArgumentError: the shapes differ, or a kind does not fit.
        NumericalError: a score is NaN.
    """
    values: NDArray[Any] = np.asarray(scores)
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        raise ArgumentError(f"image scores are {values.dtype} {values.shape}: give one number a picture")
    positive = flags(defective, len(values))
    missing = np.isnan(values)
    if missing.any():
        raise NumericalError(
            f"the score of picture {first + missing.argmax()} is NaN: look at its anomaly map"
        )
    return values, positive
