"""Why a Gaussian embedding Ω distorts: ε alone. Without it only the space of its columns counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import covariance, gaussian, low_rank, quick, seeds, semi_orthogonal

from jaxsode.algebra import embedding
from jaxsode.algebra.distance import mahalanobis
from jaxsode.algebra.precision import whitener

F, K = 30, 6


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@jax.jit
def _squared(x, C, W, epsilon):
    M = whitener(W.T @ C @ W, epsilon)
    return mahalanobis(W.T @ x, jnp.zeros(W.shape[1]), M) ** 2


def _case(seed):
    _, _, C = covariance(seed, F)
    return np.random.default_rng(seed).standard_normal(F), C, gaussian(seed, F, K)


@quick
@given(seed=seeds)
def test_gaussian_without_epsilon_is_its_q(seed):
    """At ε = 0 the distance by Ω and by the Q of Ω = QR are one number. True: R cancels.

    So by the semi-orthogonal W of the same seed, which is Q up to signs.
    """
    x, C, omega = _case(seed)
    d2 = float(_squared(x, C, omega, 0.0))
    for W in (np.linalg.qr(omega)[0], semi_orthogonal(seed, F, K)):
        assert float(_squared(x, C, W, 0.0)) == pytest.approx(d2, rel=1e-4)
    # float64's own Q; the product's, in float32 at first, is near by
    assert float(_squared(x, C, np.linalg.qr(omega)[0], 0.0)) == pytest.approx(d2, rel=1e-9)
    assert float(_squared(x, C, np.linalg.qr(omega)[0], 1.0)) != pytest.approx(
        float(_squared(x, C, omega, 1.0)), rel=1e-2
    )


@quick
@given(seed=seeds, epsilon=st.floats(1e-4, 10))
def test_gaussian_with_epsilon_lies_between_two_epsilons(seed, epsilon):
    """With s the singular values of Ω, its d² is between those by Q with ε/s²min and with ε/s²max. True."""
    x, C, omega = _case(seed)
    Q, s = np.linalg.qr(omega)[0], np.linalg.svd(omega, compute_uv=False)
    least, most = (float(_squared(x, C, Q, epsilon / end**2)) for end in (s[-1], s[0]))
    assert least * (1 - 1e-9) <= float(_squared(x, C, omega, epsilon)) <= most * (1 + 1e-9)


def test_gaussian_with_epsilon_is_semi_orthogonal_with_epsilon_over_f():
    """True if k is far below F, for then ΩᵀΩ is nearly F·I: within a tenth here, and not with the same ε."""
    features, k, epsilon = 2000, 4, 1.0
    rng = np.random.default_rng(0)
    variances = np.geomspace(1e-2, 1e-5, features)
    ratios, same = [], []
    for seed in range(10):
        omega = np.asarray(embedding.gaussian(seed, features, k), np.float64)
        Q, x = np.linalg.qr(omega)[0], rng.standard_normal(features)

        def squared(W, epsilon, x=x):
            z = W.T @ x
            return z @ np.linalg.solve((W.T * variances) @ W + epsilon * np.eye(k), z)

        ratios.append(squared(omega, epsilon) / squared(Q, epsilon / features))
        same.append(squared(omega, epsilon) / squared(Q, epsilon))
    np.testing.assert_allclose(ratios, 1, atol=0.1)
    assert min(same) > 100


def test_gaussian_of_full_size_still_distorts():
    """At k = F the paper's Figure 2 has Gaussian below full rank: at ε = 0 it would be the same. True.

    ΩᵀΩ of a square Ω has eigenvalues of 0 to 4F: what ε is there differs from direction to direction.
    """
    _, _, C = covariance(0, F)
    omega = gaussian(0, F, F)
    np.testing.assert_allclose(low_rank(C, omega), np.linalg.inv(C), rtol=1e-3, atol=1e-3)
    P = np.linalg.inv(C + 0.1 * np.eye(F))
    assert np.abs(low_rank(C, omega, 0.1) - P).max() > 0.1 * np.abs(P).max()
    s2 = np.linalg.svd(omega, compute_uv=False) ** 2 / F
    assert s2.max() / s2.min() > 100
    tall = np.linalg.svd(gaussian(0, 30 * F, F), compute_uv=False) ** 2
    assert tall.max() / tall.min() < 3
