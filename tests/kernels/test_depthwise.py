"""The sum of shifted products against the definition in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.kernels import conv2d


def _direct(x, kernel, stride, padding):
    """Each output by itself, float64."""
    rows, columns = kernel.shape[:2]
    x = np.pad(x.astype(np.float64), ((0, 0), *padding, (0, 0)))
    height, width = (x.shape[1] - rows) // stride + 1, (x.shape[2] - columns) // stride + 1
    out = np.empty((len(x), height, width, x.shape[3]))
    for i in range(height):
        for j in range(width):
            window = x[:, stride * i : stride * i + rows, stride * j : stride * j + columns]
            out[:, i, j] = np.sum(window * kernel[:, :, 0].astype(np.float64), axis=(1, 2))
    return out


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "channels"), [(3, 33), (5, 8)])
@pytest.mark.parametrize("shape", [(2, 9, 12), (1, 8, 7)])
def test_agrees_with_the_definition(stride, size, channels, shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*shape, channels), dtype=np.float32)
    kernel = rng.standard_normal((size, size, 1, channels), dtype=np.float32)
    padding = ((size // 2,) * 2,) * 2
    got = conv2d(jnp.asarray(x), jnp.asarray(kernel), stride=stride, padding=padding, groups=channels)
    expected = _direct(x, kernel, stride, padding)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_padding_may_differ_before_and_after():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 8, 7, 16), dtype=np.float32)
    kernel = rng.standard_normal((3, 3, 1, 16), dtype=np.float32)
    padding = ((0, 1), (1, 1))
    got = conv2d(jnp.asarray(x), jnp.asarray(kernel), stride=2, padding=padding, groups=16)
    np.testing.assert_allclose(got, _direct(x, kernel, 2, padding), rtol=1e-5, atol=1e-5)


def test_bfloat16_is_summed_in_float32():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((1, 6, 6, 16)), jnp.bfloat16)
    kernel = jnp.asarray(rng.standard_normal((5, 5, 1, 16)), jnp.bfloat16)
    padding = ((2, 2), (2, 2))
    got = conv2d(x, kernel, stride=1, padding=padding, groups=16)
    assert got.dtype == jnp.bfloat16
    expected = _direct(np.asarray(x, np.float32), np.asarray(kernel, np.float32), 1, padding)
    np.testing.assert_allclose(got.astype(jnp.float32), expected, rtol=2**-8, atol=2**-8)


def test_only_a_cpu_takes_the_sum():
    def lowered(platform):
        x, kernel = jnp.zeros((1, 8, 8, 16)), jnp.zeros((3, 3, 1, 16))
        around = ((1, 1), (1, 1))
        convolve = jax.jit(lambda x, kernel: conv2d(x, kernel, stride=1, padding=around, groups=16))
        return jax.export.export(convolve, platforms=[platform])(x, kernel).mlir_module()

    assert "stablehlo.convolution" not in lowered("cpu")
    assert "stablehlo.convolution" in lowered("cuda")
