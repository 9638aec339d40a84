"""Proposition 2, the mean of the squared distance: of the pictures that were fitted, and of others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import gaussian, quick, seeds, semi_orthogonal

from jaxsode.algebra import embedding, moments
from jaxsode.algebra.distance import mahalanobis
from jaxsode.algebra.precision import whitener

N, F, K = 40, 9, 4


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def _pictures(seed, n=N):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, F)) * np.geomspace(3, 0.1, F) @ rng.standard_normal((F, F))


@jax.jit
def _about_zero(x, W, epsilon):
    """d of each picture; the mean is zero and known, as the paper has it."""
    z = x @ W
    M = whitener(z.T @ z / len(z), epsilon)
    return jax.vmap(lambda one: mahalanobis(one, jnp.zeros(W.shape[1]), M))(z)


@jax.jit
def _about_their_mean(x, W, epsilon):
    """d of each picture; the mean is estimated, as the method has it."""
    z = x @ W
    of_all = moments.of_batch(z)
    M = whitener(moments.covariance(of_all), epsilon)
    return jax.vmap(lambda one: mahalanobis(one, of_all.mean, M))(z)


@quick
@given(seed=seeds)
def test_proposition_2(seed):
    """The mean of d² over the fitted pictures is k. True if WᵀX has rank k; W need not be semi-orthogonal."""
    x = _pictures(seed)
    for W in (semi_orthogonal(seed, F, K), gaussian(seed, F, K)):
        for distances in (_about_zero, _about_their_mean):
            d = np.asarray(distances(x, W, 0.0))
            assert np.mean(d**2) == pytest.approx(K, rel=1e-6)
            assert np.mean(d) < np.sqrt(K)  # of d², not of d (Jensen)


def test_proposition_2_is_the_rank():
    """k ≤ min(F, N) is not enough: where WᵀX has a lower rank r the mean, with a pseudo-inverse, is r.

    Features that repeat or don't vary, k = N pictures with their mean taken off, eigenvectors of C's null
    space: of the last, which the paper allows, there is nothing left at all.
    """

    def rank(z):
        return np.mean(np.einsum("ni,ij,nj->n", z, np.linalg.pinv(z.T @ z / len(z), rcond=1e-10), z))

    x = _pictures(0)
    twice = np.concatenate([x, x[:, :3]], axis=1)
    assert rank(twice @ np.eye(F + 3)[:, [0, 1, 9, 10]]) == pytest.approx(2)
    assert rank(np.where(np.arange(F) < 3, x, 0) @ np.eye(F)[:, 1:5]) == pytest.approx(2)
    few = _pictures(1, K)
    assert rank(few @ semi_orthogonal(0, F, K)) == pytest.approx(K)
    assert rank((few - few.mean(0)) @ semi_orthogonal(0, F, K)) == pytest.approx(K - 1)


def test_proposition_2_proof():
    """The mean of d² is tr FF⁺ with F = XᵀW: a projection's trace (Eq. 13, 14), k. True if F has rank k."""
    z = _pictures(0) @ semi_orthogonal(0, F, K)
    projection = z @ np.linalg.pinv(z)
    np.testing.assert_allclose(projection @ projection, projection, atol=1e-10)
    assert np.trace(projection) == pytest.approx(K)
    assert not np.allclose(projection, np.eye(N), atol=0.1)
    C = z.T @ z / N
    assert np.mean(np.einsum("ni,ij,nj->n", z, np.linalg.inv(C), z)) == pytest.approx(K)
    z[:, 1] = z[:, 0]
    assert np.trace(z @ np.linalg.pinv(z, rcond=1e-10)) == pytest.approx(K - 1)


def test_proposition_2_of_eigenvectors():
    """Any k eigenvectors of C as W have the mean k, says Appendix A. True if none has λ = 0."""
    x = _pictures(0)
    _, U = np.linalg.eigh(x.T @ x / N)
    for chosen in ([0, 1, 2, 3], [0, 3, 5, 8]):
        assert np.mean(np.asarray(_about_zero(x, U[:, chosen], 0.0)) ** 2) == pytest.approx(K, rel=1e-6)
    # Where k ≤ min(F, N) as the paper asks, and yet λ = 0: nothing of the pictures is left to be measured.
    few = x[:K]
    null = np.linalg.svd(few)[2][K:].T[:, :K]
    np.testing.assert_allclose(few.T @ few @ null, 0, atol=1e-9)
    np.testing.assert_allclose(few @ null, 0, atol=1e-9)


