"""MobileNetV3-Small and -Large (Howard et al. 2019), as two publishers of weights build them.

torchvision and d-li14/mobilenetv3.pytorch (the paper's) agree on every shape. They differ in

                       torchvision              d-li14
    squeeze-excite     after the activation     before it, in blocks that expand
    batch norm         ε = 1e-3                 ε = 1e-5 (folded when weights are converted)

so weights of one in the other's network give plausible, wrong features: each has its own name here. Of both,
the outputs of the same blocks are returned, those that the paper chose of d-li14's: the last of their stride.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxsode.backbones.layers import Conv, normalise
from jaxsode.backbones.protocol import IMAGENET


class Row(NamedTuple):
    """One line of the paper's Table 1 or 2: what one block does."""

    size: int
    expanded: int
    channels: int
    squeeze_excite: bool
    hard_swish: bool
    stride: int


# Tables 1 and 2 down to stride 16, so far as a feature map is returned from; row i is features[i + 1]
LARGE = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
)
SMALL = (
    Row(3, 16, 16, True, False, 2),
    Row(3, 72, 24, False, False, 2),
    Row(3, 88, 24, False, False, 1),
    Row(5, 96, 40, True, True, 2),
    Row(5, 240, 40, True, True, 1),
    Row(5, 240, 40, True, True, 1),
    Row(5, 120, 48, True, True, 1),
    Row(5, 144, 48, True, True, 1),
)

# layer → the index in `features` it is returned from: strides 4, 8 and 16
LARGE_RETURNED = {1: 3, 2: 6, 3: 12}
SMALL_RETURNED = {1: 1, 2: 3, 3: 8}


class SqueezeExcite(nnx.Module):
    """Each channel times a gate in [0, 1] that sees the mean of every channel (Hu et al. 2018)."""

    def __init__(self, channels: int, *, dtype: DTypeLike, rng: np.random.Generator):
        squeezed = _quarter(channels)
        self.reduce = Conv(channels, squeezed, 1, dtype=dtype, rng=rng)
        self.expand = Conv(squeezed, channels, 1, dtype=dtype, rng=rng)

    def __call__(self, x: jax.Array) -> jax.Array:
        mean = jnp.mean(x, axis=(1, 2), keepdims=True)
        return x * jax.nn.hard_sigmoid(self.expand(jax.nn.relu(self.reduce(mean))))


class InvertedResidual(nnx.Module):
    """Expand (1 × 1), filter each channel (depthwise), squeeze-excite, project (1 × 1, linear)."""

    def __init__(
        self, channels: int, row: Row, *, excite_first: bool, dtype: DTypeLike, rng: np.random.Generator
    ):
        conv = partial(Conv, dtype=dtype, rng=rng)
        expands = row.expanded != channels
        self.expand = conv(channels, row.expanded, 1) if expands else None
        self.depthwise = conv(row.expanded, row.expanded, row.size, stride=row.stride, groups=row.expanded)
        self.squeeze_excite = (
            SqueezeExcite(row.expanded, dtype=dtype, rng=rng) if row.squeeze_excite else None
        )
        self.project = conv(row.expanded, row.channels, 1, gain=1.0)
        self.excite_first = excite_first and expands
        self.hard_swish = row.hard_swish
        self.shortcut = row.stride == 1 and row.channels == channels

    def __call__(self, x: jax.Array) -> jax.Array:
        activation = jax.nn.hard_swish if self.hard_swish else jax.nn.relu
        y = x if self.expand is None else activation(self.expand(x))
        y = self.depthwise(y)
        if self.squeeze_excite is None:
            y = activation(y)
        elif self.excite_first:
            y = activation(self.squeeze_excite(y))
        else:
            y = self.squeeze_excite(activation(y))
        y = self.project(y)
        return x + y if self.shortcut else y


class MobileNetV3(nnx.Module):
    """Stem and as many blocks as the deepest chosen layer needs; layers 1, 2, 3 have strides 4, 8, 16."""

    def __init__(
        self,
        name: str,
        rows: tuple[Row, ...],
        returned: dict[int, int],
        *,
        excite_first: bool,
        layers: tuple[int, ...],
        dtype: DTypeLike,
        rng: np.random.Generator,
    ):
        """Random weights.

        Args:
            name: of the backbone.
            rows: the blocks.
            returned: layer → index in `features`.
            excite_first: whether squeeze-excite comes before the activation in blocks that expand.
            layers: whose outputs are returned, of 1 to 3, ascending.
            dtype: of the computation; parameters are float32.
            rng: draws the weights.
        """
        self.name = name
        self.normalisation = IMAGENET
        self.layers = layers
        self.dtype = jnp.dtype(dtype)
        self.strides = tuple(2 ** (i + 1) for i in layers)
        self.returned = tuple(returned[i] for i in layers)
        self.channels = tuple(rows[i - 1].channels for i in self.returned)
        channels = 16
        features: list[nnx.Module] = [Conv(3, channels, 3, stride=2, dtype=dtype, rng=rng)]
        for row in rows[: self.returned[-1]]:
            features.append(InvertedResidual(channels, row, excite_first=excite_first, dtype=dtype, rng=rng))
            channels = row.channels
        self.features = nnx.List(features)

    def __call__(self, pictures: jax.Array, /) -> tuple[jax.Array, ...]:
        """pictures (N, height, width, 3), RGB in [0, 1] → float32 maps of the chosen layers, finest first."""
        x = normalise(pictures, self.normalisation)
        maps = []
        for i, module in enumerate(self.features):
            x = jax.nn.hard_swish(module(x)) if i == 0 else module(x)
            if i in self.returned:
                maps.append(x.astype("float32"))
        return tuple(maps)


def _quarter(channels: int) -> int:
    """The width of a squeeze: a quarter, to a multiple of 8, never below 90 % of the quarter."""
    quarter = channels // 4
    rounded = max(8, (quarter + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * quarter else rounded + 8


mobilenet_v3_small = partial(MobileNetV3, "mobilenet_v3_small", SMALL, SMALL_RETURNED, excite_first=False)
mobilenet_v3_large = partial(MobileNetV3, "mobilenet_v3_large", LARGE, LARGE_RETURNED, excite_first=False)
mobilenet_v3_small_d_li14 = partial(
    MobileNetV3, "mobilenet_v3_small_d_li14", SMALL, SMALL_RETURNED, excite_first=True
)
mobilenet_v3_large_d_li14 = partial(
    MobileNetV3, "mobilenet_v3_large_d_li14", LARGE, LARGE_RETURNED, excite_first=True
)
