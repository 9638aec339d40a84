"""Which convolutions have a fast form on a CPU, and the plain one."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels.depthwise import depthwise_conv
from jaxsode.kernels.switch import choose
from jaxsode.kernels.winograd import winograd_conv3x3


def conv2d(
    x: Float[Array, "N H W C"],
    kernel: Float[Array, "rows columns _ out"],
    *,
    stride: int,
    padding: tuple[tuple[int, int], tuple[int, int]],
    groups: int,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "N _ _ out"]:
    """Cross-correlation of feature maps with a kernel.

    Args:
        x: (N, H, W, C).
        kernel: (rows, columns, C / groups, C'), of x's dtype.
        stride: of rows and columns alike, ≥ 1.
        padding: zeros (before, after) of rows, then of columns.
        groups: number of groups of channels; C makes it depthwise.
        precision: of products on accelerators; None is JAX's default.

    Returns:
        (N, H', W', C').
    """
    plain = partial(
        jax.lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=precision,
    )
    if 1 < groups == x.shape[3] == kernel.shape[3]:
        return choose(x, kernel, plain=plain, cpu=partial(depthwise_conv, stride=stride, padding=padding))
    same3x3 = (kernel.shape[:2], stride, padding, groups) == ((3, 3), 1, ((1, 1), (1, 1)), 1)
    if same3x3 and _worth_winograd(x, kernel):
        return choose(x, kernel, plain=plain, cpu=partial(winograd_conv3x3, precision=precision))
    return plain(x, kernel)


def _worth_winograd(x: Float[Array, "N H W C"], kernel: Float[Array, "3 3 C out"]) -> bool:
    """Whether it saves more than it adds: sums over tiles, and a kernel four times as large.

    Measured on AVX2: no gain at 32 channels, or with an eighth as many tiles of 4 × 4 as channels; 1.5 to 2.5
    times as fast well above both.
    """
    N, H, W, C = x.shape
    tiles = (N if isinstance(N, int) else 1) * -(-H // 4) * -(-W // 4)  # one picture of a symbolic batch
    return x.dtype == jnp.float32 and min(kernel.shape[2:]) >= 64 and 4 * tiles >= C
