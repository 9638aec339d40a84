"""Several pictures left out together, against refits without them, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.algebra import leave_group_out, leave_one_out
from jaxsode.algebra.moments import covariance, of_batch


def _refit(z, out, epsilon, alpha=0.0, shared=None):
    z = z.astype(np.float64)
    others = np.delete(z, out, axis=0)
    deviation = others - others.mean(0)
    C = (1 - alpha) * deviation.T @ deviation / len(others) + epsilon * np.eye(z.shape[1])
    if shared is not None:
        C = C + alpha * shared
    delta = z[out] - others.mean(0)
    return np.sqrt(np.einsum("ni,ni->n", delta, np.linalg.solve(C, delta.T).T))


def _ours(z, out, epsilon, alpha=0.0, shared=None):
    moments = of_batch(z)
    options = {"shrinkage": alpha, "shared": shared}
    M = leave_group_out.whitener(covariance(moments), moments.count, len(out), epsilon, **options)
    return leave_group_out.distances(z[np.array(out)], moments.mean, moments.count, M, shrinkage=alpha)


@pytest.mark.parametrize(("n", "k", "out"), [(20, 6, [3, 4, 11]), (9, 30, [0, 8]), (40, 10, list(range(25)))])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_is_the_distance_to_a_model_fitted_without_them(n, k, out, alpha):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, k)) * np.geomspace(2, 0.05, k) + 3
    shared = None
    if alpha:
        half = rng.standard_normal((k, k))
        shared = half @ half.T / k
    with jax.enable_x64(True):
        true = _refit(z, out, 0.01, alpha, shared)
        given = jnp.asarray(z), out, 0.01, alpha, None if shared is None else jnp.asarray(shared)
        np.testing.assert_allclose(_ours(*given), true, rtol=1e-10)
    single = z.astype(np.float32)
    if shared is not None:
        shared = shared.astype(np.float32)
    true = _refit(single, out, 0.01, alpha, shared)
    ours = _ours(jnp.asarray(single), out, 0.01, alpha, None if shared is None else jnp.asarray(shared))
    np.testing.assert_allclose(ours, true, rtol=2e-3)


def test_of_one_is_leave_one_out():
    z = jnp.asarray(np.random.default_rng(1).standard_normal((12, 5)), jnp.float32)
    moments = of_batch(z)
    M = leave_one_out.whitener(covariance(moments), moments.count, 0.1)
    expected = leave_one_out.distance(z[4], moments.mean, moments.count, M)
    np.testing.assert_allclose(_ours(z, [4], 0.1)[0], expected, rtol=1e-5)


def test_what_cannot_be_told_is_nan():
    z = jnp.asarray(np.random.default_rng(2).standard_normal((4, 3)), jnp.float32)
    assert np.isnan(_ours(z, [0, 1, 2, 3], 0.1)).all()
    moments = of_batch(z)
    M = leave_group_out.whitener(covariance(moments), moments.count, 2, 1e-3)
    far = jnp.stack([z[0] + 1e4, z[1]])  # was not among them
    assert np.isnan(leave_group_out.distances(far, moments.mean, moments.count, M)).all()
