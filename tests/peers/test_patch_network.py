"""The students' network: what a location sees, where it stands, and against a plain loop in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.backbones.protocol import IMAGENET
from jaxsode.errors import ArgumentError
from jaxsode.peers import patch_network
from jaxsode.peers.patch_network import FIELD, describe


@pytest.fixture(scope="module")
def layers():
    return patch_network.init(np.random.default_rng(0), width=1 / 64)


def test_a_location_sees_32_pixels_around_the_middle_of_its_own_four(layers):
    """A pixel that is not finite spoils all that see it, and nothing else."""
    height, width = 72, 64
    row, column = 33, 30
    picture = np.full((1, height, width, 3), 0.5, np.float32)
    picture[0, row, column] = np.inf
    spoilt = np.isnan(np.asarray(describe(layers, picture))[0]).all(axis=-1)
    assert spoilt.shape == (18, 16)
    expected = [
        np.abs(at + 0.5 - (4 * np.arange(number) + 2)) < FIELD / 2 for at, number in ((row, 18), (column, 16))
    ]
    np.testing.assert_array_equal(spoilt, np.outer(*expected))
    assert spoilt.sum() == 64


def by_definition(layers, patch):
    """The paper's network on one patch of 33 × 33 (or 32 × 32) pixels: windows one by one, in float64."""
    x = (patch.astype(np.float64) / 255 - IMAGENET.mean) / IMAGENET.std
    for number, layer in enumerate(layers):
        kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
        side = len(kernel)
        h, w = (n - side + 1 for n in x.shape[:2])
        x = np.array(
            [
                [np.tensordot(x[i : i + side, j : j + side], kernel, 3) + bias for j in range(w)]
                for i in range(h)
            ]
        )
        if number < 2:
            h, w = h // 2, w // 2
            x = x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, -1).max(axis=(1, 3))
        if number < 3:
            x = np.where(x > 0, x, 0.005 * x)
    return x


def test_descriptors_by_definition(layers):
    pictures = np.random.default_rng(1).integers(0, 256, (2, 34, 49, 3), dtype=np.uint8)
    got = describe(layers, pictures)
    assert got.shape == (2, 9, 13, 2)
    # The picture goes on in the mirror, and to the next multiple of four.
    around = np.pad(pictures, ((0, 0), (14, 16), (14, 17), (0, 0)), mode="symmetric")
    for n, i, j in ((0, 0, 0), (0, 8, 12), (1, 4, 7), (1, 8, 0)):
        patch = around[n, 4 * i : 4 * i + 33, 4 * j : 4 * j + 33]
        np.testing.assert_allclose(got[n, i, j], by_definition(layers, patch)[0, 0], rtol=1e-5, atol=1e-6)


def test_grey_and_float_pictures(layers):
    grey = np.random.default_rng(2).integers(0, 256, (1, 32, 32, 1), dtype=np.uint8)
    expected = describe(layers, grey.repeat(3, axis=3))
    for same in (grey, jnp.asarray(grey, jnp.float32) / 255):
        np.testing.assert_allclose(describe(layers, same), expected, rtol=1e-5, atol=1e-6)


def test_channels():
    assert patch_network.channels_of(1) == (128, 256, 256, 128)
    assert patch_network.channels_of(0.25) == (32, 64, 64, 32)
    with pytest.raises(ArgumentError, match=r"^width = 0.001 leaves .* give at least 0.0078125$"):
        patch_network.channels_of(0.001)
