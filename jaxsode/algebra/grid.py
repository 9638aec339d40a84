"""One location, then the grid: the mathematics is written for one location and mapped over H and W."""

from collections.abc import Callable
from typing import Any

import jax


def over_grid(function: Callable[..., Any], *, in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Map a function of one location over the H × W grid.

    Args:
        function: takes arrays of one location.
        in_axes: where H stands in each argument, W right behind it, as for `jax.vmap`. By default they lead;
            embedded features of pictures, (N, H, W, k), have them at 1.
        out_axes: where H stands in each result, W right behind it.

    Returns:
        The function of arrays that have the axes H and W at those places.
    """
    # The inner map sees arrays from which H is gone already, so W stands where H stood.
    return jax.vmap(jax.vmap(function, in_axes, out_axes), in_axes, out_axes)
