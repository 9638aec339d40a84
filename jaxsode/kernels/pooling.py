"""Max-pooling of 3 × 3 at stride 2: as sums of a CPU's vectors, and the plain one."""

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels.switch import choose


def max_pool3x3(x: Float[Array, "N H W C"]) -> Float[Array, "N _ _ C"]:
    """Largest of 3 × 3 at stride 2, one row and column of −∞ around.

    Where several are largest, the plain form's gradient goes to one of them and the other's to all.

    Args:
        x: (N, H, W, C).

    Returns:
        (N, ⌈H/2⌉, ⌈W/2⌉, C).
    """
    return choose(x, plain=plain_max_pool3x3, cpu=_by_slices)


def plain_max_pool3x3(x: Float[Array, "N H W C"]) -> Float[Array, "N _ _ C"]:
    """The plain twin. Padded first and pooled without padding after: ONNX exporters lose a window's padding.

    Args:
        x: (N, H, W, C).

    Returns:
        (N, ⌈H/2⌉, ⌈W/2⌉, C).
    """
    return jax.lax.reduce_window(_padded(x), -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "VALID")


def _by_slices(x: Float[Array, "N H W C"]) -> Float[Array, "N _ _ C"]:
    """Rows, then columns: XLA makes loops of it that are vectorised over channels; of a window it doesn't."""
    H, W = ((n + 1) // 2 for n in x.shape[1:3])
    x = _padded(x)
    for axis, length in ((1, H), (2, W)):
        first, second, third = (jax.lax.slice_in_dim(x, i, i + 2 * length - 1, 2, axis) for i in range(3))
        x = jnp.maximum(jnp.maximum(first, second), third)
    return x


def _padded(x: Float[Array, "N H W C"]) -> Array:
    lowest = jnp.array(-jnp.inf, x.dtype)
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=lowest)
