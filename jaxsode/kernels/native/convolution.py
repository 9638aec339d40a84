"""Which convolutions have machine code, their kernels in the order that it reads them, and their calls."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode._typing import Array, Float
from jaxsode.kernels.native import code
from jaxsode.kernels.toom_cook import TAPS, TILE, WINDOW, G

ROWS = 4
"""Of the result that a task of the direct form makes. Their inputs stay in the cache for all channels."""
BLOCK = 28
"""Tiles that a task of Winograd's form makes at most: with 64 channels its transformed inputs and products
take half a megabyte."""
DEPTH = 64
"""Channels for which a panel of kernels is transformed at once, at most: the cache holds what comes of it."""
TRANSFORMED = 2**20
"""Numbers of a transformed kernel, at most, that is kept: of a larger one it takes longer to come from memory
than to make."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packed:
    """A kernel as machine code reads it.

    Attributes:
        panels: the numbers.
        window: rows and columns of the kernel.
        winograd: whether Winograd's form takes it.
    """

    panels: jax.Array
    window: tuple[int, int] = dataclasses.field(metadata={"static": True})
    winograd: bool = dataclasses.field(metadata={"static": True})


def pack(kernel: np.ndarray, *, stride: int, padding: Any, groups: int) -> Packed | None:
    """A kernel in the order in which machine code reads it.

    Args:
        kernel: (rows, columns, C, C') float32.
        stride, padding, groups: see `jaxsode.kernels.conv2d`.

    Returns:
        The kernel; None where there is no code for it.
    """
    machine = code.ready()
    rows, columns, channels, out_channels = kernel.shape
    if machine is None or groups != 1 or kernel.dtype != np.float32 or out_channels % machine.target.panel:
        return None
    panel = machine.target.panel
    same3x3 = (rows, columns, stride, padding) == (3, 3, 1, ((1, 1), (1, 1)))
    winograd = same3x3 and channels % machine.target.lanes == 0
    if winograd and WINDOW**2 * channels * out_channels <= TRANSFORMED:
        both = np.einsum("pi,qj->pqij", G, G).reshape(WINDOW**2, TAPS**2).astype(np.float32)
        kernel = both @ kernel.reshape(TAPS**2, -1)
    kernel = kernel.reshape(-1, out_channels // panel, panel).transpose(1, 0, 2)
    return Packed(jax.device_put(kernel), (rows, columns), winograd)


def has_code(x: Array, packed: Packed | None, *, stride: int, padding: Any) -> bool:
    """Whether the code takes it: float32, a known number of pictures, and something to do.

    Args:
        x: (N, H, W, C).
        packed: the kernel, or None.
        stride, padding: see `jaxsode.kernels.conv2d`.
    """
    if packed is None or x.dtype != jnp.float32 or not isinstance(x.shape[0], int):
        return False
    return min(x.shape[0], x.shape[3], *_size(x, packed, stride, padding)) > 0


def _size(x: Array, packed: Packed, stride: int, padding: Any) -> list[int]:
    """Height and width of the outputs."""
    return [
        (size + sum(around) - window) // stride + 1
        for size, around, window in zip(x.shape[1:3], padding, packed.window, strict=True)
    ]


def conv2d(
    x: Float[Array, "N H W C"],
    packed: Packed,
    bias: Float[Array, " out"],
    shortcut: Float[Array, "N _ _ out"] | None,
    *,
    stride: int,
    padding: tuple[tuple[int, int], tuple[int, int]],
    relu: bool,
) -> Float[Array, "N _ _ out"]:
    """Cross-correlation, plus bias, plus a shortcut, then a ReLU: as `jaxsode.kernels.conv2d`, on a CPU."""
    if packed.winograd:
        return _winograd(x, packed, bias, shortcut, relu)
    numbers, shape = _rows(x, packed, bias, stride, padding, relu)
    rows = min(ROWS, shape[1])
    copied = ((rows - 1) * stride + packed.window[0]) * numbers["padded"] * x.shape[3]
    numbers |= {"tasks": shape[0] * -(-shape[1] // rows), "rows": rows, "copied": copied, "working": copied}
    return _call("direct", numbers, x, packed, bias, shortcut, shape)


def conv2d_max_pool3x3(
    x: Float[Array, "N H W C"],
    packed: Packed,
    bias: Float[Array, " out"],
    *,
    stride: int,
    padding: tuple[tuple[int, int], tuple[int, int]],
) -> Float[Array, "N _ _ out"]:
    """As `jaxsode.kernels.conv2d_max_pool3x3`, on a CPU: what is pooled stays in the cache."""
    numbers, (N, height, width, out_channels) = _rows(x, packed, bias, stride, padding, relu=True)
    shape = (N, -(-height // 2), -(-width // 2), out_channels)
    rows = min(ROWS, shape[1])
    outputs = 2 * rows + 1
    copied = ((outputs - 1) * stride + packed.window[0]) * numbers["padded"] * x.shape[3]
    working = copied + outputs * width * out_channels
    numbers |= {"tasks": N * -(-shape[1] // rows), "rows": rows, "copied": copied, "working": working}
    return code.call("pooled", numbers, (x, packed.panels, bias), [shape])[0]


def _rows(
    x: Array, packed: Packed, bias: Array, stride: int, padding: Any, relu: bool
) -> tuple[dict[str, int], tuple[int, int, int, int]]:
    """What numbers of a call are the same whatever is made of the outputs, and the outputs' shape."""
    N, H, W, C = x.shape
    (top, _), (left, right) = padding
    height, width = _size(x, packed, stride, padding)
    numbers = {
        "height": H,
        "width": W,
        "out_height": height,
        "out_width": width,
        "channels": C,
        "out_channels": bias.shape[0],
        "window_rows": packed.window[0],
        "window_columns": packed.window[1],
        "stride": stride,
        "top": top,
        "left": left,
        "padded": W + left + right,
        "relu": int(relu),
    }
    return numbers, (N, height, width, bias.shape[0])


def _winograd(x: Array, packed: Packed, bias: Array, shortcut: Array | None, relu: bool) -> Array:
    from jaxsode.kernels.native import winograd

    N, H, W, C = x.shape
    out_channels = bias.shape[0]
    tile_rows, tile_columns = -(-H // TILE), -(-W // TILE)
    tiles = N * tile_rows * tile_columns
    target = code.ready().target
    panels, cores = packed.panels.shape[0], code.cores()
    transformed = packed.panels.shape[1] == WINDOW**2 * C
    depth = C if transformed else min(C, DEPTH)
    # As many tasks for each core. Few tiles are one block, and each core takes some of the channels: then no
    # two of them read the same part of the kernel, which is most of what there is to read.
    blocks = 1 if tiles <= 2 * BLOCK else -(-tiles // (BLOCK * cores)) * cores
    block = -(-tiles // blocks)
    groups = 1
    while -(-tiles // block) * groups < cores and panels % (2 * groups) == 0:
        groups *= 2
    numbers = {
        "tasks": -(-tiles // block) * groups,
        "height": H,
        "width": W,
        "channels": C,
        "out_channels": out_channels,
        "tile_rows": tile_rows,
        "tile_columns": tile_columns,
        "tiles": tiles,
        "block": block,
        "groups": groups,
        "panels": panels // groups,
        "transformed": int(transformed),
        "depth": depth,
        "relu": int(relu),
        "working": winograd.working(block, C, out_channels // groups, 0 if transformed else depth, target),
    }
    return _call("winograd", numbers, x, packed, bias, shortcut, (N, H, W, out_channels))


def _call(
    name: str,
    numbers: dict[str, int],
    x: Array,
    packed: Packed,
    bias: Array,
    shortcut: Array | None,
    shape: tuple[int, ...],
) -> Array:
    operands = (x, packed.panels, bias)
    if shortcut is not None:
        name, operands = f"{name}_shortcut", (*operands, jnp.broadcast_to(shortcut, shape))
    return code.call(name, numbers, operands, [shape])[0]
