"""Project-then-align against the plain order: upsample everything, concatenate, project."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsode.algebra.pyramid import align, project_then_align
from jaxsode.errors import ArgumentError


def align_then_project(maps, W):
    """The referee, float64, location by location."""
    H, width = maps[0].shape[-3:-1]
    z = np.zeros((*maps[0].shape[:-1], W.shape[1]))
    for i in range(H):
        for j in range(width):
            x = [m[..., i * m.shape[-3] // H, j * m.shape[-2] // width, :] for m in maps]
            z[..., i, j, :] = np.concatenate(x, -1).astype(np.float64) @ W.astype(np.float64)
    return z


def _maps(rng, batch, shapes):
    return [rng.standard_normal((*batch, *shape), dtype=np.float32) for shape in shapes]


@pytest.mark.parametrize(
    "shapes",
    [
        [(8, 4, 3), (4, 2, 5), (2, 1, 7)],  # even halves
        [(9, 7, 3), (5, 4, 2), (3, 2, 4)],  # grids that don't divide
        [(5, 5, 4)],  # a single scale
        [(4, 6, 1), (4, 3, 1)],
    ],
)
@pytest.mark.parametrize("batch", [(), (2,)])
def test_agrees_with_align_then_project(shapes, batch):
    rng = np.random.default_rng(0)
    maps = _maps(rng, batch, shapes)
    W = rng.standard_normal((sum(s[-1] for s in shapes), 6), dtype=np.float32)
    z = project_then_align([jnp.asarray(m) for m in maps], jnp.asarray(W))
    np.testing.assert_allclose(z, align_then_project(maps, W), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(h=st.integers(1, 6), w=st.integers(1, 6), H=st.integers(6, 13), W=st.integers(6, 13))
def test_source_index(h, w, H, W):
    x = np.arange(h * w, dtype=np.float32).reshape(h, w, 1)
    expected = [[x[i * h // H, j * w // W, 0] for j in range(W)] for i in range(H)]
    np.testing.assert_array_equal(align(jnp.asarray(x), (H, W))[..., 0], expected)


def test_channels_must_add_up():
    with pytest.raises(ArgumentError, match="W has 5 rows and the feature maps 4 channels"):
        project_then_align([jnp.ones((2, 2, 4))], jnp.ones((5, 2)))


def test_first_scale_must_be_the_finest():
    with pytest.raises(ArgumentError, match="finer than the first scale"):
        project_then_align([jnp.ones((2, 2, 1)), jnp.ones((4, 4, 1))], jnp.ones((2, 1)))


def _pool(x, window):
    """The referee, float64, location by location."""
    h, w = x.shape[-3:-1]
    r, out = window // 2, np.empty(x.shape)
    for i in range(h):
        for j in range(w):
            part = x[..., max(i - r, 0) : i + r + 1, max(j - r, 0) : j + r + 1, :]
            out[..., i, j, :] = part.astype(np.float64).mean((-3, -2))
    return out


def _between(x, grid):
    """The referee of bilinear alignment: hat functions of half-pixel centres, the edges clamped."""
    weights = []
    for source, size in zip(x.shape[-3:-1], grid, strict=True):
        at = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)
        weights.append(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(source))))
    return np.einsum("ih,jw,...hwc->...ijc", *weights, x.astype(np.float64))


@pytest.mark.parametrize("pooling", [1, 3, 5, 9, (3, 1, 1), (1, 5, 3)])
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
@pytest.mark.parametrize("shapes", [[(8, 4, 3), (4, 2, 9), (2, 1, 7)], [(9, 7, 3), (5, 4, 9), (3, 2, 4)]])
def test_pooled_after_W_is_pooled_before(shapes, method, pooling):
    """In float64 to 1e-10; windows larger than a grid too."""
    rng = np.random.default_rng(0)
    maps = [rng.standard_normal((2, *shape)) for shape in shapes]
    W = rng.standard_normal((sum(s[-1] for s in shapes), 6))
    windows = (pooling,) * 3 if isinstance(pooling, int) else pooling
    pooled = [_pool(m, n) for m, n in zip(maps, windows, strict=True)]
    if method == "nearest":
        expected = align_then_project(pooled, W)
    else:
        expected = np.concatenate([_between(m, shapes[0][:2]) for m in pooled], -1) @ W
    with jax.enable_x64(True):
        z = project_then_align([jnp.asarray(m) for m in maps], jnp.asarray(W), pooling=pooling, method=method)
    np.testing.assert_allclose(z, expected, rtol=1e-10, atol=1e-10)


def test_windows_and_methods_that_there_are_not():
    maps, W = [jnp.ones((4, 4, 2)), jnp.ones((2, 2, 2))], jnp.ones((4, 2))
    with pytest.raises(ArgumentError, match="a window of 2 locations has no middle"):
        project_then_align(maps, W, pooling=2)
    with pytest.raises(ArgumentError, match=r"pooling \(3, 1, 1\) for 2 feature maps"):
        project_then_align(maps, W, pooling=(3, 1, 1))
    with pytest.raises(ArgumentError, match="'cubic' is unknown: choose one of nearest, bilinear"):
        project_then_align(maps, W, method="cubic")
