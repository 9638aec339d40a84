"""The paper's algebra: pure functions of arrays for any JAX program, a page a step, in the paper's order.

embedding → pyramid → moments → precision → distance; each is written for one location and mapped over the
grid by `over_grid`. Needs jax alone; all of it can be jitted, mapped and differentiated.
"""

from jaxsode.algebra import (
    bounds,
    cholesky,
    distance,
    dual,
    eigenvectors,
    embedding,
    leave_group_out,
    leave_one_out,
    likelihood,
    moments,
    packing,
    pooled,
    precision,
    pyramid,
)
from jaxsode.algebra.embedding import EMBEDDINGS
from jaxsode.algebra.grid import over_grid
from jaxsode.algebra.moments import Moments
from jaxsode.algebra.precision import PRECISIONS

__all__ = [
    "EMBEDDINGS",
    "PRECISIONS",
    "Moments",
    "bounds",
    "cholesky",
    "distance",
    "dual",
    "eigenvectors",
    "embedding",
    "leave_group_out",
    "leave_one_out",
    "likelihood",
    "moments",
    "over_grid",
    "packing",
    "pooled",
    "precision",
    "pyramid",
]
