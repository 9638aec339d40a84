"""ROC and PRO with NumPy and SciPy alone: one weighted curve, from arrays or from a stream.

Exact, or within a bound that stands beside them.
"""

from jaxsode.metrics.curve import area, roc
from jaxsode.metrics.evaluation import evaluate, pixel_auroc, pro
from jaxsode.metrics.stream import PICTURE_SCORES, Average, Averages, Metrics, Stream, image_auroc

__all__ = [
    "PICTURE_SCORES",
    "Average",
    "Averages",
    "Metrics",
    "Stream",
    "area",
    "evaluate",
    "image_auroc",
    "pixel_auroc",
    "pro",
    "roc",
]
