"""The error of the low-rank precision and its bounds, against float64 made from eigenvectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.algebra import bounds, embedding
from jaxsode.errors import ArgumentError

F, K = 9, 4


def _covariance(seed=0):
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((F, F)))[0]
    values = np.sort(10.0 ** rng.uniform(-1, 1, F))
    return U, values, U @ np.diag(values) @ U.T


@pytest.mark.parametrize("norm", ["frobenius", "spectral"])
def test_error_and_bounds(norm):
    U, values, C = _covariance()
    order = {"frobenius": "fro", "spectral": 2}[norm]
    with jax.enable_x64(True):
        W = np.asarray(embedding.semi_orthogonal(0, F, K), np.float64)
        P = np.linalg.inv(C)
        expected = np.linalg.norm(P - W @ np.linalg.inv(W.T @ C @ W) @ W.T, order) ** 2
        error = float(bounds.approximation_error(jnp.asarray(C), jnp.asarray(W), norm=norm))
        assert error == pytest.approx(expected, rel=1e-9)
        low, high = bounds.error_bounds(jnp.asarray(values), K, norm=norm)
        best = np.linalg.norm(P - U[:, :K] @ np.diag(1 / values[:K]) @ U[:, :K].T, order) ** 2
        worst = np.linalg.norm(P - U[:, -K:] @ np.diag(1 / values[-K:]) @ U[:, -K:].T, order) ** 2
        assert float(low) == pytest.approx(best, rel=1e-9)
        assert float(high) == pytest.approx(worst, rel=1e-9)
        assert [float(b) for b in bounds.error_bounds(jnp.asarray(values), F, norm=norm)] == [0, 0]


def test_eigenvalues():
    _, _, C = _covariance()
    W = np.asarray(embedding.gaussian(0, F, K), np.float64)
    with jax.enable_x64(True):
        found = bounds.embedded_eigenvalues(jnp.asarray(C), jnp.asarray(W))
        np.testing.assert_allclose(found, np.linalg.eigvalsh(W.T @ C @ W), rtol=1e-9)


def test_refused():
    with pytest.raises(ArgumentError, match="k = 10"):
        bounds.error_bounds(jnp.ones(F, jnp.float32), 10)
