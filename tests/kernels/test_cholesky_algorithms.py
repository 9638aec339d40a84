"""Every algorithm for L⁻¹ against NumPy in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.kernels import inverse_cholesky
from jaxsode.kernels.blocked_cholesky import blocked_inverse_cholesky, eliminate_columns
from jaxsode.kernels.cholesky import plain_inverse_cholesky
from jaxsode.kernels.pallas_cholesky import pallas_inverse_cholesky

ALGORITHMS = {
    "chosen": inverse_cholesky,
    "plain": plain_inverse_cholesky,
    "blocked": jax.jit(blocked_inverse_cholesky),
    "pallas": functools.partial(pallas_inverse_cholesky, interpret=True),
}
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)


def _covariances(B, k, *, n=60, epsilon=0.01, seed=0):
    """C + εI of n samples: of rank below k where k ≥ n, as it is with few good pictures."""
    x = np.random.default_rng(seed).standard_normal((B, n, k))
    return (np.swapaxes(x, 1, 2) @ x / n + epsilon * np.eye(k)).astype(np.float32)


def _referee(A):
    return np.linalg.inv(np.linalg.cholesky(A.astype(np.float64)))


def _error(M, expected):
    """The largest relative error among the matrices."""
    distance = np.linalg.norm(np.asarray(M, np.float64) - expected, axis=(1, 2))
    return np.max(distance / np.linalg.norm(expected, axis=(1, 2)))


@every_algorithm
@pytest.mark.parametrize("k", [1, 2, 7, 16, 33, 100])
def test_is_the_inverse_of_the_factor(algorithm, k):
    A = _covariances(5, k)
    M = algorithm(jnp.asarray(A))
    assert M.dtype == jnp.float32
    np.testing.assert_array_equal(M, np.tril(M))
    assert _error(M, _referee(A)) <= 3e-5


@pytest.mark.parametrize("k", [130, 300])
def test_larger_than_the_kernel_and_than_eight_small_leaves(k):
    A = _covariances(2, k)
    expected = _referee(A)
    assert _error(inverse_cholesky(jnp.asarray(A)), expected) <= 1e-4
    if k == 130:
        assert _error(ALGORITHMS["pallas"](jnp.asarray(A)), expected) <= 1e-4


@every_algorithm
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_the_numbers_does_not_matter(algorithm, scale):
    A = _covariances(3, 40)
    expected = _referee(A) / np.sqrt(scale)
    assert _error(algorithm(jnp.asarray(A * np.float32(scale))), expected) <= 3e-5


@every_algorithm
def test_ill_conditioned_is_as_near_as_float32_can_be(algorithm):
    k, condition = 48, 1e5
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal((4, k, k)))[0]
    A = (Q * np.geomspace(1, 1 / condition, k)) @ np.swapaxes(Q, 1, 2)
    A = ((A + np.swapaxes(A, 1, 2)) / 2).astype(np.float32)
    M = np.asarray(algorithm(jnp.asarray(A)), np.float64)
    # M A Mᵀ = I is what whitening needs; half a digit above what the condition takes from float32's seven
    residual = M @ A.astype(np.float64) @ np.swapaxes(M, 1, 2) - np.eye(k)
    assert np.abs(residual).max() <= 4 * condition * np.finfo(np.float32).eps


@every_algorithm
def test_diagonal_matrices_are_exact(algorithm):
    A = jnp.stack([jnp.diag(jnp.asarray([4.0, 16.0, 0.25])), jnp.eye(3)])
    np.testing.assert_allclose(
        algorithm(A), np.stack([np.diag([0.5, 0.25, 2.0]), np.eye(3)]), rtol=1e-6, atol=0
    )


@every_algorithm
@pytest.mark.parametrize("k", [3, 40])
def test_not_positive_definite_is_nan_on_the_diagonal_of_that_matrix_alone(algorithm, k):
    good = _covariances(1, k)[0]
    late = good.copy()
    late[-1, -1] = -1  # every pivot but the last is positive
    A = np.stack([good, -good, good, np.zeros_like(good), late, np.full_like(good, np.nan), good])
    M = np.asarray(algorithm(jnp.asarray(A)))
    bad = np.isnan(np.diagonal(M, axis1=1, axis2=2)).any(axis=1)
    np.testing.assert_array_equal(bad, [False, True, False, True, True, True, False])
    for i in (0, 2, 6):
        assert _error(M[i : i + 1], _referee(good[None])) <= 3e-5


@pytest.mark.parametrize("k", [12, 40])
def test_every_matrix_of_a_batch_in_chunks_is_computed(k):
    # several rounds, the last ones overlapping
    A = _covariances(1031, k)
    assert _error(jax.jit(inverse_cholesky)(jnp.asarray(A)), _referee(A)) <= 3e-5


def test_no_matrices_at_all():
    assert inverse_cholesky(jnp.zeros((0, 5, 5))).shape == (0, 5, 5)


def test_float64_is_kept():
    with jax.enable_x64(True):
        A = _covariances(2, 30).astype(np.float64)
        for algorithm in (inverse_cholesky, blocked_inverse_cholesky, eliminate_columns):
            M = algorithm(jnp.asarray(A))
            assert M.dtype == jnp.float64
            assert _error(M, _referee(A)) <= 1e-12


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_elsewhere_the_blocked_algorithm_is_chosen(platform):
    A = jax.ShapeDtypeStruct((4, 40, 40), jnp.float32)
    text = jax.jit(inverse_cholesky).trace(A).lower(lowering_platforms=(platform,)).as_text()
    assert "dot_general" in text
    assert "dynamic_update_slice" not in text  # the chunks of a CPU
    assert "custom_call" not in text  # a library's factorisation


@pytest.mark.parametrize("k", [1, 100, 300])
def test_the_kernel_lowers_for_a_gpu(k):
    A = jax.ShapeDtypeStruct((4, k, k), jnp.float32)
    text = jax.jit(pallas_inverse_cholesky).trace(A).lower(lowering_platforms=("cuda",)).as_text()
    assert "triton" in text
