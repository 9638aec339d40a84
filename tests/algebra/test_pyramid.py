"""Project-then-align against the plain order: upsample everything, concatenate, project."""

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
