"""Σₙ dₙdₙᵀ: over a grid, H·W products of (k, N) and (N, k), each too small for a CPU's library."""

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels.switch import choose

# So many outer products are summed within one fused loop: each number of the sum then goes through memory
# once for that many pictures.
_FUSED = 32
# Beyond so many a library's product is worth its call, and a program that has them all written out is not.
_MOST = 256


def sum_of_outer_products(d: Float[Array, "N k"]) -> Float[Array, "k k"]:
    """Σₙ dₙdₙᵀ, exactly symmetric; for one location, to be mapped over the grid.

    Args:
        d: (N, k).

    Returns:
        (k, k).
    """
    if d.shape[0] > _MOST:
        return matrix_product(d)
    return choose(d, plain=matrix_product, cpu=fused_sum)


def matrix_product(d: Float[Array, "N k"]) -> Float[Array, "k k"]:
    """The plain twin: dᵀd by the platform's library, in full precision."""
    return jnp.einsum("ni,nj->ij", d, d, precision=jax.lax.Precision.HIGHEST)


def fused_sum(d: Float[Array, "N k"]) -> Float[Array, "k k"]:
    """The sum written out, for CPUs.

    It is one elementwise loop for the compiler, which vectorises over j and keeps each number in a register
    for all the pictures. Longer batches go through it piece by piece.
    """
    total = jnp.zeros((d.shape[1], d.shape[1]), d.dtype)
    for start in range(0, d.shape[0], _FUSED):
        for row in d[start : start + _FUSED]:
            total = total + row[:, None] * row[None, :]
        if start + _FUSED < d.shape[0]:
            total = jax.lax.optimization_barrier(total)
    return total
