"""Squared distances of a grid of locations by triangular whiteners: on a CPU in code, of half the numbers."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels import native
from jaxsode.kernels.switch import choose, is_evaluated


def squared_distances(
    z: Float[Array, "N H W k"],
    mean: Float[Array, "H W k"],
    transposed: Float[Array, "H W k k"],
    *,
    plain: Callable[..., Any],
) -> Float[Array, "N H W"]:
    """‖M(z − μ)‖² at each location; in code where it is `evaluated`.

    Args:
        z: (N, H, W, k).
        mean: (H, W, k), μ.
        transposed: (H, W, k, k), Mᵀ, zero below the diagonal.
        plain: (z, μ, Mᵀ) → the result, in the words of JAX.

    Returns:
        (N, H, W). Infinity stays infinite in code, and is NaN in words, where it is multiplied by M's zeros.
    """
    known = is_evaluated() and all(array.dtype == jnp.float32 for array in (z, mean, transposed))
    if not known or not native.measures(z):
        return plain(z, mean, transposed)
    return choose(z, mean, transposed, plain=plain, cpu=native.squared_distances)
