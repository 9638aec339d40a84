"""ResNet and Wide ResNet (He et al. 2016; Zagoruyko and Komodakis 2016), as torchvision builds them.

A bottleneck's stride sits on its 3 × 3 convolution ("v1.5"). Module paths are the checkpoint's.
"""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxsode.backbones.layers import Conv, normalise
from jaxsode.backbones.protocol import IMAGENET


class BasicBlock(nnx.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(
        self,
        channels: int,
        planes: int,
        *,
        stride: int,
        width: int,
        dtype: DTypeLike,
        rng: np.random.Generator,
    ):
        conv = partial(Conv, dtype=dtype, rng=rng)
        self.conv1 = conv(channels, width, 3, stride=stride)
        self.conv2 = conv(width, planes, 3, gain=0.1)
        self.downsample = conv(channels, planes, 1, stride=stride) if channels != planes else None

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.conv2(self.conv1(x, relu=True), shortcut=shortcut, relu=True)


class Bottleneck(nnx.Module):
    """1 × 1, 3 × 3 (with the stride), 1 × 1 to four times the planes, beside a shortcut."""

    expansion = 4

    def __init__(
        self,
        channels: int,
        planes: int,
        *,
        stride: int,
        width: int,
        dtype: DTypeLike,
        rng: np.random.Generator,
    ):
        conv = partial(Conv, dtype=dtype, rng=rng)
        out_channels = planes * self.expansion
        self.conv1 = conv(channels, width, 1)
        self.conv2 = conv(width, width, 3, stride=stride)
        self.conv3 = conv(width, out_channels, 1, gain=0.1)
        self.downsample = conv(channels, out_channels, 1, stride=stride) if channels != out_channels else None

    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv2(self.conv1(x, relu=True), relu=True)
        return self.conv3(x, shortcut=shortcut, relu=True)


class ResNet(nnx.Module):
    """Stem and as many of the four layers as the deepest chosen one needs; layer i has stride 2^(i+1)."""

    def __init__(
        self,
        name: str,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        width_factor: int = 1,
        layers: tuple[int, ...],
        dtype: DTypeLike,
        rng: np.random.Generator,
    ):
        """Random weights.

        Args:
            name: of the backbone.
            block: BasicBlock or Bottleneck.
            depths: blocks of each of the four layers.
            width_factor: of a bottleneck's inner convolutions; 2 makes it wide.
            layers: whose outputs are returned, of 1 to 4, ascending.
            dtype: of the computation; parameters are float32.
            rng: draws the weights.
        """
        self.name = name
        self.normalisation = IMAGENET
        self.layers = layers
        self.dtype = jnp.dtype(dtype)
        self.strides = tuple(2 ** (i + 1) for i in layers)
        self.channels = tuple(32 * 2**i * block.expansion for i in layers)
        self.conv1 = Conv(3, 64, 7, stride=2, dtype=dtype, rng=rng)
        channels = 64
        for i in self._built():
            planes = 32 * 2**i
            blocks = []
            for j in range(depths[i - 1]):
                stride = 2 if i > 1 and j == 0 else 1
                width = planes * width_factor
                blocks.append(block(channels, planes, stride=stride, width=width, dtype=dtype, rng=rng))
                channels = planes * block.expansion
            setattr(self, f"layer{i}", nnx.List(blocks))

    def _built(self) -> Iterable[int]:
        return range(1, max(self.layers) + 1)

    def __call__(self, pictures: jax.Array, /) -> tuple[jax.Array, ...]:
        """pictures (N, height, width, 3), RGB in [0, 1] → float32 maps of the chosen layers, finest first."""
        x = self.conv1.pooled(normalise(pictures, self.normalisation))
        maps = []
        for i in self._built():
            for block in getattr(self, f"layer{i}"):
                x = block(x)
            if i in self.layers:
                maps.append(x.astype("float32"))
        return tuple(maps)


resnet18 = partial(ResNet, "resnet18", BasicBlock, (2, 2, 2, 2))
resnet34 = partial(ResNet, "resnet34", BasicBlock, (3, 4, 6, 3))
resnet50 = partial(ResNet, "resnet50", Bottleneck, (3, 4, 6, 3))
resnet101 = partial(ResNet, "resnet101", Bottleneck, (3, 4, 23, 3))
wide_resnet50_2 = partial(ResNet, "wide_resnet50_2", Bottleneck, (3, 4, 6, 3), width_factor=2)
