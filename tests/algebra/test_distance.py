"""The distance against NumPy's float64, and the anomaly map against SciPy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxsode.algebra import over_grid
from jaxsode.algebra.distance import anomaly_map, mahalanobis, resampling
from jaxsode.algebra.embedding import semi_orthogonal
from jaxsode.algebra.moments import covariance, of_batch
from jaxsode.algebra.precision import whitener


def _reference_map(distance, size, sigma):
    """Bilinear with half-pixel centres, pixel by pixel; then SciPy's filter."""
    H, W = distance.shape
    out = np.zeros(size)
    for y, x in np.ndindex(*size):
        v = min(max((y + 0.5) * H / size[0] - 0.5, 0), H - 1)
        u = min(max((x + 0.5) * W / size[1] - 0.5, 0), W - 1)
        i, j = int(v), int(u)
        below, right = min(i + 1, H - 1), min(j + 1, W - 1)
        top = distance[i, j] * (1 - (u - j)) + distance[i, right] * (u - j)
        bottom = distance[below, j] * (1 - (u - j)) + distance[below, right] * (u - j)
        out[y, x] = top * (1 - (v - i)) + bottom * (v - i)
    return ndimage.gaussian_filter(out, sigma, mode="reflect", truncate=4.0) if sigma else out


@pytest.mark.parametrize("sigma", [0.0, 1.3, 4.0])
@pytest.mark.parametrize(
    ("grid", "size"),
    [((16, 8), (64, 32)), ((7, 9), (25, 40)), ((1, 1), (5, 3)), ((3, 2), (12, 8)), ((6, 6), (6, 6))],
)
def test_map_is_bilinear_then_gaussian(grid, size, sigma):
    distance = np.random.default_rng(0).gamma(3, size=grid)
    expected = _reference_map(distance, size, sigma)
    np.testing.assert_allclose(
        anomaly_map(jnp.asarray(distance, jnp.float32), size, sigma=sigma), expected, rtol=2e-6
    )


def test_a_constant_map_stays_constant():
    np.testing.assert_allclose(
        anomaly_map(jnp.full((5, 4), 3.0), (20, 16)), np.full((20, 16), 3.0), rtol=1e-6
    )


def test_distance_is_the_quadratic_form():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 8)).astype(np.float32)
    C = np.cov(x.T.astype(np.float64), bias=True)
    z = rng.standard_normal(8).astype(np.float32)
    moments = of_batch(jnp.asarray(x))
    d = mahalanobis(jnp.asarray(z), moments.mean, whitener(covariance(moments), 0.01))
    difference = z - x.astype(np.float64).mean(0)
    expected = np.sqrt(difference @ np.linalg.inv(C + 0.01 * np.eye(8)) @ difference)
    np.testing.assert_allclose(d, expected, rtol=1e-5)


def test_zero_at_the_mean_with_a_finite_gradient():
    mean = jnp.ones(3)
    value, gradient = jax.value_and_grad(mahalanobis)(mean, mean, jnp.eye(3))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_a_small_distance(value):
    """In the features, the mean or the whitener: "clean" is the one thing that it must not say."""
    M = np.tril(np.ones((3, 3), np.float32))
    spoilt = M.copy()
    spoilt[2, 1] = value
    z, mean = np.ones(3, np.float32), np.zeros(3, np.float32)
    bad = np.array([1, value, 1], np.float32)
    for arguments in ((bad, mean, M), (z, bad, M), (z, mean, spoilt)):
        assert not np.isfinite(mahalanobis(*map(jnp.asarray, arguments)))
    distance = jnp.ones((4, 4)).at[1, 2].set(value)
    assert not np.isfinite(anomaly_map(distance, (16, 16))).all()


def test_proposition_2():
    """The mean squared distance over the training set tends to k as ε → 0 when N > k, whatever W."""
    N, F, k = 60, 12, 7
    x = jnp.asarray(np.random.default_rng(0).standard_normal((N, 2, 3, F)), jnp.float32)
    for seed in range(3):
        z = x @ semi_orthogonal(seed, F, k)
        moments = over_grid(of_batch, in_axes=1)(z)
        gaps = []
        for epsilon in (1e-1, 1e-3, 1e-5):
            M = over_grid(lambda m, epsilon=epsilon: whitener(covariance(m), epsilon))(moments)
            d = jax.vmap(over_grid(mahalanobis), in_axes=(0, None, None))(z, moments.mean, M)
            gaps.append(np.abs(np.mean(np.asarray(d, np.float64) ** 2, axis=0) - k).max())
        assert gaps[0] > gaps[1] > gaps[2]
        assert gaps[2] < 1e-3


def test_all_of_it_in_one_differentiable_program():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((20, 2, 2, 6)), jnp.float32)
    W = semi_orthogonal(0, 6, 3)

    @jax.jit
    def mean_distance(W):
        z = x @ W
        moments = over_grid(of_batch, in_axes=1)(z)
        M = over_grid(lambda m: whitener(covariance(m), 0.01))(moments)
        return jnp.mean(jax.vmap(over_grid(mahalanobis), in_axes=(0, None, None))(z, moments.mean, M))

    gradient = jax.grad(mean_distance)(W)
    direction = jnp.asarray(rng.standard_normal(W.shape), jnp.float32)
    step = 1e-2
    difference = (mean_distance(W + step * direction) - mean_distance(W - step * direction)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(gradient * direction), difference, rtol=2e-2, atol=1e-3)


def test_matrices_of_many_sizes_are_not_kept():
    for target in range(64, 80):
        resampling(8, target, 1.0)
    assert resampling.cache_info().currsize <= 4
