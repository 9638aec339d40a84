"""Moments against float64 NumPy: any split, any order, any tree of merges, and means far from zero."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsode.algebra import over_grid
from jaxsode.algebra.moments import covariance, init, merge, of_batch, remove, update


def _close(moments, z, tolerance=1e-5):
    """Against the definition in float64, relative to the spread of the data."""
    z = np.asarray(z, np.float64)
    mean = z.mean(0)
    scatter = (z - mean).T @ (z - mean)
    spread = np.sqrt(np.trace(scatter) / z.size) if len(z) > 1 else 1.0
    assert float(moments.count) == len(z)
    # The mean itself is a float32 number: it can't be nearer than its own rounding.
    rounding = np.abs(mean).max() * np.finfo(np.float32).eps
    assert np.abs(np.asarray(moments.mean, np.float64) - mean).max() <= tolerance * spread + rounding
    assert np.linalg.norm(np.asarray(moments.scatter) - scatter) <= tolerance * max(
        np.linalg.norm(scatter), 1e-12
    )


_of_batch, _merge = jax.jit(of_batch), jax.jit(merge)


def _part(z):
    """Moments of a part, padded so that all parts share one compilation."""
    padded = np.zeros((60, z.shape[1]), np.float32)
    padded[: len(z)] = z
    return _of_batch(padded, np.arange(60) < len(z))


def _tree(parts, rng):
    """Merge in a random binary tree, a random order included."""
    parts = list(parts)
    while len(parts) > 1:
        a, b = (parts.pop(rng.integers(len(parts))) for _ in range(2))
        parts.append(_merge(a, b))
    return parts[0]


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 60),
    k=st.sampled_from([1, 2, 5]),
    offset=st.sampled_from([0.0, 1.0, 1000.0]),
    seed=st.integers(0, 2**31 - 1),
    data=st.data(),
)
def test_any_split_in_any_tree(n, k, offset, seed, data):
    rng = np.random.default_rng(seed)
    # offset is in standard deviations: the hard case for one-pass formulas
    z = (rng.standard_normal((n, k)) + offset).astype(np.float32)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    parts = [_part(p) for p in np.split(z, cuts)]
    _close(_tree(parts, rng), z)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("batch", [1, 8, 33, 70])
def test_batch_by_batch(batch, offset):
    z = (np.random.default_rng(0).standard_normal((140, 5)) + offset).astype(np.float32)
    moments = init(5)
    step = jax.jit(update)
    for start in range(0, len(z), batch):
        moments = step(moments, jnp.asarray(z[start : start + batch]))
    _close(moments, z)


def test_the_textbook_formula_fails_where_this_one_does_not():
    z = (np.random.default_rng(0).standard_normal((60, 3)) + 1000).astype(np.float32)
    textbook = jnp.einsum("ni,nj->ij", z, z) / 60 - jnp.outer(z.mean(0), z.mean(0))
    exact = np.cov(z.astype(np.float64).T, bias=True)
    assert np.linalg.norm(np.asarray(textbook) - exact) > 1e-2 * np.linalg.norm(exact)
    assert np.linalg.norm(np.asarray(covariance(of_batch(jnp.asarray(z)))) - exact) < 1e-5 * np.linalg.norm(
        exact
    )


def test_padding_counts_for_nothing():
    z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    for padding in (1e6, np.nan, np.inf):
        padded = jnp.asarray(np.concatenate([z, np.full((3, 4), padding, np.float32)]))
        _close(of_batch(padded, jnp.arange(8) < 5), z)
        nothing = update(of_batch(jnp.asarray(z)), padded, jnp.zeros(8, bool))
        _close(nothing, z)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_removed_is_as_if_never_in(offset):
    z = (np.random.default_rng(0).standard_normal((60, 5)) + offset).astype(np.float32)
    for gone in (1, 7, 55):
        left = remove(of_batch(jnp.asarray(z)), of_batch(jnp.asarray(z[:gone])))
        _close(left, z[gone:], 2e-5)
    none = remove(of_batch(jnp.asarray(z)), of_batch(jnp.asarray(z)))
    assert int(none.count) == 0
    np.testing.assert_array_equal(none.scatter, np.zeros((5, 5)))
    _close(update(none, jnp.asarray(z[:9])), z[:9])


def test_what_was_never_in_can_not_be_removed():
    z = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    whole = of_batch(jnp.asarray(z))
    assert np.isnan(remove(whole, of_batch(jnp.asarray(z[:1]) + 100)).scatter).all()
    assert np.isnan(remove(of_batch(jnp.asarray(z[:5])), whole).scatter).all()


def test_counts_beyond_a_float():
    """float32 counts up to 2²⁴, bfloat16 to 256; and the count is of pictures, whatever the dtype."""
    one = of_batch(jnp.ones((1, 2)))
    many = replace(one, count=jnp.asarray(2**24, jnp.int32))
    assert int(merge(many, one).count) == 2**24 + 1
    half = of_batch(jnp.ones((300, 2), jnp.bfloat16))
    assert int(update(half, jnp.ones((1, 2), jnp.bfloat16)).count) == 301


def test_merging_with_the_empty_moments_changes_nothing():
    a = of_batch(jnp.asarray(np.random.default_rng(0).standard_normal((5, 4)), jnp.float32) + 100)
    for merged in (merge(a, init(4)), merge(init(4), a)):
        for got, expected in zip(jax.tree.leaves(merged), jax.tree.leaves(a), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_degenerate_inputs():
    one = of_batch(jnp.ones((1, 3)) * 5)
    np.testing.assert_array_equal(one.mean, [5, 5, 5])
    np.testing.assert_array_equal(covariance(one), np.zeros((3, 3)))
    constant = of_batch(jnp.full((7, 3), 0.1))
    np.testing.assert_array_equal(covariance(constant), np.zeros((3, 3)))


def test_divided_by_n():
    z = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    np.testing.assert_allclose(
        covariance(of_batch(jnp.asarray(z))), np.cov(z.T, bias=True), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("n", [1, 31, 32, 33, 70])
def test_over_the_grid_every_location_is_on_its_own(n):
    z = np.random.default_rng(0).standard_normal((n, 3, 2, 4)).astype(np.float32) + 10
    moments = jax.jit(over_grid(of_batch, in_axes=1))(z)
    assert moments.scatter.shape == (3, 2, 4, 4)
    for i, j in np.ndindex(3, 2):
        _close(jax.tree.map(lambda x, i=i, j=j: x[i, j], moments), z[:, i, j])


def test_scatter_is_exactly_symmetric():
    z = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    scatter = np.asarray(update(of_batch(jnp.asarray(z)), jnp.asarray(z) * 2).scatter)
    np.testing.assert_array_equal(scatter, scatter.T)


def test_gradient_reaches_the_data():
    z = jnp.asarray(np.random.default_rng(0).standard_normal((40, 3)), jnp.float32)
    gradient = jax.jit(jax.grad(lambda z: jnp.trace(covariance(of_batch(z)))))(z)
    np.testing.assert_allclose(gradient, 2 / 40 * (z - z.mean(0, keepdims=True)), atol=1e-6)
