"""One scatter for all locations: the paper's global precision, which Table 1 holds against the local one.

Two readings of it. Each location keeps a mean of its own and the scatters are added up: that is this page.
Or all vectors of all locations are one set, with one mean: those are the moments of `moments`, given all of
them. Neither ever forms the H·W·k² numbers of the local scatters: a batch's is one matrix product.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Bool, Float, Int
from jaxsode.algebra import moments
from jaxsode.algebra.grid import over_grid


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pooled:
    """The state on the grid.

    Attributes:
        count: (H, W) int32, number of pictures, N, at every location the same.
        origin: (H, W, k) fixed vectors near the means.
        offset: (H, W, k) the means less the origins.
        scatter: (k, k) the sum of all locations' scatters.
    """

    count: Int[Array, "H W"]
    origin: Float[Array, "H W k"]
    offset: Float[Array, "H W k"]
    scatter: Float[Array, "k k"]

    @property
    def mean(self) -> Float[Array, "H W k"]:
        """(H, W, k) μ of each location."""
        return self.origin + self.offset


def init(k: int, *, grid: tuple[int, int], dtype: jax.typing.DTypeLike = jnp.float32) -> Pooled:
    """The state of no pictures at all.

    Args:
        k: the embedding size.
        grid: (H, W).
        dtype: of every array but the count.

    Returns:
        The state with count 0.
    """
    return Pooled(
        count=jnp.zeros(grid, jnp.int32),
        origin=jnp.zeros((*grid, k), dtype),
        offset=jnp.zeros((*grid, k), dtype),
        scatter=jnp.zeros((k, k), dtype),
    )


def of_batch(z: Float[Array, "H W N k"], where: Bool[Array, " N"] | None = None) -> Pooled:
    """The state of N pictures.

    Args:
        z: (H, W, N, k) embedded features.
        where: (N,) whether a picture counts, as for `moments.of_batch`.

    Returns:
        The state of those that count.
    """
    count, origin, offset, deviation = over_grid(moments.centred, in_axes=(0, None))(z, where)
    # Centred to the last digit first: in a sum over the grid nothing can be taken off again at each location.
    deviation = deviation - offset[:, :, None, :]
    if where is not None:
        deviation = jnp.where(where[None, None, :, None], deviation, 0)
    return Pooled(count, origin, offset, _product(deviation, deviation))


def update(state: Pooled, z: Float[Array, "H W N k"], where: Bool[Array, " N"] | None = None) -> Pooled:
    """The state with one more batch.

    Args:
        state: of the pictures so far.
        z: (H, W, N, k) the batch's embedded features.
        where: (N,) whether a picture counts; all count if None.

    Returns:
        The state of both.
    """
    return merge(state, of_batch(z, where))


def merge(a: Pooled, b: Pooled) -> Pooled:
    """The state of the union of two disjoint sets of pictures.

    Args:
        a: of the one set.
        b: of the other.

    Returns:
        The state with N = N_a + N_b; either may be empty.
    """
    count, offset, delta, share = over_grid(moments.merged_mean)(
        (a.count, a.origin, a.offset), (b.count, b.origin, b.offset)
    )
    weight = a.count.astype(share.dtype) * share
    return Pooled(
        count=count,
        origin=jnp.where(a.count[:, :, None] > 0, a.origin, b.origin),
        offset=offset,
        scatter=a.scatter + b.scatter + _product(delta * weight[:, :, None], delta),
    )


def remove(state: Pooled, part: Pooled) -> Pooled:
    """The state without some of the pictures: `merge` backwards.

    Args:
        state: of all pictures.
        part: of those to be removed, which must be among them.

    Returns:
        The state with N = N_all − N_part. The scatter is NaN where it shows that the part was never in, see
        `moments.remove`.
    """
    count, offset, delta, ratio = over_grid(moments.parted_mean)(
        (state.count, state.origin, state.offset), (part.count, part.origin, part.offset)
    )
    weight = ratio * state.count.astype(ratio.dtype)
    between = _product(delta * weight[:, :, None], delta)
    scatter = jnp.where(jnp.all(count == 0), 0, state.scatter - part.scatter - between)
    never = jnp.any(count < 0) | moments.spoilt(scatter, state.scatter, state.count[0, 0])
    return Pooled(count, state.origin, offset, jnp.where(never, jnp.nan, scatter))


def covariance(state: Pooled) -> Float[Array, "k k"]:
    """C, one for all locations: the mean of theirs.

    Args:
        state: of at least one picture.

    Returns:
        (k, k), symmetric, positive semi-definite.
    """
    # In floating point: locations times pictures may be more than an int32 holds.
    return state.scatter / jnp.sum(state.count.astype(state.scatter.dtype))


def _product(a: Float[Array, "H W *N k"], b: Float[Array, "H W *N k"]) -> Float[Array, "k k"]:
    k = a.shape[-1]
    return jnp.matmul(a.reshape(-1, k).T, b.reshape(-1, k), precision=jax.lax.Precision.HIGHEST)
