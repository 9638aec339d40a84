"""One location, then the grid: the mathematics is written for one location and mapped over H and W."""

from collections.abc import Callable
from typing import Any

import jax

from jaxsode.errors import ArgumentError


def over_grid(function: Callable[..., Any], *, in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """Map a function of one location over the H × W grid.

    Args:
        function: takes arrays of one location, by position.
        in_axes: where H stands in each argument, W right behind it, as for `jax.vmap`; negative ones count
            from the end, so −3 is H of (N, H, W, k). By default they lead.
        out_axes: where H stands in each result, W right behind it.

    Returns:
        The function of arrays that have the axes H and W at those places.

    Raises:
        ArgumentError: an axis is −1, behind which W can't stand; when called, a keyword, whose axes would not
            be those that were given.
    """
    # The inner map sees arrays from which H is gone already. Counted from the front W stands where H stood,
    # counted from the end one nearer to it.
    inner = jax.vmap(function, _of_width(in_axes), _of_width(out_axes))
    outer = jax.vmap(inner, in_axes, out_axes)

    def mapped(*arguments: Any, **options: Any) -> Any:
        if options:
            raise ArgumentError(
                f"over_grid takes no keyword ({', '.join(options)}): pass it by position, or bind what is "
                "the same at all locations with functools.partial"
            )
        return outer(*arguments)

    return mapped


def _of_width(axes: Any) -> Any:
    return jax.tree.map(_one, axes)


def _one(axis: int) -> int:
    if axis == -1:
        raise ArgumentError(
            "over_grid: H can't be the last axis (−1), for W stands behind it: give −2 or less"
        )
    return axis + 1 if axis < 0 else axis
