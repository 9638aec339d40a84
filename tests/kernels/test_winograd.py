"""Winograd's convolution against the plain one in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.backbones.registry import create
from jaxsode.kernels import convolution, winograd
from jaxsode.kernels.winograd import winograd_conv3x3

AROUND = ((1, 1), (1, 1))


def _inputs(n, height, width, channels, out_channels):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, height, width, channels), dtype=np.float32)
    kernel = rng.standard_normal((3, 3, channels, out_channels), dtype=np.float32)
    return jnp.asarray(x), jnp.asarray(kernel)


def _direct(x, kernel):
    """Nine shifted products, float64."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    H, W = x.shape[1:3]
    shifted = [(i, j, padded[:, i : i + H, j : j + W]) for i in range(3) for j in range(3)]
    return sum(part @ np.asarray(kernel[i, j], np.float64) for i, j, part in shifted)


SHAPES = [
    (0, 4, 4, 32, 32),
    (1, 4, 4, 32, 32),
    (1, 1, 1, 32, 40),
    (2, 7, 10, 33, 32),
    (8, 16, 5, 32, 64),
    (1, 33, 29, 64, 64),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_direct_sum(shape):
    x, kernel = _inputs(*shape)
    expected = _direct(x, kernel)
    for got in (winograd_conv3x3(x, kernel), jax.jit(winograd_conv3x3)(x, kernel)):
        assert got.shape == expected.shape
        assert np.linalg.norm(got - expected) <= 1e-5 * np.linalg.norm(expected)


def test_band_by_band_is_the_same(monkeypatch):
    x, kernel = _inputs(2, 21, 12, 32, 32)
    whole = winograd_conv3x3(x, kernel)
    monkeypatch.setattr(winograd, "_NUMBERS", 2**14)
    np.testing.assert_allclose(winograd_conv3x3(x, kernel), whole, rtol=1e-4, atol=1e-4)


def test_derivatives_are_those_of_the_plain_convolution():
    x, kernel = _inputs(1, 6, 6, 32, 32)

    def loss(convolve):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(convolve(x, k))), argnums=(0, 1))(x, kernel)

    def plain(x, k):
        return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    for ours, theirs in zip(loss(winograd_conv3x3), loss(plain), strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)


def test_under_vmap():
    x, kernel = _inputs(6, 8, 8, 32, 32)
    mapped = jax.vmap(lambda one: winograd_conv3x3(one, kernel))(x.reshape(3, 2, 8, 8, 32))
    np.testing.assert_allclose(mapped.reshape(x.shape), winograd_conv3x3(x, kernel), rtol=1e-4, atol=1e-4)


def _text(x, kernel, platform, *, stride=1, padding=AROUND, groups=1):
    convolve = jax.jit(partial(convolution.conv2d, stride=stride, padding=padding, groups=groups))
    return convolve.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()


def test_only_where_it_wins():
    x, kernel = _inputs(2, 16, 14, 64, 64)
    assert "stablehlo.convolution" not in _text(x, kernel, "cpu")
    assert "stablehlo.convolution" in _text(x, kernel, "cuda")
    assert "stablehlo.convolution" in _text(x, kernel, "tpu")
    assert "stablehlo.convolution" in _text(x, kernel, "cpu", stride=2)
    assert "stablehlo.convolution" in _text(x, kernel, "cpu", padding=((0, 0), (0, 0)))
    assert "stablehlo.convolution" in _text(x, kernel[:, :, :32], "cpu", groups=2)
    assert "stablehlo.convolution" in _text(x[..., :8], kernel[:, :, :8], "cpu")
    assert "stablehlo.convolution" in _text(x[:, :4, :8], kernel, "cpu")
    half = jnp.asarray(x, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    assert "stablehlo.convolution" in _text(*half, "cpu")


def test_a_whole_backbone_agrees_with_plain_convolutions(monkeypatch):
    backbone = create("resnet18")
    pictures = np.random.default_rng(0).random((2, 96, 72, 3), dtype=np.float32)
    ours = jax.jit(lambda b, x: b(x))(backbone, pictures)
    monkeypatch.setattr(convolution, "_worth_winograd", lambda x, kernel: False)
    plain = jax.jit(lambda b, x: b(x))(backbone, pictures)
    for a, b in zip(ours, plain, strict=True):
        assert 0 < np.linalg.norm(a - b) <= 2e-5 * np.linalg.norm(b)


def test_an_exported_program_runs_for_any_number_of_pictures():
    x, kernel = _inputs(3, 18, 14, 64, 64)
    (count,) = jax.export.symbolic_shape("n")
    shape = jax.ShapeDtypeStruct((count, *x.shape[1:]), jnp.float32)
    convolve = jax.jit(partial(convolution.conv2d, stride=1, padding=AROUND, groups=1))
    exported = jax.export.export(convolve, platforms=("cpu", "cuda"))(shape, kernel)
    assert "stablehlo.convolution" in exported.mlir_module()
    assert "stablehlo.dot_general" in exported.mlir_module()
    expected = _direct(x, kernel)
    assert np.linalg.norm(exported.call(x, kernel) - expected) <= 1e-5 * np.linalg.norm(expected)
