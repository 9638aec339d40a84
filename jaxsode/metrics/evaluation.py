"""Anomaly maps and masks in memory → the five numbers, or one. An undefined metric is None, never 0.

The paper averages over pictures at common thresholds; most of the field pools the pixels. Both are exact:
there is no grid of thresholds. See `pixels` for what each pixel weighs, `stream` for maps not in memory.
"""

from numpy.typing import ArrayLike

from jaxsode.metrics import inputs
from jaxsode.metrics.curve import check_limit
from jaxsode.metrics.pixels import weights_of
from jaxsode.metrics.stream import Average, Metrics, Stream, protocol


def evaluate(
    maps: ArrayLike,
    masks: ArrayLike,
    defective: ArrayLike,
    *,
    image_scores: ArrayLike | None = None,
    pro_limit: float = 0.3,
    paper_full_mask: bool,
) -> Metrics:
    """All metrics of a set of test pictures at once: a `Stream` of one batch, with no bound on its memory.

    Args:
        maps: (N, height, width), real; higher is more anomalous.
        masks: (N, height, width) uint8, the masks resized like the pictures, 0…255; 0 for good pictures.
        defective: (N,) bool.
        image_scores: (N,), real. By default the maximum of each map.
        pro_limit: in (0, 1], the false-positive rate up to which PRO is integrated.
        paper_full_mask: for `paper`, count only mask pixels of 255 as defective (KolektorSDD), not all above
            127.5, as `pooled` always does.

    Returns:
        as `Stream.result`; always exact.

    Raises:
        ArgumentError: shapes, kinds or ranges do not fit, or a good picture's mask has defective pixels.
        NumericalError: a map or score is NaN; the message has the picture's index.
    """
    with Stream(paper_full_mask=paper_full_mask, pro_limit=pro_limit, memory=None) as stream:
        stream.add(maps, masks, defective, image_scores=image_scores)
        return stream.result()


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
    scores, truth, _ = inputs.maps_and_masks(maps, masks)
    (weights,) = weights_of(scores, truth, [protocol(average, full_mask=full_mask)])
    found = weights.area(weights.pixel, limit=1.0)
    return None if found is None else found[0]


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
    scores, truth, _ = inputs.maps_and_masks(maps, masks)
    (weights,) = weights_of(scores, truth, [protocol(average, full_mask=full_mask)])
    found = weights.area(weights.region, limit=limit)
    return None if found is None else found[0]
