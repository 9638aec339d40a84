"""The eigenvectors of C against NumPy in float64; Theorem 1."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats

from jaxsode.algebra.eigenvectors import of_covariance, of_pictures
from jaxsode.errors import ArgumentError

EPSILON = 0.01
either_end = pytest.mark.parametrize("largest", [False, True], ids=["lower", "higher"])


def _pictures(n, F, seed=0, dtype=np.float32):
    """Centred, with a spectrum that no two eigenvalues share."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((F, F)))[0]
    x = rng.standard_normal((n, F)) * np.sqrt(np.geomspace(4, 0.02, F)) @ rotation
    return (x - x.mean(0)).astype(dtype)


def _covariance(Y):
    Y = Y.astype(np.float64)
    return Y.T @ Y / len(Y)


def _paths(Y, k, *, largest, key=0):
    """M by each of the two paths."""
    C = jnp.asarray(_covariance(Y), Y.dtype)
    yield of_covariance(C, float(len(Y)), k, EPSILON, largest=largest, key=key)
    yield of_pictures(jnp.asarray(Y), k, EPSILON, largest=largest, key=key)


def _check_rows(M, C, tolerance=1e-4):
    """Rows orthogonal before they are scaled; each scaled by its own (λ + ε)^(−1/2). Returns U."""
    M = np.asarray(M, np.float64)
    lengths = np.linalg.norm(M, axis=1)
    U = (M / lengths[:, None]).T
    np.testing.assert_allclose(U.T @ U, np.eye(len(M)), atol=5e-6)
    values = np.diag(U.T @ C @ U)
    np.testing.assert_allclose(U.T @ C @ U, np.diag(values), atol=1e-5)
    np.testing.assert_allclose(1 / lengths**2, values + EPSILON, rtol=tolerance, atol=1e-6)
    return U, values


@either_end
@pytest.mark.parametrize(
    ("n", "F", "k"),
    [
        *[(40, 12, 5), (40, 12, 12), (40, 12, 1), (13, 12, 4), (12, 12, 4), (9, 12, 5), (4, 12, 10)],
        *[(4, 12, 12), (1, 6, 3), (2, 6, 6), (1, 1, 1), (60, 200, 190)],
    ],
)
def test_eigenvectors_of_that_end(n, F, k, largest):
    Y = _pictures(n, F)
    C = _covariance(Y)
    values, vectors = np.linalg.eigh(C)
    values[: max(F - n + 1, 0)] = 0
    expected = values[F - k :] if largest else values[:k]
    z = np.random.default_rng(1).standard_normal((20, F))
    for M in _paths(Y, k, largest=largest):
        assert M.shape == (k, F)
        U, got = _check_rows(M, C)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
        # Where both ends of the choice are between different eigenvalues there is but one subspace.
        edge = F - k if largest else k
        if edge in (0, F) or values[edge] - values[edge - 1] > 1e-3:
            chosen = vectors[:, F - k :] if largest else vectors[:, :k]
            np.testing.assert_allclose(U @ U.T, chosen @ chosen.T, atol=2e-3)
            true = np.linalg.norm((z @ chosen) / np.sqrt(expected + EPSILON), axis=1)
            d = np.linalg.norm(z @ np.asarray(M, np.float64).T, axis=1)
            np.testing.assert_allclose(d, true, rtol=1e-3, atol=1e-3 * np.sqrt(np.mean(true**2)))


@either_end
@pytest.mark.parametrize("n", [4, 9, 40])
def test_float64(n, largest):
    with jax.enable_x64(True):
        Y = _pictures(n, 12, dtype=np.float64)
        projectors = []
        for M in _paths(Y, 12, largest=largest):
            assert M.dtype == jnp.float64
            projectors.append(np.asarray(M.T @ M))
        inverse = np.linalg.inv(_covariance(Y) + EPSILON * np.eye(12))
        for P in projectors:
            np.testing.assert_allclose(P, inverse, rtol=0, atol=1e-10 * np.abs(inverse).max())


