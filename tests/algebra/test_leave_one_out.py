"""Leave-one-out against refits without the picture, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsode.algebra import over_grid
from jaxsode.algebra.dual import factorise
from jaxsode.algebra.leave_one_out import TRUSTED, corrected, distance, log_likelihood, whitener
from jaxsode.algebra.likelihood import of_pictures
from jaxsode.algebra.moments import covariance, of_batch


def _refit(z, epsilon):
    """d and the log-likelihood of each row of z to the mean and covariance of all the others."""
    z = z.astype(np.float64)
    results = []
    for n in range(len(z)):
        others = np.delete(z, n, axis=0)
        deviation = others - others.mean(0)
        C = deviation.T @ deviation / len(others) + epsilon * np.eye(z.shape[1])
        delta = z[n] - others.mean(0)
        d2 = delta @ np.linalg.solve(C, delta)
        log_density = -(d2 + np.linalg.slogdet(2 * np.pi * C)[1]) / 2
        results.append((np.sqrt(d2), log_density))
    return np.array(results).T


@jax.jit
def _ours(z, epsilon):
    moments = of_batch(z)
    M = whitener(covariance(moments), moments.count, epsilon)

    def both(x):
        arguments = x, moments.mean, moments.count, M
        return distance(*arguments), log_likelihood(*arguments)

    return jax.vmap(both)(z)


def _pictures(n, k, seed=0):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((k, k)))[0]
    return rng.standard_normal((n, k)) * np.sqrt(np.geomspace(3, 1e-4, k)) @ rotation + rng.gamma(1, 1, k)


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
@pytest.mark.parametrize(("n", "k"), [(2, 1), (2, 5), (60, 7), (60, 59), (60, 61), (20, 100), (230, 100)])
def test_is_the_distance_to_a_model_fitted_without_it(n, k, epsilon):
    z = _pictures(n, k)
    expected = _refit(z.astype(np.float32), epsilon)
    ours = _ours(jnp.asarray(z, jnp.float32), jnp.float32(epsilon))
    for got, true in zip(ours, expected, strict=True):
        assert got.dtype == jnp.float32
        # log-likelihoods pass through zero: relative to their terms, which are about k
        np.testing.assert_allclose(got, true, rtol=1e-3, atol=1e-3 * k * (true is expected[1]))
    with jax.enable_x64(True):
        expected = _refit(z, epsilon)
        for got, true in zip(_ours(jnp.asarray(z), epsilon), expected, strict=True):
            assert got.dtype == jnp.float64
            np.testing.assert_allclose(got, true, rtol=1e-10, atol=1e-10 * k * (true is expected[1]))


def test_over_the_grid_with_moments_that_were_not_filled():
    """One location has a single picture, another none at all, and neither spoils the third."""
    z = jnp.asarray(np.stack([_pictures(9, 4)] * 3), jnp.float32)
    counts = np.array([9, 1, 0])
    moments = jax.vmap(of_batch)(z, jnp.asarray(np.arange(9)[None] < counts[:, None]))
    M = jax.vmap(lambda m: whitener(m.scatter / jnp.maximum(m.count, 1).astype(jnp.float32), m.count, 0.01))(
        moments
    )
    grid = [a[None] for a in (z[:, 0], moments.mean, moments.count, M)]
    for function, expected in zip((distance, log_likelihood), _refit(np.asarray(z[0]), 0.01), strict=True):
        result = np.asarray(jax.jit(over_grid(function))(*grid))[0]
        np.testing.assert_allclose(result[0], expected[0], rtol=1e-4)
        assert np.isnan(result[1:]).all()


@pytest.mark.parametrize("count", [0, 1, 1.0])
def test_nothing_is_left_when_the_only_picture_is_left_out(count):
    z = jnp.ones(3)
    assert np.isnan(whitener(jnp.zeros((3, 3)), float(count), 0.01)).any()
    for function in (distance, log_likelihood):
        assert np.isnan(function(z, z, float(count), jnp.eye(3)))


def test_a_picture_that_can_not_have_been_among_them_has_no_number():
    z = jnp.asarray(_pictures(40, 6), jnp.float32)
    moments = of_batch(z)
    M = whitener(covariance(moments), moments.count, 0.01)
    for far in (100.0, 1e6, np.inf, np.nan):
        assert np.isnan(distance(z[0] + far, moments.mean, moments.count, M))
        assert np.isnan(log_likelihood(z[0] + far, moments.mean, moments.count, M))


def test_right_up_to_where_it_is_nan():
    """One picture ever farther off: first right to a hundredth, then NaN, and never in between."""
    z = _pictures(60, 10)
    lost = []
    for away in np.geomspace(1, 1e5, 60):
        moved = z.copy()
        moved[0] += away
        d = float(_ours(jnp.asarray(moved, jnp.float32), jnp.float32(0.3))[0][0])
        lost.append(np.isnan(d))
        if not lost[-1]:
            np.testing.assert_allclose(d, _refit(moved.astype(np.float32), 0.3)[0][0], rtol=1e-2)
            assert d < 1.01 * np.sqrt(60 / (TRUSTED * np.finfo(np.float32).eps))
    assert lost == sorted(lost)
    assert 0 < sum(lost) < 60


def test_farther_than_float32_reaches_is_not_too_far_for_float64():
    z = _pictures(60, 10)
    z[0] += 1e4
    assert np.isnan(_ours(jnp.asarray(z, jnp.float32), jnp.float32(0.3))[0][0])
    with jax.enable_x64(True):
        np.testing.assert_allclose(_ours(jnp.asarray(z), 0.3)[0][0], _refit(z, 0.3)[0][0], rtol=1e-6)


def test_zero_at_the_mean_with_a_finite_gradient():
    mean = jnp.ones(3)
    value, gradient = jax.value_and_grad(distance)(mean, mean, 5.0, jnp.eye(3))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(3))
    np.testing.assert_array_equal(jax.grad(log_likelihood)(mean, mean, 5.0, jnp.eye(3)), np.zeros(3))


def test_gradient_is_that_of_differences():
    z = jnp.asarray(_pictures(30, 4), jnp.float32)
    moments = of_batch(z)
    M = whitener(covariance(moments), moments.count, 0.3)
    for function in (distance, log_likelihood):
        check_grads(
            lambda x, function=function: function(jnp.asarray(x), moments.mean, moments.count, M),
            (z[0],),
            order=1,
            atol=2e-2,
            rtol=2e-2,
        )


def test_of_the_dual_form_too():
    z = _pictures(30, 80).astype(np.float32)
    Y = jnp.asarray(z - z.mean(0))
    dual = factorise(Y, 0.01 * (1 - 1 / 30))
    inside = jax.vmap(lambda y: dual.distance(y, jnp.zeros(80)))(Y)
    ours = jax.vmap(lambda d: corrected(d, 30.0))(inside)
    np.testing.assert_allclose(ours, _refit(z, 0.01)[0], rtol=1e-3)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(("n", "k"), [(2, 5), (10, 30), (60, 7)])
def test_of_a_covariance_that_is_shrunk(n, k, shrinkage):
    """Against refits that blend with the same C̄: in float64 to 1e-10."""
    z, other = _pictures(n, k), _pictures(50, k, seed=1)
    shared = np.cov(other.T, bias=True)
    expected = []
    for i in range(n):
        others = np.delete(z, i, axis=0)
        deviation = others - others.mean(0)
        C = (1 - shrinkage) * deviation.T @ deviation / len(others) + shrinkage * shared + 0.05 * np.eye(k)
        delta = z[i] - others.mean(0)
        d2 = delta @ np.linalg.solve(C, delta)
        expected.append((np.sqrt(d2), -(d2 + np.linalg.slogdet(2 * np.pi * C)[1]) / 2))
    with jax.enable_x64(True):
        moments = of_batch(jnp.asarray(z))
        M = whitener(
            covariance(moments), moments.count, 0.05, shrinkage=shrinkage, shared=jnp.asarray(shared)
        )
        for function, true in zip((distance, log_likelihood), np.array(expected).T, strict=True):
            got = jax.vmap(lambda x, f=function: f(x, moments.mean, moments.count, M, shrinkage=shrinkage))(
                jnp.asarray(z)
            )
            np.testing.assert_allclose(got, true, rtol=1e-10, atol=1e-10 * k * (function is log_likelihood))
        mean, squared = of_pictures(
            jnp.asarray(z - z.mean(0)),
            covariance(moments),
            0.05,
            shrinkage=shrinkage,
            shared=jnp.asarray(shared),
        )
        d, density = np.array(expected).T
        np.testing.assert_allclose([mean, squared], [density.mean() / k, (d**2).mean() / k], rtol=1e-9)


def test_one_picture_far_off_leaves_no_likelihood():
    z = np.asarray(_pictures(9, 4), np.float32)
    z[3] += 1e6
    deviation = jnp.asarray(z - z.mean(0))
    C = jnp.einsum("ni,nj->ij", deviation, deviation) / 9
    assert np.isnan(of_pictures(deviation, C, 1e-3)).all()
