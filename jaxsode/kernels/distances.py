"""Squared distances of a grid of locations by triangular whiteners in panels: on a CPU in code."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels import native
from jaxsode.kernels.switch import choose, is_evaluated


def squared_distances(
    z: Float[Array, "N H W k"],
    mean: Float[Array, "H W k"],
    panels: tuple[Array, ...],
    *,
    plain: Callable[..., Any],
) -> Float[Array, "N H W"]:
    """‖M(z − μ)‖² at each location; in code where it is `evaluated`.

    Args:
        z: (N, H, W, k).
        mean: (H, W, k), μ.
        panels: (H, W, rows, columns) each, of Mᵀ: some columns, in order, and of them the rows that aren't
            zero in the last; the first panel begins with columns of zeros that Mᵀ lacks.
        plain: (z, μ, panels) → the result, in the words of JAX.

    Returns:
        (N, H, W), infinite or NaN where z or μ is.
    """
    known = is_evaluated() and all(array.dtype == jnp.float32 for array in (z, mean, *panels))
    if not known or not native.measures(z, panels):
        return plain(z, mean, panels)
    return choose(z, mean, panels, plain=plain, cpu=native.squared_distances)
