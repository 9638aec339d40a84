"""The paper's algebra: pure functions of arrays for any JAX program, in the paper's order.

embedding → pyramid → moments → precision → distance; each is written for one location and mapped over the
grid by `over_grid`. Needs jax alone; all of it can be jitted, mapped and differentiated.
"""

from jaxsode.algebra.cholesky import inverse_cholesky
from jaxsode.algebra.distance import anomaly_map, mahalanobis
from jaxsode.algebra.embedding import EMBEDDINGS, embedding, gaussian, identity, sampled, semi_orthogonal
from jaxsode.algebra.grid import over_grid
from jaxsode.algebra.moments import Moments, covariance, empty, merge, of_batch, update
from jaxsode.algebra.precision import whitener
from jaxsode.algebra.pyramid import align, project_then_align

__all__ = [
    "EMBEDDINGS",
    "Moments",
    "align",
    "anomaly_map",
    "covariance",
    "embedding",
    "empty",
    "gaussian",
    "identity",
    "inverse_cholesky",
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
