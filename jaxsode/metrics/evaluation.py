"""Anomaly maps and masks → the five numbers. Where a metric is undefined it is None, never 0.

The paper averages over pictures at common thresholds; most of the field pools the pixels. Both are exact:
there is no grid of thresholds. See `pixels` for what each pixel weighs.
"""

from typing import Any, Literal, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jaxsode.errors import ArgumentError, NumericalError
from jaxsode.metrics.curve import Float64s, area, check_limit, roc
from jaxsode.metrics.pixels import LevelWeights, Protocol, level_weights

Average = Literal["pooled", "paper"]

HALF = 128  # the least integer above 127.5
FULL = 255


class Averages(TypedDict):
    pooled: float | None
    paper: float | None


class Metrics(TypedDict):
    pixel_auroc: Averages
    pro: Averages
    image_auroc: float | None


def evaluate(
    maps: ArrayLike,
    masks: ArrayLike,
    defective: ArrayLike,
    *,
    image_scores: ArrayLike | None = None,
    pro_limit: float = 0.3,
    paper_full_mask: bool,
) -> Metrics:
    """All metrics of a set of test pictures at once, for less than the price of two.

    Args:
        maps: (N, height, width), real; higher is more anomalous.
        masks: (N, height, width) uint8, the masks resized like the pictures, 0…255; 0 for good pictures.
        defective: (N,) bool.
        image_scores: (N,), real. By default the maximum of each map.
        pro_limit: in (0, 1], the false-positive rate up to which PRO is integrated.
        paper_full_mask: for `paper`, count only mask pixels of 255 as defective (KolektorSDD), not all above
            127.5, as `pooled` always does.

    Returns:
        `pixel_auroc` and `pro`, each `pooled` and `paper`, and `image_auroc`, in [0, 1]. Pixel metrics are
        None without a defective pixel or without a good one, `image_auroc` likewise with pictures.
        A defective picture whose mask keeps no pixel is left out of the paper's average over defective
        pictures; its pixels are good ones, and the picture is still defective for `image_auroc`.

    Raises:
        ArgumentError: shapes, kinds or ranges do not fit, or a good picture's mask has defective pixels.
        NumericalError: a map or score is NaN; the message has the picture's index.
    """
    check_limit(pro_limit)
    scores, truth = _checked(maps, masks)
    flags = _flags(defective, len(scores))
    marked = (truth.max(axis=(1, 2)) >= HALF) & ~flags
    if marked.any():
        raise ArgumentError(f"picture {marked.argmax()} is good but its mask is not: correct one of them")

    protocols = [_protocol("pooled", full_mask=False), _protocol("paper", full_mask=paper_full_mask)]
    pooled, paper = level_weights(scores, truth, protocols)
    return {
        "pixel_auroc": {
            "pooled": _area(pooled, pooled.pixel, limit=1.0),
            "paper": _area(paper, paper.pixel, limit=1.0),
        },
        "pro": {
            "pooled": _area(pooled, pooled.region, limit=pro_limit),
            "paper": _area(paper, paper.region, limit=pro_limit),
        },
        "image_auroc": image_auroc(scores.max(axis=(1, 2)) if image_scores is None else image_scores, flags),
    }


def pixel_auroc(
    maps: ArrayLike, masks: ArrayLike, *, average: Average = "pooled", full_mask: bool = False
) -> float | None:
    """Area under the pixels' ROC curve.

    Args:
        maps, masks: as for `evaluate`.
        average: `pooled`: all pixels in one curve; `paper`: at common thresholds, the false-positive rate
            averaged over pictures, the true-positive rate over pictures with a defective pixel.
        full_mask: count only mask pixels of 255 as defective, not all above 127.5.

    Returns:
        in [0, 1]; None without a defective pixel or without a good one.

    Raises:
        ArgumentError, NumericalError: as `evaluate`.
    """
    (weights,) = level_weights(*_checked(maps, masks), [_protocol(average, full_mask=full_mask)])
    return _area(weights, weights.pixel, limit=1.0)


def pro(
    maps: ArrayLike,
    masks: ArrayLike,
    *,
    average: Average = "pooled",
    limit: float = 0.3,
    full_mask: bool = False,
) -> float | None:
    """Per-region overlap: the mean share of a region that is found, over false-positive rates up to a limit.

    Args:
        maps, masks, average, full_mask: as for `pixel_auroc`; the overlap is averaged over all regions
            (`pooled`), or over a picture's regions and then over pictures (`paper`). Pixels that touch by
            an edge or a corner are of one region.
        limit: in (0, 1]; the area is divided by it.

    Returns:
        in [0, 1]; None without a defective pixel or without a good one.

    Raises:
        ArgumentError, NumericalError: as `evaluate`.
    """
    check_limit(limit)
    (weights,) = level_weights(*_checked(maps, masks), [_protocol(average, full_mask=full_mask)])
    return _area(weights, weights.region, limit=limit)


def image_auroc(scores: ArrayLike, defective: ArrayLike) -> float | None:
    """Area under the pictures' ROC curve.

    Args:
        scores: (N,), real.
        defective: (N,) bool.

    Returns:
        in [0, 1]; None without a defective picture or without a good one.

    Raises:
        ArgumentError: the shapes differ, or `defective` is not boolean.
        NumericalError: a score is NaN.
    """
    values = np.asarray(scores)
    if values.ndim != 1 or values.dtype.kind not in "fiub":
        raise ArgumentError(f"image scores are {values.dtype} {values.shape}: give one number a picture")
    flags = _flags(defective, len(values))
    missing = np.isnan(values)
    if missing.any():
        raise NumericalError(f"the score of picture {missing.argmax()} is NaN: look at its anomaly map")
    if flags.all() or not flags.any():
        return None
    return area(*roc(values, positive=flags, negative=~flags))


def _area(weights: LevelWeights, positive: Float64s, *, limit: float) -> float | None:
    if not (positive.any() and weights.negative.any()):
        return None
    levels = np.arange(positive.size)
    return area(*roc(levels, positive=positive, negative=weights.negative), limit=limit)


def _protocol(average: Average, *, full_mask: bool) -> Protocol:
    if average not in get_args(Average):
        raise ArgumentError(f"average is {average!r}: choose 'pooled' or 'paper'")
    return Protocol(lowest=FULL if full_mask else HALF, per_picture=average == "paper")


def _checked(maps: ArrayLike, masks: ArrayLike) -> tuple[NDArray[Any], NDArray[np.uint8]]:
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
    missing = np.isnan(scores.max(axis=(1, 2)))  # a maximum is NaN if anything is: no mask of the maps' size
    if missing.any():
        raise NumericalError(f"the anomaly map of picture {missing.argmax()} has NaN: raise epsilon")
    return scores, truth


def _flags(defective: ArrayLike, number: int) -> NDArray[np.bool_]:
    flags: NDArray[Any] = np.asarray(defective)
    if flags.shape != (number,) or flags.dtype != np.bool_:
        raise ArgumentError(f"defective is {flags.dtype} {flags.shape}: give one bool a picture, ({number},)")
    return flags
