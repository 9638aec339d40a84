"""Anomaly segmentation by semi-orthogonal embedding, in JAX and Flax.

The algebra is exposed here and needs jax alone; `Detector` and `load_backbone` come with the first use.
"""

from typing import TYPE_CHECKING, Any

from jaxsode.algebra import (
    EMBEDDINGS,
    Moments,
    align,
    anomaly_map,
    covariance,
    embedding,
    empty,
    gaussian,
    identity,
    inverse_cholesky,
    mahalanobis,
    merge,
    of_batch,
    over_grid,
    project_then_align,
    sampled,
    semi_orthogonal,
    update,
    whitener,
)

if TYPE_CHECKING:
    from jaxsode.backbones import load as load_backbone
    from jaxsode.detector import Detector

__version__ = "0.1.0"

__all__ = [
    "EMBEDDINGS",
    "Detector",
    "Moments",
    "align",
    "anomaly_map",
    "covariance",
    "embedding",
    "empty",
    "gaussian",
    "identity",
    "inverse_cholesky",
    "load_backbone",
    "mahalanobis",
    "merge",
    "of_batch",
    "over_grid",
    "project_then_align",
    "sampled",
    "semi_orthogonal",
    "update",
    "whitener",
]


def __getattr__(name: str) -> Any:
    # Late, so that a program that wants the algebra does not import Flax.
    if name == "Detector":
        from jaxsode.detector import Detector

        return Detector
    if name == "load_backbone":
        from jaxsode.backbones import load

        return load
    raise AttributeError(f"module 'jaxsode' has no attribute {name!r}")
