"""Moments of a grid of locations with one more batch each: on a CPU in code, in the state's own memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxsode.kernels import native
from jaxsode.kernels.switch import choose, is_evaluated


def update_moments(state: Any, z: Any, where: Any, *, plain: Callable[[Any, Any, Any], Any]) -> Any:
    """The state with those vectors that count; in code where it is `evaluated`.

    Args:
        state: a pytree of count (H, W) int32, origin (H, W, k), offset (H, W, k) and scatter (H, W, k, k), in
            this order; of `jaxsode.algebra.moments`.
        z: (H, W, N, k).
        where: (N,) bool.
        plain: (state, z, where) → the state, in the words of JAX.

    Returns:
        The state, of the same structure.
    """

    def in_code(state: Any, z: Any, where: Any) -> Any:
        leaves, structure = jax.tree.flatten(state)
        return jax.tree.unflatten(structure, native.update_moments(leaves, z, where))

    count, *others = jax.tree.leaves(state)
    known = count.dtype == jnp.int32 and all(array.dtype == jnp.float32 for array in (*others, z))
    if not is_evaluated() or not known or native.ready() is None:
        return plain(state, z, where)
    return choose(state, z, where, plain=plain, cpu=in_code)
