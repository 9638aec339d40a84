"""Count, mean and scatter of the embedded features at one location, updated batch by batch.

Moments of any two sets of pictures merge exactly (Chan, Golub & LeVeque, 1983), so fitting takes the memory
of one batch however many pictures there are. E[zzᵀ] − μμᵀ would lose all digits where the mean is large
against the spread; here nothing large is ever squared: all sums are of deviations from an origin near the
mean, which the first batch sets.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels import sum_of_outer_products


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moments:
    """The state at one location (or, with leading axes H and W, on the grid).

    Attributes:
        count: () number of pictures, N.
        origin: (k,) a fixed vector near the mean, that of the first batch.
        offset: (k,) the mean less the origin.
        scatter: (k, k) Σ (z − μ)(z − μ)ᵀ.
    """

    count: Float[Array, "..."]
    origin: Float[Array, "... k"]
    offset: Float[Array, "... k"]
    scatter: Float[Array, "... k k"]

    @property
    def mean(self) -> Float[Array, "... k"]:
        """(k,) μ = E[z]."""
        return self.origin + self.offset


def empty(k: int, *, grid: tuple[int, ...] = (), dtype: jax.typing.DTypeLike = jnp.float32) -> Moments:
    """Moments of no pictures at all.

    Args:
        k: the embedding size.
        grid: leading axes, () for one location or (H, W).
        dtype: of every array.

    Returns:
        Moments with count 0.
    """
    return Moments(
        count=jnp.zeros(grid, dtype),
        origin=jnp.zeros((*grid, k), dtype),
        offset=jnp.zeros((*grid, k), dtype),
        scatter=jnp.zeros((*grid, k, k), dtype),
    )


def of_batch(z: Float[Array, "N k"], weight: Float[Array, " N"] | None = None) -> Moments:
    """Moments of the N embedded vectors of one location.

    Args:
        z: (N, k).
        weight: (N,) 1 for a picture that counts, 0 for padding; all ones if None.

    Returns:
        Moments of those that count.
    """
    weight = jnp.ones(z.shape[0], z.dtype) if weight is None else weight
    count = jnp.sum(weight)
    divisor = jnp.maximum(count, 1)
    origin = jnp.sum(z * weight[:, None], axis=0) / divisor
    deviation = (z - origin[None, :]) * weight[:, None]
    # What rounding left between the origin and the mean; without it the scatter is off by its square.
    offset = jnp.sum(deviation, axis=0) / divisor
    scatter = sum_of_outer_products(deviation) - count * jnp.outer(offset, offset)
    return Moments(count, origin, offset, scatter)


def update(moments: Moments, z: Float[Array, "N k"], weight: Float[Array, " N"] | None = None) -> Moments:
    """The moments with one more batch. A batch of tens of pictures costs little more than a single one.

    Args:
        moments: of the pictures so far.
        z: (N, k) the batch's embedded vectors at this location.
        weight: (N,) 1 for a picture that counts, 0 for padding; all ones if None.

    Returns:
        Moments of both.
    """
    return merge(moments, of_batch(z, weight))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of the union of two disjoint sets of pictures.

    Args:
        a: of the one set.
        b: of the other.

    Returns:
        Moments with N = N_a + N_b; either may be empty.
    """
    count = a.count + b.count
    share = b.count / jnp.maximum(count, 1)
    delta = (b.origin - a.origin) + (b.offset - a.offset)
    return Moments(
        count=count,
        origin=jnp.where(a.count > 0, a.origin, b.origin),
        offset=jnp.where(a.count > 0, a.offset + delta * share, b.offset),
        scatter=a.scatter + b.scatter + jnp.outer(delta, delta) * (a.count * share),
    )


def covariance(moments: Moments) -> Float[Array, "k k"]:
    """C = E[(z − μ)(z − μ)ᵀ], divided by N, not N − 1 (§2.1).

    Args:
        moments: of at least one picture.

    Returns:
        (k, k), symmetric, positive semi-definite of rank at most N − 1.
    """
    return moments.scatter / moments.count
