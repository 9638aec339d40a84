"""Lemmas 1 and 2, Theorems 1 and 2, Corollary 1 and Cauchy's interlacing theorem, in float64.

E = C⁻¹ − W(WᵀCW)⁻¹Wᵀ throughout, C being F × F and W F × k.
"""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import (
    NORMS,
    SHAPES,
    approximation_error,
    covariance,
    embedded_eigenvalues,
    error_bounds,
    gaussian,
    low_rank,
    quick,
    seeds,
    semi_orthogonal,
    shapes,
    squared,
)
from scipy import linalg

from jaxsode.algebra import precision

EPSILON = 0.01
whitener = jax.jit(precision.whitener)
either_norm = pytest.mark.parametrize("norm", NORMS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def _bounds(values, k, norm):
    return [float(bound) for bound in error_bounds(values, k, norm=norm)]


def _at_most(small, large):
    assert small <= large * (1 + 1e-9)


@either_norm
@quick
@given(seed=seeds, shape=shapes, size=st.floats(0.1, 10))
def test_lemma_1(seed, shape, size, norm):
    """No BBᵀ of k columns is nearer to C⁻¹ than the part of it that the k smallest eigenvalues of C make.

    True, if C is positive definite. N has nothing to do with it, k ≤ F is all.
    """
    F, k = shape
    U, values, C = covariance(seed, F)
    P, best = np.linalg.inv(C), U[:, :k] / np.sqrt(values[:k])
    least = squared(P - best @ best.T, norm)
    np.testing.assert_allclose(least, _bounds(values, k, norm)[0], rtol=1e-8)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((F, k))
    for B in (size * noise, best + 1e-3 * size * noise, best * size):
        _at_most(least, squared(P - B @ B.T, norm))
    # One more column is nearer. In the spectral norm too, but where the next eigenvalue is the same.
    if k + 1 < F:
        more = U[:, : k + 1] / np.sqrt(values[: k + 1])
        assert squared(P - more @ more.T, norm) < least


@either_norm
def test_lemma_1_and_theorem_1_have_nothing_to_approximate_where_c_is_singular(norm):
    """Centred features of N ≤ F pictures: C⁻¹ is not there, and without ε neither statement says anything."""
    X = np.array([[1.0, -1, 0], [2, -2, 0], [0, 0, 0]])
    W = np.eye(3)[:, :1]
    assert not np.isfinite(approximation_error(X @ X.T / 3, W, norm=norm))
    assert np.isfinite(approximation_error(X @ X.T / 3 + EPSILON * np.eye(3), W, norm=norm))


@either_norm
@quick
@given(seed=seeds, shape=shapes)
def test_theorem_1(seed, shape, norm):
    """Of all W of k columns the eigenvectors of C's k smallest eigenvalues bring E nearest to zero.

    True, if C is positive definite and W has rank k; W need not be semi-orthogonal.
    """
    F, k = shape
    U, values, C = covariance(seed, F)
    least = float(approximation_error(C, U[:, :k], norm=norm))
    np.testing.assert_allclose(least, _bounds(values, k, norm)[0], rtol=1e-8)
    for W in (gaussian(seed, F, k), semi_orthogonal(seed, F, k), U[:, :k] + 0.01 * gaussian(seed, F, k)):
        _at_most(least, float(approximation_error(C, W, norm=norm)))
    if values[k] > 1.01 * values[k - 1]:  # and not others: principal components are the farthest
        assert least < float(approximation_error(C, U[:, -k:], norm=norm))


@quick
@given(seed=seeds, shape=shapes)
def test_theorem_1_proof(seed, shape):
    """W(WᵀCW)⁻¹Wᵀ is a BBᵀ of k columns, B = WVΛ^½, so that Lemma 1 bounds it. True of each W of rank k.

    And U_k's is Lemma 1's own (Eq. 5): the bound is reached.
    """
    F, k = shape
    U, values, C = covariance(seed, F)
    W = gaussian(seed, F, k)
    inverses, V = np.linalg.eigh(np.linalg.inv(W.T @ C @ W))
    B = W @ V * np.sqrt(inverses)
    assert B.shape == (F, k)
    np.testing.assert_allclose(B @ B.T, low_rank(C, W), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        low_rank(C, U[:, :k]), U[:, :k] / values[:k] @ U[:, :k].T, rtol=1e-6, atol=1e-9
    )
    # Of a W without rank k there is no inverse to take apart.
    with pytest.raises(np.linalg.LinAlgError):
        low_rank(C, np.zeros((F, k)))


@quick
@given(seed=seeds, decades=st.floats(0, 12))
def test_near_zero_eigenvalues_score_high(seed, decades):
    """A step of 1 along u has d² = 1/λ, without bound as λ → 0; with ε at most 1/ε (section 2.2). True."""
    U, values, _ = covariance(seed, 6)
    values[0] = 10.0**-decades
    u = U[:, 0]
    M = np.asarray(whitener(U * values @ U.T, EPSILON))
    expected = 1 / (values[0] + EPSILON)
    assert np.sum((M @ u) ** 2) == pytest.approx(expected, rel=1e-6)
    assert expected <= 1 / EPSILON < 1e12


def test_normalised_features_do_not_have_a_flat_spectrum():
    """Batch normalisation makes C's diagonal 1, Corollary 1 wants C = αI: false where channels correlate.

    True of the diagonal: section 3's closing remark goes no further than that.
    """
    x = np.random.default_rng(0).standard_normal((400, 8)) @ covariance(0, 8)[2]
    C = np.cov(((x - x.mean(0)) / x.std(0)).T, bias=True)
    np.testing.assert_allclose(np.diag(C), 1, rtol=1e-6)
    values = np.linalg.eigvalsh(C)
    assert values[-1] > 100 * values[0]
    low, high = _bounds(values, 3, "frobenius")
    assert high > 100 * low


@either_norm
@quick
@given(seed=seeds, shape=shapes)
def test_theorem_1_is_not_unique(seed, shape, norm):
    """Any other basis of the same space, orthonormal or not, has the same E. Not so with ε.

    The paper says "an element of arg min", rightly.
    """
    F, k = shape
    U, _, C = covariance(seed, F)
    A = gaussian(seed, k, k) + 3 * np.eye(k) * np.sqrt(k)
    of_vectors, of_basis = (float(approximation_error(C, W, norm=norm)) for W in (U[:, :k], U[:, :k] @ A))
    np.testing.assert_allclose(of_basis, of_vectors, rtol=1e-6)
    P = np.linalg.inv(C + EPSILON * np.eye(F))
    with_epsilon = [np.linalg.norm(P - low_rank(C, W, EPSILON)) for W in (U[:, :k], 3 * U[:, :k])]
    assert with_epsilon[1] > with_epsilon[0] * (1 + 1e-9)


def test_theorem_1_in_the_spectral_norm_other_spaces_do_as_well():
    """There only the largest eigenvalue of E counts, and it is 1/λ_{k+1} for other spaces too."""
    C = np.diag([1.0, 2, 4])
    cos, sin = np.cos(0.3), np.sin(0.3)
    assert cos**2 / 4 + sin**2 / 1 < 1 / 2
    other = np.array([[cos], [0], [-sin / 2]])  # C^(−1/2) of what is orthogonal to e₂ and (sin, 0, cos)
    eigenvector = np.eye(3)[:, :1]
    errors = {
        norm: [float(approximation_error(C, W, norm=norm)) for W in (eigenvector, other)] for norm in NORMS
    }
    np.testing.assert_allclose(errors["spectral"], [1 / 4, 1 / 4], rtol=1e-12)
    assert errors["frobenius"][1] > errors["frobenius"][0] + 1e-3


def _theorem_2(seed, shape, norm):
    F, k = shape
    U, values, C = covariance(seed, F)
    low, high = _bounds(values, k, norm)
    for W, bound in ((U[:, :k], low), (U[:, -k:], high)):
        np.testing.assert_allclose(float(approximation_error(C, W, norm=norm)), bound, rtol=1e-8)
    # E depends on the space alone that W's columns span: without ε any W of rank k will do.
    for W in (semi_orthogonal(seed, F, k), gaussian(seed, F, k)):
        error = float(approximation_error(C, W, norm=norm))
        _at_most(low, error)
        _at_most(error, high)
    # With the ε of the method, WᵀCW + εI = Wᵀ(C + εI)W if WᵀW = I: the same with C + εI in the place of C.
    low, high = _bounds(values + EPSILON, k, norm)
    W = semi_orthogonal(seed, F, k)
    M = np.asarray(whitener(W.T @ C @ W, EPSILON))
    error = squared(np.linalg.inv(C + EPSILON * np.eye(F)) - W @ M.T @ M @ W.T, norm)
    _at_most(low, error)
    _at_most(error, high)


@quick
@given(seed=seeds, shape=shapes)
def test_theorem_2_frobenius(seed, shape):
    """‖E‖² is least for the eigenvectors of the k smallest eigenvalues and greatest for those of the largest.

    True; with ε true if WᵀW = I.
    """
    _theorem_2(seed, shape, "frobenius")


@quick
@given(seed=seeds, shape=shapes)
def test_theorem_2_spectral(seed, shape):
    """The same of the spectral norm; there the upper bound is 1/λ² of the smallest λ, as long as k < F.

    True; with ε true if WᵀW = I. The paper's proof names the square of the smallest eigenvalue, not of its
    inverse: a misprint.
    """
    _theorem_2(seed, shape, "spectral")
    _, values, _ = covariance(seed, shape[0])
    assert _bounds(values, shape[1], "spectral")[1] == pytest.approx(values[0] ** -2, rel=1e-12)


@either_norm
def test_theorem_2_with_epsilon_fails_for_a_gaussian_w(norm):
    """Dropping WᵀW = I where there is an ε: W(WᵀCW + εI)⁻¹Wᵀ is beyond the upper bound."""
    F, k = 12, 5
    for seed in range(20):
        _, values, C = covariance(seed, F)
        C, values = C / 1000, values / 1000  # from 1e-4 to 1e-2, at most ε
        P, omega = np.linalg.inv(C + EPSILON * np.eye(F)), gaussian(seed, F, k)
        high = _bounds(values + EPSILON, k, norm)[1]
        assert squared(P - low_rank(C, omega, EPSILON), norm) > high
        assert squared(P - low_rank(C, np.linalg.qr(omega)[0], EPSILON), norm) <= high


@quick
@given(seed=seeds, shape=shapes)
def test_theorem_2_equations_20_and_21(seed, shape):
    """‖E‖² = ‖C⁻¹‖² + tr (WᵀCW)⁻² − 2 tr WᵀC⁻¹W(WᵀCW)⁻¹ in Frobenius's norm. True if WᵀW = I.

    The step that drops both W is called cyclic invariance; the trace gives WᵀW(WᵀCW)⁻¹ twice, and it takes
    WᵀW = I to be rid of it.
    """
    F, k = shape
    _, _, C = covariance(seed, F)

    def sides(W):
        inner, P = np.linalg.inv(W.T @ C @ W), np.linalg.inv(C)
        A = W @ inner @ W.T
        np.testing.assert_allclose(  # Eq. 20, of any W
            squared(P - A, "frobenius"),
            squared(P, "frobenius") + squared(A, "frobenius") - 2 * np.trace(P @ A),
            rtol=1e-6,
            atol=1e-6 * squared(P, "frobenius"),
        )
        return squared(A, "frobenius"), np.trace(inner @ inner)

    np.testing.assert_allclose(*sides(semi_orthogonal(seed, F, k)), rtol=1e-8)
    left, right = sides(2 * semi_orthogonal(seed, F, k))
    assert left == pytest.approx(16 * right)


@quick
@given(seed=seeds, shape=shapes)
def test_theorem_2_equation_26(seed, shape):
    """‖C⁻¹‖² − tr (WᵀCW)⁻² is greatest for the k largest eigenvalues' eigenvectors; there it is ‖E‖². True.

    If WᵀW = I: interlacing is what makes them the greatest.
    """
    F, k = shape
    U, values, C = covariance(seed, F)

    def bound(W):
        return np.sum(values**-2.0) - np.trace(np.linalg.matrix_power(np.linalg.inv(W.T @ C @ W), 2))

    greatest, W = bound(U[:, -k:]), semi_orthogonal(seed, F, k)
    np.testing.assert_allclose(greatest, _bounds(values, k, "frobenius")[1], rtol=1e-8)
    _at_most(bound(W), greatest)
    assert bound(100 * U[:, :k]) > greatest


@quick
@given(seed=seeds, shape=shapes)
def test_theorem_2_equation_27(seed, shape):
    """E is positive semi-definite and below C⁻¹, hence ‖E‖ ≤ 1/λ_min in the spectral norm. True of every W.

    The paper names Cauchy's theorem for the inequality. That W(WᵀCW)⁻¹Wᵀ has no negative eigenvalue is
    enough; what needs a theorem is the equality before it, that E has none either. With a W scaled after its
    inverse is taken neither holds.
    """
    F, k = shape
    _, values, C = covariance(seed, F)
    A, P = low_rank(C, gaussian(seed, F, k)), np.linalg.inv(C)
    tiny = 1e-8 / values[0]
    assert np.linalg.eigvalsh(A)[0] > -tiny
    assert np.linalg.eigvalsh(P - A)[0] > -tiny
    assert np.linalg.norm(P - A, 2) <= (1 + 1e-9) / values[0]
    assert np.linalg.eigvalsh(P - 2 * A)[0] < -tiny
    assert np.linalg.norm(P + A, 2) > 1 / values[0]


@quick
@given(seed=seeds, shape=shapes)
def test_theorem_2_by_interlacing_alone(seed, shape):
    """E's eigenvalues other than 0 are those of QᵀC⁻¹Q, Q an orthonormal basis of (C^½W)'s complement.

    True. So Cauchy's theorem, of C⁻¹ and F − k, bounds each of them, and with them ‖E‖ in every norm of
    eigenvalues, from both sides: a shorter proof than the paper's, and it needs no WᵀW = I.
    """
    F, k = shape
    U, values, C = covariance(seed, F)
    W = gaussian(seed, F, k)
    Q = linalg.null_space((U * np.sqrt(values) @ U.T @ W).T)
    inverse = np.linalg.inv(C)
    found = np.linalg.eigvalsh(Q.T @ inverse @ Q)
    E = np.linalg.eigvalsh(inverse - low_rank(C, W))
    np.testing.assert_allclose(E[k:], found, rtol=1e-6)
    np.testing.assert_allclose(E[:k], 0, atol=1e-8 * E[-1])
    ascending = np.sort(1 / values)
    assert (ascending[: F - k] <= found * (1 + 1e-9)).all()
    assert (found <= ascending[k:] * (1 + 1e-9)).all()


@quick
@given(seed=seeds, shape=shapes)
def test_theorem_2_arithmetic_and_harmonic_mean(seed, shape):
    """tr (WᵀCW)⁻² ≤ tr WᵀC⁻¹W (WᵀCW)⁻¹, the step of the paper's proof. True if WᵀW = I.

    Of sW the left side is s⁻⁴ times W's and the right side the same as W's: with s small it breaks.
    """
    F, k = shape
    _, _, C = covariance(seed, F)

    def sides(W):
        inner = np.linalg.inv(W.T @ C @ W)
        return np.trace(inner @ inner), np.trace(W.T @ np.linalg.solve(C, W) @ inner)

    W = semi_orthogonal(seed, F, k)
    _at_most(*sides(W))
    small = sides(1e-3 * W)
    assert small[0] > small[1]


@either_norm
@pytest.mark.parametrize(("F", "k"), SHAPES)
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_corollary_1(F, k, alpha, norm):
    """Where C = αI, ‖E‖² is the same for every W: 1/α² in the spectral norm, (F − k)/α² in Frobenius's.

    Misprint: the paper has 1/α for 1/α²; right for α = 1 only.
    """
    identity = squared(np.eye(F - k), norm)
    assert identity == pytest.approx({"frobenius": F - k, "spectral": 1}[norm])
    for W in (semi_orthogonal(0, F, k), semi_orthogonal(1, F, k), gaussian(2, F, k)):
        error = float(approximation_error(alpha * np.eye(F), W, norm=norm))
        assert error == pytest.approx(identity / alpha**2, rel=1e-9)
        assert (error == pytest.approx(identity / alpha)) == (alpha == 1)
    # A spectrum that isn't flat: it depends on W.
    C = np.diag(np.linspace(1, 2, F))
    first, second = (float(approximation_error(C, semi_orthogonal(s, F, k), norm=norm)) for s in (0, 1))
    assert abs(first / second - 1) > 1e-3


@quick
@given(seed=seeds, shape=shapes)
def test_lemma_2(seed, shape):
    """Each eigenvalue of WᵀCW is a mean of C's, weighted by the squares of UᵀWv̂. True if WᵀW = I."""
    F, k = shape
    U, values, C = covariance(seed, F)

    def weights(W):
        found, vectors = np.linalg.eigh(W.T @ C @ W)
        return found, (U.T @ W @ vectors) ** 2

    W = semi_orthogonal(seed, F, k)
    found, a = weights(W)
    np.testing.assert_allclose(found, embedded_eigenvalues(C, W), rtol=1e-9)
    np.testing.assert_allclose(a.sum(0), 1, rtol=1e-9)
    np.testing.assert_allclose(values @ a, found, rtol=1e-9)
    # Of any other W the weights add up to something else.
    found, a = weights(1.1 * W)
    np.testing.assert_allclose(values @ a, found, rtol=1e-9)
    np.testing.assert_allclose(a.sum(0), 1.21, rtol=1e-9)


@quick
@given(seed=seeds, shape=shapes)
def test_lemma_2_of_the_inverse(seed, shape):
    """Of C⁻¹'s eigenvalues (WᵀCW)⁻¹ has harmonic means, WᵀC⁻¹W's diagonal arithmetic ones (Eq. 22, 23).

    In the basis of WᵀCW's eigenvectors, with the same weights: true if WᵀW = I.
    """
    F, k = shape
    U, values, C = covariance(seed, F)
    W = semi_orthogonal(seed, F, k)
    found, vectors = np.linalg.eigh(W.T @ C @ W)
    a = (U.T @ W @ vectors) ** 2
    harmonic = 1 / (values @ a)
    arithmetic = np.diag(vectors.T @ W.T @ np.linalg.inv(C) @ W @ vectors)
    np.testing.assert_allclose(harmonic, 1 / found, rtol=1e-8)
    np.testing.assert_allclose((1 / values) @ a, arithmetic, rtol=1e-8)
    _at_most(harmonic.max() / arithmetic[harmonic.argmax()], 1)
    # Weights that don't add up to 1 are no mean: of 2W the "harmonic mean" is a quarter, below all of C⁻¹.
    doubled = 1 / (values @ (4 * a))
    np.testing.assert_allclose(doubled, harmonic / 4, rtol=1e-12)


@quick
@given(seed=seeds, shape=shapes)
def test_cauchy_interlacing(seed, shape):
    """The i-th largest eigenvalue of WᵀCW is at most C's i-th largest and at least its (F − k + i)-th.

    True if WᵀW = I. Stated in ascending order: between the i-th and the (F − k + i)-th smallest.
    """
    F, k = shape
    U, values, C = covariance(seed, F)
    found = np.asarray(embedded_eigenvalues(C, semi_orthogonal(seed, F, k)))
    assert (values[:k] <= found * (1 + 1e-9)).all()
    assert (found <= values[F - k :] * (1 + 1e-9)).all()
    # Both ends are reached, by eigenvectors.
    for W, expected in ((U[:, :k], values[:k]), (U[:, -k:], values[F - k :])):
        np.testing.assert_allclose(embedded_eigenvalues(C, W), expected, rtol=1e-8)


def test_cauchy_interlacing_fails_for_a_gaussian_w():
    """Its columns are √F long: its eigenvalues leave C's range, here for every seed."""
    F, k = 40, 5
    for seed in range(20):
        _, values, C = covariance(seed, F, decades=0.5)
        assert float(embedded_eigenvalues(C, gaussian(seed, F, k)).max()) > values[-1]
