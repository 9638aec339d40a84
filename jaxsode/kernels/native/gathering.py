"""The update of moments in machine code, and its call."""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxsode._typing import Array, Bool, Float
from jaxsode.kernels.native import code

LOCATIONS = 16
"""Of a task, at most."""


def update_moments(
    state: Sequence[Array], z: Float[Array, "H W N k"], where: Bool[Array, " N"]
) -> tuple[Array, Array, Array, Array]:
    """As `jaxsode.kernels.update_moments`, on a CPU: the scatter's memory is used up, and little is taken.

    Args:
        state: (H, W) count, (H, W, k) origin and offset, (H, W, k, k) scatter.
        z: (H, W, N, k).
        where: (N,).

    Returns:
        The same four of all vectors that count.
    """
    from jaxsode.kernels.native import moments

    count, origin, offset, scatter = state
    H, W, N, k = z.shape
    target = code.ready().target
    locations = max(1, min(LOCATIONS, H * W // 16))
    numbers = {
        "tasks": -(-H * W // locations),
        "k": k,
        "padded": target.padded(k),
        "rows": N,
        "locations": locations,
        "count": H * W,
        "working": moments.working(k, N, target),
    }
    operands = z, where.astype(jnp.float32), count, origin, offset, scatter
    shapes = origin.shape, offset.shape, scatter.shape
    origin, offset, scatter = code.call("moments", numbers, operands, shapes, reused={5: 2})
    return count + jnp.sum(where, dtype=count.dtype), origin, offset, scatter
