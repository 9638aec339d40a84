"""Which convolutions have a fast form on a CPU, and the plain one."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels import native
from jaxsode.kernels.depthwise import depthwise_conv
from jaxsode.kernels.pooling import max_pool3x3
from jaxsode.kernels.switch import choose
from jaxsode.kernels.winograd import winograd_conv3x3


def conv2d(
    x: Float[Array, "N H W C"],
    kernel: Float[Array, "rows columns _ out"],
    bias: Float[Array, " out"] | None = None,
    shortcut: Float[Array, "N _ _ out"] | None = None,
    *,
    stride: int,
    padding: tuple[tuple[int, int], tuple[int, int]],
    groups: int,
    relu: bool = False,
    packed: native.Packed | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "N _ _ out"]:
    """Cross-correlation of feature maps with a kernel, plus a bias, plus a shortcut, then a ReLU.

    Args:
        x: (N, H, W, C).
        kernel: (rows, columns, C / groups, C'), of x's dtype.
        bias: (C',), of x's dtype; None adds nothing.
        shortcut: (N, H', W', C'), of x's dtype; None adds nothing.
        stride: of rows and columns alike, ≥ 1.
        padding: zeros (before, after) of rows, then of columns.
        groups: number of groups of channels; C makes it depthwise.
        relu: whether what is negative becomes 0.
        packed: the kernel as machine code reads it, if the program is for a CPU of this process; else None.
        precision: of products on accelerators; None is JAX's default.

    Returns:
        (N, H', W', C').
    """

    def in_words(x: Array, kernel: Array, bias: Array | None, shortcut: Array | None, _: Any) -> Array:
        x = _conv2d(x, kernel, stride=stride, padding=padding, groups=groups, precision=precision)
        x = x if bias is None else x + bias.reshape(1, 1, 1, -1)
        x = x if shortcut is None else x + shortcut
        return jax.nn.relu(x) if relu else x

    def in_code(x: Array, _: Array, bias: Array | None, shortcut: Array | None, packed: Any) -> Array:
        bias = jnp.zeros(kernel.shape[3:], x.dtype) if bias is None else bias
        return native.conv2d(x, packed, bias, shortcut, stride=stride, padding=padding, relu=relu)

    operands = x, kernel, bias, shortcut, packed
    if not native.has_code(x, packed, stride=stride, padding=padding):
        return in_words(*operands)
    return choose(*operands, plain=in_words, cpu=in_code, here=True)


def conv2d_max_pool3x3(
    x: Float[Array, "N H W C"],
    kernel: Float[Array, "rows columns C out"],
    bias: Float[Array, " out"],
    *,
    stride: int,
    padding: tuple[tuple[int, int], tuple[int, int]],
    packed: native.Packed | None = None,
    precision: jax.lax.PrecisionLike = None,
) -> Float[Array, "N _ _ out"]:
    """`max_pool3x3` of `conv2d` with a bias and a ReLU.

    Args:
        x, kernel, bias, stride, padding, packed, precision: see `conv2d`.

    Returns:
        (N, ⌈H'/2⌉, ⌈W'/2⌉, C').
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding}

    def in_words(x: Array, kernel: Array, bias: Array, _: Any) -> Array:
        return max_pool3x3(conv2d(x, kernel, bias, groups=1, relu=True, precision=precision, **options))

    def in_code(x: Array, _: Array, bias: Array, packed: Any) -> Array:
        return native.conv2d_max_pool3x3(x, packed, bias, **options)

    operands = x, kernel, bias, packed
    if packed is None or packed.winograd or not native.has_code(x, packed, **options):
        return in_words(*operands)
    return choose(*operands, plain=in_words, cpu=in_code, here=True)


def _conv2d(x: Array, kernel: Array, *, stride: int, padding: Any, groups: int, precision: Any) -> Array:
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
    """Whether Winograd's form saves more than it adds: sums over tiles, and a kernel four times as large.

    Measured on AVX2: no gain at 32 channels, or with an eighth as many tiles of 4 × 4 as channels; 1.5 to 2.5
    times as fast well above both.
    """
    N, H, W, C = x.shape
    tiles = (N if isinstance(N, int) else 1) * -(-H // 4) * -(-W // 4)  # one picture of a symbolic batch
    return x.dtype == jnp.float32 and min(kernel.shape[2:]) >= 64 and 4 * tiles >= C
