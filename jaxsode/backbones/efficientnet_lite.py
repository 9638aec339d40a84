"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) without squeeze-excite, ReLU6 for swish.

Made for TensorFlow: "SAME" padding, which depends on the size of the input, and pictures scaled to
(x · 255 − 127) / 128.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxsode.backbones.layers import Conv, normalise
from jaxsode.backbones.protocol import Normalisation

_MEAN, _STD = 127 / 255, 128 / 255
_NORMALISATION = Normalisation(mean=(_MEAN, _MEAN, _MEAN), std=(_STD, _STD, _STD))

# every block up to stride 16: size of the depthwise kernel, stride, expansion, channels
_BLOCKS = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (3, 1, 6, 24),
    (5, 2, 6, 40),
    (5, 1, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 80),
    (3, 1, 6, 80),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
    (5, 1, 6, 112),
)

# layer → the last block at strides 4, 8 and 16
_RETURNED = {1: 2, 2: 4, 3: 10}


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
        self.project_conv = conv(inner, out_channels, 1, gain=1.0)
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
        self.normalisation = _NORMALISATION
        self.layers = layers
        self.dtype = jnp.dtype(dtype)
        self.strides = tuple(2 ** (i + 1) for i in layers)
        self.returned = tuple(_RETURNED[i] for i in layers)
        self.channels = tuple(_BLOCKS[i][3] for i in self.returned)
        self.conv_stem = Conv(3, 32, 3, stride=2, padding="SAME", dtype=dtype, rng=rng)
        self.blocks = nnx.List()
        channels = 32
        for size, stride, expansion, out_channels in _BLOCKS[: self.returned[-1] + 1]:
            block = InvertedResidual(
                channels, out_channels, size=size, stride=stride, expansion=expansion, dtype=dtype, rng=rng
            )
            self.blocks.append(block)
            channels = out_channels

    def __call__(self, pictures: jax.Array, /) -> tuple[jax.Array, ...]:
        """pictures (N, height, width, 3), RGB in [0, 1] → float32 maps of the chosen layers, finest first."""
        x = jax.nn.relu6(self.conv_stem(normalise(pictures, self.normalisation)))
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.returned:
                maps.append(x.astype("float32"))
        return tuple(maps)
