"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) without squeeze-excite, ReLU6 for swish.

Made for TensorFlow: "SAME" padding, which depends on the size of the input, and pictures scaled to
(x · 255 − 127) / 128.
"""

from functools import partial

import jax
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxsode.backbones.layers import Conv, normalise
from jaxsode.backbones.protocol import Normalisation

# size of the depthwise kernel, stride, expansion, channels, blocks
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
)

# layer → the stage after whose last block it is returned, at strides 4, 8 and 16
_RETURNED = {1: 1, 2: 2, 3: 4}


class InvertedResidual(nnx.Module):
    """Expand (1 × 1), filter each channel (depthwise), project (1 × 1, linear); a shortcut where it fits."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        size: int,
        stride: int,
        expansion: int,
        dtype: DTypeLike,
        rng: np.random.Generator,
    ):
        conv = partial(Conv, padding="SAME", dtype=dtype, rng=rng)
        inner = channels * expansion
        self.expand_conv = conv(channels, inner, 1) if expansion > 1 else None
        self.depthwise_conv = conv(inner, inner, size, stride=stride, groups=inner)
        self.project_conv = conv(inner, out_channels, 1)
        self.shortcut = stride == 1 and channels == out_channels

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x if self.expand_conv is None else jax.nn.relu6(self.expand_conv(x))
        y = self.project_conv(jax.nn.relu6(self.depthwise_conv(y)))
        return x + y if self.shortcut else y


class EfficientNetLite0(nnx.Module):
    """Stem and as many blocks as the deepest chosen layer needs; layers 1, 2, 3 have strides 4, 8, 16."""

    def __init__(self, *, layers: tuple[int, ...], dtype: DTypeLike, rng: np.random.Generator):
        """Random weights.

        Args:
            layers: whose outputs are returned, of 1 to 3, ascending.
            dtype: of the computation; parameters are float32.
            rng: draws the weights.
        """
        self.name = "efficientnet_lite0"
        self.normalisation = Normalisation(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
        self.strides = tuple(2 ** (i + 1) for i in layers)
        self.channels = tuple(_STAGES[_RETURNED[i]][3] for i in layers)
        self.conv_stem = Conv(3, 32, 3, stride=2, padding="SAME", dtype=dtype, rng=rng)
        channels = 32
        blocks = []
        returned = []
        for i, (size, stride, expansion, out_channels, depth) in enumerate(_STAGES[: _RETURNED[layers[-1]] + 1]):
            for j in range(depth):
                block = InvertedResidual(
                    channels,
                    out_channels,
                    size=size,
                    stride=stride if j == 0 else 1,
                    expansion=expansion,
                    dtype=dtype,
                    rng=rng,
                )
                blocks.append(block)
                channels = out_channels
            if i in [_RETURNED[layer] for layer in layers]:
                returned.append(len(blocks) - 1)
        self.blocks = nnx.List(blocks)
        self.returned = tuple(returned)

    def __call__(self, pictures: jax.Array, /) -> tuple[jax.Array, ...]:
        """pictures (N, height, width, 3), RGB in [0, 1] → float32 maps of the chosen layers, finest first."""
        x = jax.nn.relu6(self.conv_stem(normalise(pictures, self.normalisation)))
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.returned:
                maps.append(x.astype("float32"))
        return tuple(maps)
