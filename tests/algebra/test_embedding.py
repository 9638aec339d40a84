"""W: semi-orthogonal, Haar-distributed, and the others beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jaxsode.algebra.embedding import (
    EMBEDDINGS,
    check_seed,
    gaussian,
    identity,
    named,
    sampled,
    semi_orthogonal,
)
from jaxsode.errors import ArgumentError


@settings(deadline=None, max_examples=15)
@given(features=st.integers(1, 40), data=st.data(), seed=st.integers(0, 2**31 - 1))
def test_columns_are_orthonormal(features, data, seed):
    k = data.draw(st.integers(1, features))
    for make in (semi_orthogonal, sampled):
        W = np.asarray(make(seed, features, k), np.float64)
        np.testing.assert_allclose(W.T @ W, np.eye(k), atol=3e-6)


def test_as_large_as_the_paper_needs():
    W = np.asarray(semi_orthogonal(0, 1792, 300), np.float64)
    np.testing.assert_allclose(W.T @ W, np.eye(300), atol=5e-6)


def _p_values(matrices):
    """Each entry of a Haar-distributed W is a coordinate of a uniform unit vector: test all for that."""
    F = matrices.shape[1]
    # x² of such a coordinate is Beta(1/2, (F−1)/2); for the signed one, x√(F−1)/√(1−x²) is Student's t.
    t = matrices * np.sqrt(F - 1) / np.sqrt(1 - matrices**2)
    return np.array(
        [stats.kstest(t[:, i, j], stats.t(F - 1).cdf).pvalue for i, j in np.ndindex(matrices.shape[1:])]
    )


def test_haar_distributed_and_only_with_the_sign_correction():
    keys = jax.random.split(jax.random.key(0), 1000)
    draw = jax.jit(jax.vmap(lambda key: semi_orthogonal(key, 6, 3)))
    plain = jax.jit(jax.vmap(lambda key: jnp.linalg.qr(gaussian(key, 6, 3))[0]))
    corrected = _p_values(np.asarray(draw(keys), np.float64))
    uncorrected = _p_values(np.asarray(plain(keys), np.float64))
    # 18 tests: at this level a Haar-distributed W fails once in 10 000 seeds.
    level = 1e-4 / 18
    assert corrected.min() > level
    assert uncorrected.min() < level


def test_rotation_invariance_of_the_first_two_columns():
    # Haar measure: UW has W's distribution for a fixed orthogonal U.
    keys = jax.random.split(jax.random.key(1), 1000)
    W = np.asarray(jax.jit(jax.vmap(lambda key: semi_orthogonal(key, 5, 2)))(keys), np.float64)
    U = stats.ortho_group(5, seed=3).rvs()
    assert _p_values(U @ W).min() > 1e-5


def test_sampled_is_columns_of_the_identity_without_repeats():
    W = np.asarray(sampled(7, 50, 20))
    assert set(np.unique(W)) == {0, 1}
    assert (W.sum(0) == 1).all()
    assert W.sum(1).max() == 1


def test_gaussian_has_unit_variance():
    W = np.asarray(gaussian(0, 200, 100), np.float64)
    assert abs(W.mean()) < 5 / np.sqrt(W.size)
    assert abs(W.var() - 1) < 5 * np.sqrt(2 / W.size)


def test_identity():
    np.testing.assert_array_equal(identity(4), np.eye(4))


def test_seed_and_key_agree_and_seeds_differ():
    np.testing.assert_array_equal(semi_orthogonal(3, 8, 2), semi_orthogonal(jax.random.key(3), 8, 2))
    assert not np.array_equal(semi_orthogonal(3, 8, 2), semi_orthogonal(4, 8, 2))


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_by_name(name):
    W = named(name, 0, 6, 6)
    assert W.shape == (6, 6)
    assert W.dtype == jnp.float32


@pytest.mark.parametrize(("k", "words"), [(0, "k = 0 is below 1"), (7, "k = 7 exceeds the 6 features")])
@pytest.mark.parametrize("make", [semi_orthogonal, sampled, gaussian])
def test_k_out_of_range(make, k, words):
    with pytest.raises(ArgumentError, match=words):
        make(0, 6, k)


@pytest.mark.parametrize("seed", [2**32, -1])
def test_seeds_out_of_range(seed):
    """JAX takes 2³² for 0 without a word."""
    with pytest.raises(ArgumentError, match="choose 0 ≤ seed < 2³²"):
        semi_orthogonal(seed, 6, 2)


@pytest.mark.parametrize("seed", [1.5, None, "0"])
def test_what_is_no_seed(seed):
    with pytest.raises(ArgumentError, match="is no integer"):
        check_seed(seed)


def test_a_seed_is_any_integer_and_means_the_same_under_any_configuration():
    expected = semi_orthogonal(3, 8, 2)
    np.testing.assert_array_equal(semi_orthogonal(np.int64(3), 8, 2), expected)
    assert not np.array_equal(semi_orthogonal(2**32 - 1, 8, 2), semi_orthogonal(2**31 - 1, 8, 2))
    drawn = sampled(3, 8, 2)
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(semi_orthogonal(3, 8, 2), expected)
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(semi_orthogonal(3, 8, 2), expected)
        np.testing.assert_array_equal(sampled(3, 8, 2), drawn)


def test_unknown_name():
    with pytest.raises(ArgumentError, match="'pca' is unknown: choose one of semi-orthogonal"):
        named("pca", 0, 6, 2)
