"""Convolution and pooling against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsode.backbones.layers import Conv, normalise
from jaxsode.backbones.protocol import IMAGENET
from jaxsode.kernels import max_pool3x3


def looped_conv(x, kernel, stride, padding, groups):
    """Output by output, in float64; `padding` is a number or "SAME"."""
    rows, columns, group_channels, out_channels = kernel.shape
    pads = []
    for length, size in ((x.shape[1], rows), (x.shape[2], columns)):
        if padding == "SAME":
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads.append((total // 2, total - total // 2))
        else:
            pads.append((padding, padding))
    x = np.pad(x.astype(np.float64), ((0, 0), *pads, (0, 0)))
    height, width = ((x.shape[i + 1] - (rows, columns)[i]) // stride + 1 for i in (0, 1))
    y = np.zeros((len(x), height, width, out_channels))
    for i in range(height):
        for j in range(width):
            for c in range(out_channels):
                first = c // (out_channels // groups) * group_channels
                window = x[:, i * stride : i * stride + rows, j * stride : j * stride + columns]
                window = window[..., first : first + group_channels]
                y[:, i, j, c] = (window * kernel[..., c]).sum(axis=(1, 2, 3))
    return y


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    size=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 2),
    same=st.booleans(),
    groups=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_conv_agrees_with_loops(height, width, size, stride, same, groups, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, height, width, 4), dtype=np.float32)
    padding = "SAME" if same else size // 2
    conv = Conv(4, 8, size, stride=stride, padding=padding, groups=groups, dtype=jnp.float32, rng=rng)

    ours = conv(jnp.asarray(x))

    kernel, bias = np.asarray(conv.kernel[...]), np.asarray(conv.bias[...])
    expected = looped_conv(x, kernel, stride, padding, groups) + bias
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_conv_adds_its_bias_and_keeps_its_parameters_in_float32():
    conv = Conv(3, 5, 3, dtype=jnp.bfloat16, rng=np.random.default_rng(0))
    conv.bias[...] = jnp.arange(5, dtype=jnp.float32)

    y = conv(jnp.zeros((1, 4, 4, 3)))

    assert y.dtype == jnp.bfloat16
    assert conv.kernel.dtype == conv.bias.dtype == jnp.float32
    np.testing.assert_array_equal(y.astype(np.float32), np.broadcast_to(np.arange(5.0), (1, 4, 4, 5)))


def test_conv_draws_kernels_of_the_variance_it_names():
    kernel = np.asarray(Conv(64, 64, 3, gain=0.5, dtype=jnp.float32, rng=np.random.default_rng(0)).kernel)

    assert kernel.std() == pytest.approx(np.sqrt(0.5 / (9 * 64)), rel=0.02)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (7, 8)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_max_pool_is_the_largest_of_each_window_inside_the_map(height, width, dtype):
    # all negative, so that padding with anything but −∞ would show
    x = jnp.array(-1 - np.random.default_rng(0).random((2, height, width, 3)), dtype)

    ours = max_pool3x3(x)

    assert ours.dtype == dtype
    assert ours.shape == (2, (height + 1) // 2, (width + 1) // 2, 3)
    for i in range(ours.shape[1]):
        for j in range(ours.shape[2]):
            window = x[:, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2]
            np.testing.assert_array_equal(ours[:, i, j], window.max(axis=(1, 2)))


def test_normalise_takes_mean_and_standard_deviation_of_each_channel():
    pictures = np.random.default_rng(0).random((2, 3, 4, 3), dtype=np.float32)

    ours = normalise(jnp.asarray(pictures, jnp.bfloat16), IMAGENET)

    assert ours.dtype == jnp.float32
    rounded = np.asarray(jnp.asarray(pictures, jnp.bfloat16), np.float64)
    np.testing.assert_allclose(ours, (rounded - IMAGENET.mean) / IMAGENET.std, rtol=1e-6, atol=1e-6)


def test_float32_is_not_cut_short_unless_asked():
    conv = Conv(3, 8, 3, dtype=jnp.float32, rng=np.random.default_rng(0))

    def text():
        traced = jax.jit(lambda x: conv(x)).trace(jnp.zeros((1, 8, 8, 3)))
        return traced.lower(lowering_platforms=("cuda",)).as_text()

    assert "HIGHEST" in text()
    with jax.default_matmul_precision("tensorfloat32"):
        assert "HIGHEST" not in text()
