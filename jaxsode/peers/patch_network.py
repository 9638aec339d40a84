"""The network of teacher and students (Bergmann et al. 2020, arXiv:1911.02357, for patches of 33 × 33).

Convolutions of 5, 5, 2 and 4 pixels a side, the first two followed by 2 × 2 maxima at stride 2; leaky ReLUs
between them, none after the last, whose outputs are regressed. The paper moves it over a picture pixel by
pixel; here it is convolutional as it stands, on the grid of stride 4, from a picture mirrored by 14 pixels on
every side: location (i, j) sees 32 × 32 pixels around the middle of its own 4 × 4 ones. Of a patch of 33 the
first maximum drops the last row and column, in the paper, too.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.backbones.layers import normalise
from jaxsode.backbones.protocol import IMAGENET
from jaxsode.errors import ArgumentError

SIDES = (5, 5, 2, 4)
CHANNELS = (128, 256, 256, 128)
STRIDE = 4
FIELD = 32
"""Pixels a side that a location sees."""

SLOPE = 0.005
_AROUND = (FIELD - STRIDE) // 2

Layers = list[dict[str, jax.Array]]


def channels_of(width: float) -> tuple[int, ...]:
    """Channels of each convolution; the last are a location's descriptor.

    Args:
        width: times the paper's, > 0.

    Raises:
        ArgumentError: so narrow that nothing is left.
    """
    found = tuple(round(width * c) for c in CHANNELS)
    if not min(found) >= 1:
        raise ArgumentError(f"width = {width} leaves {found} channels: give at least {1 / min(CHANNELS)}")
    return found


def init(rng: np.random.Generator, *, width: float) -> Layers:
    """Random layers: normal kernels of variance 2 / fan-in (He et al. 2015), biases 0.

    Args:
        rng: draws them.
        width: see `channels_of`.
    """
    layers = []
    before = 3
    for side, after in zip(SIDES, channels_of(width), strict=True):
        layers.append(dense(rng, (side, side, before, after)))
        before = after
    return layers


def dense(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, jax.Array]:
    """One layer's kernel, of this shape, and bias."""
    std = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
    return {
        "kernel": jnp.asarray(std * rng.standard_normal(shape, dtype=np.float32)),
        "bias": jnp.zeros(shape[-1], jnp.float32),
    }


def describe(layers: Any, pictures: jax.Array) -> jax.Array:
    """A descriptor for each location of pictures.

    Args:
        layers: of `init`.
        pictures: (N, height, width, 3 or 1), uint8 or float in [0, 1].

    Returns:
        (N, ⌈height / 4⌉, ⌈width / 4⌉, d) float32; NaN where a location sees a pixel that is not finite.
    """
    x = pictures.astype(jnp.float32)
    x = x / 255 if pictures.dtype == jnp.uint8 else jnp.where(jnp.isfinite(x), x, jnp.nan)
    x = normalise(jnp.broadcast_to(x, (*x.shape[:3], 3)), IMAGENET)
    more = [(_AROUND, _AROUND + -size % STRIDE) for size in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), *more, (0, 0)), mode="symmetric")
    for number, layer in enumerate(layers):
        if number:
            x = jax.nn.leaky_relu(x, SLOPE)
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = x + layer["bias"].reshape(1, 1, 1, -1)
        if number < 2:
            x = _maxima(x)
    return x


def _maxima(x: jax.Array) -> jax.Array:
    """Of 2 × 2 pixels: (N, 2h, 2w, C) → (N, h, w, C)."""
    # A maximum reduced over a window or an axis loses NaN on a CPU (jaxlib 0.10); that of two arrays doesn't.
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])
