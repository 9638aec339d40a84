"""Anomaly segmentation by semi-orthogonal embedding, in JAX and Flax.

`Detector`, `Method` and `load_backbone` take you from pictures to anomaly maps; `pictures` reads them from a
folder; `algebra` is the paper, a page a step, for any JAX program, and needs jax alone. Each is imported
when it is first used.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from jaxsode._imports import uncollected

if TYPE_CHECKING:
    from jaxsode import algebra, pictures
    from jaxsode.backbones import load as load_backbone
    from jaxsode.detector import Detector
    from jaxsode.method import Method

__version__ = "0.1.0"

__all__ = ["Detector", "Method", "algebra", "load_backbone", "pictures"]

_LATE = {
    "Detector": ("jaxsode.detector", "Detector"),
    "Method": ("jaxsode.method", "Method"),
    "load_backbone": ("jaxsode.backbones", "load"),
}
_MODULES = ("algebra", "errors", "kernels", "pictures")

# What was here when everything was flat, and where it is now; gone with the next release.
_FORMER = {
    "EMBEDDINGS": ("algebra.embedding", "EMBEDDINGS"),
    "Moments": ("algebra.moments", "Moments"),
    "align": ("algebra.pyramid", "align"),
    "anomaly_map": ("algebra.distance", "anomaly_map"),
    "covariance": ("algebra.moments", "covariance"),
    "embedding": ("algebra.embedding", "named"),
    "empty": ("algebra.moments", "init"),
    "gaussian": ("algebra.embedding", "gaussian"),
    "identity": ("algebra.embedding", "identity"),
    "inverse_cholesky": ("algebra.cholesky", "inverse_cholesky"),
    "mahalanobis": ("algebra.distance", "mahalanobis"),
    "merge": ("algebra.moments", "merge"),
    "of_batch": ("algebra.moments", "of_batch"),
    "over_grid": ("algebra", "over_grid"),
    "project_then_align": ("algebra.pyramid", "project_then_align"),
    "sampled": ("algebra.embedding", "sampled"),
    "semi_orthogonal": ("algebra.embedding", "semi_orthogonal"),
    "update": ("algebra.moments", "update"),
    "whitener": ("algebra.precision", "whitener"),
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        module, attribute = _LATE[name]
        with uncollected():
            return getattr(importlib.import_module(module), attribute)
    if name in _MODULES:
        with uncollected():
            return importlib.import_module(f"jaxsode.{name}")
    if name in _FORMER:
        module, attribute = _FORMER[name]
        warnings.warn(f"jaxsode.{name} is now jaxsode.{module}.{attribute}", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(f"jaxsode.{module}"), attribute)
    raise AttributeError(f"module 'jaxsode' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