@quick
@given(seed=seeds, epsilon=st.floats(1e-4, 10))
def test_proposition_2_with_epsilon(seed, epsilon):
    """With ε the mean is Σ λ/(λ + ε) over the eigenvalues λ of WᵀCW, whatever W and its rank. True."""
    x = _pictures(seed)
    for W in (semi_orthogonal(seed, F, K), np.asarray(embedding.sampled(seed, F, K), float)):
        d = np.asarray(_about_their_mean(x, W, epsilon))
        values = np.linalg.eigvalsh(np.cov((x @ W).T, bias=True))
        expected = np.sum(values / (values + epsilon))
        assert np.mean(d**2) == pytest.approx(expected, rel=1e-6)
        assert expected < K
    flat = np.concatenate([x[:, :2], np.zeros((N, F - 2))], axis=1)
    d = np.asarray(_about_their_mean(flat, np.eye(F)[:, :K], epsilon))
    assert np.mean(d**2) < 2


@pytest.mark.parametrize("known_mean", [True, False])
def test_proposition_2_of_unseen_pictures(known_mean):
    """Of Gaussian pictures that were not fitted the mean of d² is far above k.

    False of them, exact instead: kN/(N − k − 1) with the mean known to be zero, as in the paper, where
    N > k + 1; k(N + 1)/(N − k − 2) with the mean estimated, as in the method, where N > k + 2. So no
    threshold follows from k alone.
    """
    n, k, fits = 20, 4, 20_000
    expected = k * n / (n - k - 1) if known_mean else k * (n + 1) / (n - k - 2)
    assert expected == pytest.approx(16 / 3 if known_mean else 6)

    def squared(z):
        of_all = moments.of_batch(z[:-1])
        mean = jnp.zeros(k) if known_mean else of_all.mean
        C = z[:-1].T @ z[:-1] / n if known_mean else moments.covariance(of_all)
        return mahalanobis(z[-1], mean, whitener(C, 0.0)) ** 2

    z = np.random.default_rng(0).standard_normal((fits, n + 1, k))
    d2 = np.asarray(jax.jit(jax.vmap(squared))(z))
    error = d2.std() / np.sqrt(fits)
    assert error < 0.05
    assert abs(d2.mean() - expected) < 4 * error


def test_proposition_2_of_unseen_pictures_whatever_the_error():
    """E is said to decide how well d² holds for unseen good pictures. Of Gaussian ones false.

    d² doesn't change with an invertible matrix on z, hence its distribution is the same for every C and every
    W of rank k, for the best E and for the worst: N and k alone decide. What E decides is an anomaly's d².
    """
    n, k, fits = 20, 4, 20_000
    rng = np.random.default_rng(0)
    values = np.geomspace(1e-3, 1e3, F)
    x = rng.standard_normal((fits, n + 1, F)) * np.sqrt(values)

    def squared(z):
        of_all = moments.of_batch(z[:-1])
        return mahalanobis(z[-1], of_all.mean, whitener(moments.covariance(of_all), 0.0)) ** 2

    each = jax.jit(jax.vmap(squared))
    for W in (np.eye(F)[:, :k], np.eye(F)[:, -k:], semi_orthogonal(0, F, k)):
        d2 = np.asarray(each(x @ W))
        assert abs(d2.mean() - 6) < 4 * d2.std() / np.sqrt(fits)
    # A step along the smallest eigenvector: the best W sees it, the worst doesn't.
    step = np.eye(F)[0]
    best, worst = (step @ W @ (W.T / values @ W) @ W.T @ step for W in (np.eye(F)[:, :k], np.eye(F)[:, -k:]))
    assert best == pytest.approx(1e3)
    assert worst == 0
