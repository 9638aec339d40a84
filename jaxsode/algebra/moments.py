"""Count, mean and scatter of the embedded features at one location, updated batch by batch.

Moments of any two sets of pictures merge exactly (Chan, Golub & LeVeque, 1983), so fitting takes the memory
of one batch however many pictures there are. E[zzᵀ] − μμᵀ would lose all digits where the mean is large
against the spread; here nothing large is ever squared: all sums are of deviations from an origin near the
mean, which the first batch sets.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Bool, Float, Int
from jaxsode.errors import ArgumentError
from jaxsode.kernels import sum_of_outer_products


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Moments:
    """The state at one location (or, with leading axes H and W, on the grid).

    Attributes:
        count: () int32, number of pictures, N.
        origin: (k,) a fixed vector near the mean, that of the first batch.
        offset: (k,) the mean less the origin.
        scatter: (k, k) Σ (z − μ)(z − μ)ᵀ.
    """

    count: Int[Array, "..."]
    origin: Float[Array, "... k"]
    offset: Float[Array, "... k"]
    scatter: Float[Array, "... k k"]

    @property
    def mean(self) -> Float[Array, "... k"]:
        """(k,) μ = E[z]."""
        return self.origin + self.offset


def init(k: int, *, grid: tuple[int, ...] = (), dtype: jax.typing.DTypeLike = jnp.float32) -> Moments:
    """Moments of no pictures at all.

    Args:
        k: the embedding size.
        grid: leading axes, () for one location or (H, W).
        dtype: of every array but the count.

    Returns:
        Moments with count 0.
    """
    return Moments(
        count=jnp.zeros(grid, jnp.int32),
        origin=jnp.zeros((*grid, k), dtype),
        offset=jnp.zeros((*grid, k), dtype),
        scatter=jnp.zeros((*grid, k, k), dtype),
    )


def of_batch(z: Float[Array, "N k"], where: Bool[Array, " N"] | None = None) -> Moments:
    """Moments of the N embedded vectors of one location.

    Args:
        z: (N, k).
        where: (N,) whether a picture counts; what stands in the others, NaN too, is not looked at. All count
            if None.

    Returns:
        Moments of those that count.
    """
    count, origin, offset, deviation = centred(z, where)
    scatter = sum_of_outer_products(deviation) - count.astype(z.dtype) * jnp.outer(offset, offset)
    return Moments(count, origin, offset, scatter)


def centred(
    z: Float[Array, "N k"], where: Bool[Array, " N"] | None = None
) -> tuple[Int[Array, ""], Float[Array, " k"], Float[Array, " k"], Float[Array, "N k"]]:
    """What a batch's moments are made of.

    Args:
        z: (N, k).
        where: (N,) whether a picture counts; all count if None.

    Returns:
        The count, the origin (k,), the offset (k,) of the mean from it, and the deviations (N, k) from the
        origin, zero where a picture doesn't count.

    Raises:
        ArgumentError: `where` is not bool.
    """
    where = jnp.ones(z.shape[0], bool) if where is None else where
    if where.dtype != bool:
        raise ArgumentError(f"where is {where.dtype}: a picture counts or it doesn't, give bool")
    count = jnp.sum(where, dtype=jnp.int32)
    divisor = jnp.maximum(count, 1).astype(z.dtype)
    z = jnp.where(where[:, None], z, 0)
    origin = jnp.sum(z, axis=0) / divisor
    deviation = jnp.where(where[:, None], z - origin[None, :], 0)
    # What rounding left between the origin and the mean; without it the scatter is off by its square.
    offset = jnp.sum(deviation, axis=0) / divisor
    return count, origin, offset, deviation


def update(moments: Moments, z: Float[Array, "N k"], where: Bool[Array, " N"] | None = None) -> Moments:
    """The moments with one more batch. A batch of tens of pictures costs little more than a single one.

    Args:
        moments: of the pictures so far.
        z: (N, k) the batch's embedded vectors at this location.
        where: (N,) whether a picture counts, see `of_batch`; all count if None.

    Returns:
        Moments of both.
    """
    return merge(moments, of_batch(z, where))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of the union of two disjoint sets of pictures.

    Args:
        a: of the one set.
        b: of the other.

    Returns:
        Moments with N = N_a + N_b; either may be empty.
    """
    count, offset, delta, share = merged_mean((a.count, a.origin, a.offset), (b.count, b.origin, b.offset))
    return Moments(
        count=count,
        origin=jnp.where(a.count > 0, a.origin, b.origin),
        offset=offset,
        scatter=a.scatter + b.scatter + jnp.outer(delta, delta) * (a.count.astype(share.dtype) * share),
    )


