"""Depthwise convolution as a sum of shifted products, for CPUs.

With a filter for each channel there is nothing to reduce over but the taps, no matrix product. Written out,
the sum over taps is one elementwise loop, vectorised over channels, that reads each neighbourhood from the
caches; the convolution of XLA's CPU library goes through it number by number.
"""

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float


def depthwise_conv(
    x: Float[Array, "N H W C"],
    kernel: Float[Array, "rows columns 1 C"],
    *,
    stride: int,
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> Float[Array, "N _ _ C"]:
    """Cross-correlation of each channel with its own filter, summed in float32.

    Args:
        x: (N, H, W, C).
        kernel: (rows, columns, 1, C).
        stride: of rows and columns alike, ≥ 1.
        padding: zeros (before, after) of rows, then of columns.

    Returns:
        (N, H', W', C) in x's dtype.
    """
    rows, columns = kernel.shape[:2]
    # Without the barrier every tap would ask anew whether it reads padding.
    padded = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0))))
    height = (padded.shape[1] - rows) // stride + 1
    width = (padded.shape[2] - columns) // stride + 1
    taps = kernel[:, :, None, None].astype(jnp.float32)
    total = jnp.zeros((x.shape[0], height, width, x.shape[3]), jnp.float32)
    for i in range(rows):
        for j in range(columns):
            seen = padded[:, i : i + stride * (height - 1) + 1 : stride]
            seen = seen[:, :, j : j + stride * (width - 1) + 1 : stride]
            total = total + seen.astype(jnp.float32) * taps[i, j]
    return total.astype(x.dtype)