@pytest.mark.parametrize(("n", "F", "k"), [(5, 20, 15), (5, 20, 6), (5, 20, 16), (1, 20, 3)])
def test_lower_of_few_pictures_is_a_random_part_of_their_null_space(n, F, k):
    Y = _pictures(n, F)
    for first, second, again in zip(
        *(_paths(Y, k, largest=False, key=key) for key in (0, 1, 0)), strict=True
    ):
        np.testing.assert_array_equal(first, again)
        for M in (first, second):
            np.testing.assert_allclose(Y @ np.asarray(M).T, 0, atol=1e-4)
            np.testing.assert_allclose(np.asarray(M @ M.T), np.eye(k) / EPSILON, atol=1e-3)
        same = np.allclose(first.T @ first, second.T @ second, atol=1e-2)
        assert same == (k == F - n + 1)  # all of it is not a choice


def test_what_completes_the_largest_is_random_too():
    Y = _pictures(4, 12)
    for a, b in zip(_paths(Y, 6, largest=True, key=0), _paths(Y, 6, largest=True, key=1), strict=True):
        np.testing.assert_allclose(a[3:].T @ a[3:], b[3:].T @ b[3:], atol=1e-3)
        np.testing.assert_allclose(Y @ np.asarray(a[:3]).T, 0, atol=1e-4)
        assert np.abs(a[:3].T @ a[:3] - b[:3].T @ b[:3]).max() > 1


def test_that_part_is_uniformly_distributed():
    """A row's coordinates in a basis of the null space are those of a uniform unit vector."""
    F, n, k = 8, 4, 2
    Y = _pictures(n, F)
    C = jnp.asarray(_covariance(Y), jnp.float32)
    null = np.linalg.svd(Y)[2][n - 1 :]
    dimensions = len(null)
    keys = jax.random.split(jax.random.key(0), 1000)
    for draw in (
        lambda key: of_covariance(C, float(n), k, 1.0, largest=False, key=key),
        lambda key: of_pictures(jnp.asarray(Y), k, 1.0, largest=False, key=key),
    ):
        x = np.asarray(jax.jit(jax.vmap(draw))(keys), np.float64) @ null.T
        t = x * np.sqrt(dimensions - 1) / np.sqrt(1 - x**2)
        p = [
            stats.kstest(t[:, i, j], stats.t(dimensions - 1).cdf).pvalue for i, j in np.ndindex(k, dimensions)
        ]
        assert min(p) > 1e-4 / len(p)


@either_end
def test_pictures_that_repeat_and_features_that_never_change(largest):
    """A rank below N − 1: some of the directions that the pictures span are the rounding's own."""
    Y = _pictures(3, 12)
    Y[:, 4] = 0
    Y = np.concatenate([Y, Y])
    C = _covariance(Y)
    expected = np.linalg.eigvalsh(C)
    for M in _paths(Y, 9, largest=largest):
        _, values = _check_rows(M, C)
        np.testing.assert_allclose(values, expected[3:] if largest else expected[:9], atol=1e-5)
    nothing = np.zeros((4, 6), np.float32)
    for M in _paths(nothing, 5, largest=largest):
        np.testing.assert_allclose(M @ M.T, np.eye(5) / EPSILON, atol=1e-3)


@either_end
def test_mapped_jitted_with_a_count_that_is_traced(largest):
    Y = np.stack([_pictures(5, 9, seed) for seed in range(3)])
    C = jnp.asarray(np.stack([_covariance(y) for y in Y]), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 3)
    counts = jnp.full(3, 5.0)
    mapped = jax.jit(jax.vmap(lambda c, n, key: of_covariance(c, n, 6, EPSILON, largest=largest, key=key)))(
        C, counts, keys
    )
    pictures = jax.jit(jax.vmap(lambda y, key: of_pictures(y, 6, EPSILON, largest=largest, key=key)))(Y, keys)
    for i in range(3):
        one = of_covariance(C[i], 5.0, 6, EPSILON, largest=largest, key=keys[i])
        np.testing.assert_allclose(mapped[i].T @ mapped[i], one.T @ one, rtol=1e-3, atol=1e-2)
        _check_rows(pictures[i], _covariance(Y[i]))


