"""ROC and PRO, exact, with NumPy and SciPy alone: one weighted curve for every metric."""

from jaxsode.metrics.curve import area, roc
from jaxsode.metrics.evaluation import Average, Averages, Metrics, evaluate, image_auroc, pixel_auroc, pro

__all__ = ["Average", "Averages", "Metrics", "area", "evaluate", "image_auroc", "pixel_auroc", "pro", "roc"]