Centre = tuple[Int[Array, ""], Float[Array, " k"], Float[Array, " k"]]
"""Count, origin and offset."""


def merged_mean(
    a: Centre, b: Centre
) -> tuple[Int[Array, ""], Float[Array, " k"], Float[Array, " k"], Float[Array, ""]]:
    """What the union's moments have besides the scatter.

    Args:
        a: count, origin (k,) and offset (k,) of the one set, whose origin is kept unless it is empty.
        b: of the other.

    Returns:
        The count, the offset (k,) from the origin that is kept, δ = μ_b − μ_a (k,), and N_b / N ().
    """
    (count_a, origin_a, offset_a), (count_b, origin_b, offset_b) = a, b
    count = count_a + count_b
    share = count_b.astype(offset_a.dtype) / jnp.maximum(count, 1).astype(offset_a.dtype)
    delta = (origin_b - origin_a) + (offset_b - offset_a)
    return count, jnp.where(count_a > 0, offset_a + delta * share, offset_b), delta, share


def remove(moments: Moments, part: Moments) -> Moments:
    """The moments without some of the pictures: the exact down-date, `merge` backwards.

    Args:
        moments: of all pictures.
        part: of those to be removed, which must be among them.

    Returns:
        Moments with N = N_all − N_part, on the origin of `moments`. The scatter is NaN where it shows that
        the part was never in: more pictures are removed than there are, or a variance comes out negative by
        more than rounding.
    """
    count, offset, delta, ratio = parted_mean(
        (moments.count, moments.origin, moments.offset), (part.count, part.origin, part.offset)
    )
    between = jnp.outer(delta, delta) * (ratio * moments.count.astype(ratio.dtype))
    scatter = jnp.where(count == 0, 0, moments.scatter - part.scatter - between)
    never = (count < 0) | spoilt(scatter, moments.scatter, moments.count)
    return Moments(count, moments.origin, offset, jnp.where(never, jnp.nan, scatter))


def parted_mean(
    a: Centre, part: Centre
) -> tuple[Int[Array, ""], Float[Array, " k"], Float[Array, " k"], Float[Array, ""]]:
    """What the rest's moments have besides the scatter, as `merged_mean` has the union's.

    Args:
        a: count, origin (k,) and offset (k,) of all, whose origin is kept.
        part: of those to be removed.

    Returns:
        The count, the offset (k,), δ = μ_part − μ_all (k,), and N_part / N_rest ().
    """
    (count_a, origin_a, offset_a), (count_part, origin_part, offset_part) = a, part
    count = count_a - count_part
    ratio = count_part.astype(offset_a.dtype) / jnp.maximum(count, 1).astype(offset_a.dtype)
    delta = (origin_part - origin_a) + (offset_part - offset_a)
    return count, jnp.where(count > 0, offset_a - delta * ratio, 0), delta, ratio


def spoilt(
    scatter: Float[Array, "k k"], before: Float[Array, "k k"], count: Int[Array, ""]
) -> Bool[Array, ""]:
    """Whether something was removed from a scatter that was never in.

    Args:
        scatter: (k, k), after.
        before: (k, k).
        count: of the pictures before.

    Returns:
        () whether a variance is negative by more than rounding.
    """
    # Sums of N rounded terms lie within N units of the last place; what goes further was not in the sum.
    rounding = 4 * jnp.finfo(before.dtype).eps * count.astype(before.dtype)
    return jnp.any(jnp.diagonal(scatter) < -rounding * jnp.diagonal(before))


def covariance(moments: Moments) -> Float[Array, "k k"]:
    """C = E[(z − μ)(z − μ)ᵀ], divided by N, not N − 1 (§2.1).

    Args:
        moments: of at least one picture.

    Returns:
        (k, k), symmetric, positive semi-definite of rank at most N − 1.
    """
    return moments.scatter / moments.count.astype(moments.scatter.dtype)