@either_end
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_nan(value, largest):
    for row in (0, 4):
        Y = _pictures(5, 9)
        Y[row, 2] = value
        M = of_pictures(jnp.asarray(Y), 3, EPSILON, largest=largest, key=0)
        assert np.isnan(M).any(axis=1).all()
    C = _covariance(_pictures(20, 9)).astype(np.float32)
    C[2, 2] = value
    assert np.isnan(of_covariance(jnp.asarray(C), 20.0, 3, EPSILON, largest=largest, key=0)).any(axis=1).all()


@pytest.mark.parametrize("k", [0, 7])
def test_k_out_of_range(k):
    for paths in (_paths(_pictures(4, 6), k, largest=True), _paths(_pictures(9, 6), k, largest=True)):
        with pytest.raises(ArgumentError, match=f"k = {k}"):
            list(paths)


F = 8
NORMS = {"Frobenius": "fro", "spectral": 2}


def _theorem():
    """C of eight features, and ‖C⁻¹ − W(WᵀCW)⁻¹Wᵀ‖ of any W."""
    Y = _pictures(40, F)
    C = _covariance(Y) + EPSILON * np.eye(F)

    def error(W, norm):
        return np.linalg.norm(np.linalg.inv(C) - W @ np.linalg.solve(W.T @ C @ W, W.T), norm)

    def eigenvectors(k, *, largest):
        M = of_covariance(jnp.asarray(_covariance(Y)), 40.0, k, EPSILON, largest=largest, key=0)
        return np.asarray(M.T / jnp.linalg.norm(M, axis=1)[None])

    return C, error, eigenvectors


def _nearest_by_rotation(W, error, norm, angle=1e-2, tries=300):
    """The least error of W turned by a small angle, at random."""
    rng = np.random.default_rng(0)
    turns = rng.standard_normal((tries, F, F))
    return min(error(linalg.expm(angle * (A - A.T) / np.linalg.norm(A)) @ W, norm) for A in turns)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("k", range(1, F))
def test_theorem_1_no_other_choice_of_eigenvectors_is_nearer(k, norm):
    with jax.enable_x64(True):
        C, error, eigenvectors = _theorem()
        best = error(eigenvectors(k, largest=False), norm)
        worst = error(eigenvectors(k, largest=True), norm)
    vectors = np.linalg.eigh(C)[1]
    errors = {s: error(vectors[:, s], norm) for s in itertools.combinations(range(F), k)}
    smallest = errors.pop(tuple(range(k)))
    np.testing.assert_allclose(best, smallest, rtol=1e-9)
    # All others are farther in both norms: the spectral one is 1/λ of the smallest that is left out.
    assert best < min(errors.values())
    np.testing.assert_allclose(worst, max(errors.values()), rtol=1e-9)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("k", range(1, F))
def test_theorem_1_no_small_rotation_is_nearer(k, norm):
    with jax.enable_x64(True):
        _, error, eigenvectors = _theorem()
        W = eigenvectors(k, largest=False)
    best = error(W, norm)
    assert _nearest_by_rotation(W, error, norm) >= best * (1 - 1e-12)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("k", range(1, F))
def test_from_another_choice_a_small_rotation_is_nearer(k, norm):
    """The test above can fail: from the largest eigenvectors, and from a W that is none of them."""
    with jax.enable_x64(True):
        _, error, eigenvectors = _theorem()
        W = eigenvectors(k, largest=False)
    A = np.random.default_rng(1).standard_normal((F, F))
    turned = linalg.expm(0.1 * (A - A.T) / np.linalg.norm(A)) @ W
    assert _nearest_by_rotation(turned, error, norm) < error(turned, norm)
