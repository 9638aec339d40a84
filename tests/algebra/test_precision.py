"""The whitener against NumPy's inverse in float64; its derivative against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsode.algebra import over_grid
from jaxsode.algebra.cholesky import inverse_cholesky
from jaxsode.algebra.precision import Triangle, Whitener, blended, weight, whitener


def _covariance(rng, k, n):
    x = rng.standard_normal((n, k))
    return (x.T @ x / n).astype(np.float32)


@pytest.mark.parametrize(("k", "n"), [(1, 5), (2, 5), (17, 40), (100, 230), (100, 20)])
def test_is_the_inverse_of_the_factor(k, n):
    C = _covariance(np.random.default_rng(0), k, n)
    M = np.asarray(whitener(jnp.asarray(C), 0.01), np.float64)
    regular = C.astype(np.float64) + 0.01 * np.eye(k)
    np.testing.assert_array_equal(M, np.tril(M))
    expected = np.linalg.inv(np.linalg.cholesky(regular))
    assert np.linalg.norm(M - expected) <= 1e-4 * np.linalg.norm(expected)
    inverse = np.linalg.inv(regular)
    assert np.linalg.norm(M.T @ M - inverse) <= 1e-3 * np.linalg.norm(inverse)


def test_mapped_equals_one_by_one():
    rng = np.random.default_rng(0)
    C = np.stack([_covariance(rng, 12, 30) for _ in range(6)]).reshape(3, 2, 12, 12)
    grid = jax.jit(over_grid(lambda c: whitener(c, 0.01)))(C)
    for i, j in np.ndindex(3, 2):
        np.testing.assert_allclose(grid[i, j], whitener(jnp.asarray(C[i, j]), 0.01), rtol=1e-5, atol=1e-5)


def test_not_positive_definite_is_nan_at_that_location_alone():
    good = jnp.eye(3)
    M = jax.vmap(inverse_cholesky)(jnp.stack([good, -good, good]))
    assert np.isnan(M[1]).any()
    np.testing.assert_array_equal(M[0], np.eye(3))
    np.testing.assert_array_equal(M[2], np.eye(3))


def test_derivatives():
    C = jnp.asarray(_covariance(np.random.default_rng(0), 5, 20))
    # symmetric by construction, so that differences stay within the symmetric matrices
    check_grads(lambda x: whitener(jnp.asarray(x + x.T) / 2, 0.1), (C,), order=1, atol=2e-2, rtol=2e-2)


def test_derivative_under_vmap_and_jit():
    C = jnp.stack([jnp.asarray(_covariance(np.random.default_rng(i), 4, 9)) for i in range(3)])

    def loss(c):
        return jnp.sum(whitener(c, 0.1) ** 2)

    mapped = jax.jit(jax.vmap(jax.grad(loss)))(C)
    for i in range(3):
        # d tr(MMᵀ)… has a closed form: MᵀM = P, ‖M‖² = tr P, dtr P = −P²
        P = np.linalg.inv(np.asarray(C[i], np.float64) + 0.1 * np.eye(4))
        np.testing.assert_allclose(mapped[i], -P @ P, rtol=1e-3, atol=1e-3)


def test_blended_and_weighted_in_plain_words():
    rng = np.random.default_rng(0)
    C, shared = (np.cov(rng.standard_normal((4, 30))) for _ in range(2))
    blend = blended(jnp.asarray(C), jnp.asarray(shared), 0.3)
    np.testing.assert_allclose(blend, 0.7 * C + 0.3 * shared, rtol=1e-5)
    for v, gamma, expected in ((2.0, 0.2, 2**0.2), (0.5, 1.0, 0.5), (0.0, 0.2, 1e-3**0.2), (3.0, 0.0, 1.0)):
        w = weight(jnp.float32(v), jnp.float32(1), gamma)
        np.testing.assert_allclose(w, expected, rtol=1e-5)
    assert np.isnan(weight(jnp.float32(0), jnp.float32(0), 0.2))


@pytest.mark.parametrize("N", [1, 2, 7])
@pytest.mark.parametrize("m", [5, 3])
def test_distances_of_several_vectors_are_those_of_each(N, m):
    """One vector takes a form of its own."""
    rng = np.random.default_rng(N)
    M, z, mean = rng.standard_normal((m, 5)), rng.standard_normal((N, 5)), rng.standard_normal(5)
    z[0] = mean  # where √ has no derivative
    made = Whitener.of(jnp.asarray(M, jnp.float32))
    given = jnp.asarray(z, jnp.float32), jnp.asarray(mean, jnp.float32)
    got = made.distances(*given)
    np.testing.assert_allclose(got, np.linalg.norm((z - mean) @ M.T, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got, jax.vmap(made.distance, (0, None))(*given), rtol=1e-6, atol=1e-6)
    slope = jax.grad(lambda z: made.distances(z, given[1]).sum())(given[0])
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(made.matrix, jnp.asarray(M, jnp.float32))


@pytest.mark.parametrize("N", [1, 2, 7])
@pytest.mark.parametrize("k", [5, 32, 50])
def test_a_triangle_measures_as_the_matrix_does(N, k):
    rng = np.random.default_rng(N)
    M, z, mean = np.tril(rng.standard_normal((k, k))), rng.standard_normal((N, k)), rng.standard_normal(k)
    z[0] = mean  # where √ has no derivative
    made = Triangle.of(jnp.asarray(M, jnp.float32))
    given = jnp.asarray(z, jnp.float32), jnp.asarray(mean, jnp.float32)
    wanted = np.linalg.norm((z - mean) @ M.T, axis=1)
    np.testing.assert_allclose(made.distances(*given), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.distance(given[0][-1], given[1]), wanted[-1], rtol=1e-5, atol=1e-6)
    slope = jax.grad(lambda z: made.distances(z, given[1])[-1])(given[0])[-1]
    np.testing.assert_allclose(slope, (z[-1] - mean) @ M.T @ M / (wanted[-1] or 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(made.matrix, jnp.asarray(M, jnp.float32))
    of_grid = Triangle.of(jnp.broadcast_to(jnp.asarray(M, jnp.float32), (2, 3, k, k)))
    assert of_grid.matrix.shape == (2, 3, k, k)
