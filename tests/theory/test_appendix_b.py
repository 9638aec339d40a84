"""Appendix B: a linear student, taught by full-batch gradient descent, and what it still has to learn."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matrices import quick, seeds

F, N = 6, 30


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def _lesson(seed):
    """X, t, and C with its eigenvectors and eigenvalues; λ_max = 1."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((F, F)) @ (rng.standard_normal((N, F)) * np.geomspace(1, 0.2, F)).T
    X /= np.linalg.norm(X, 2) / np.sqrt(N)
    C = X @ X.T / N
    values, U = np.linalg.eigh(C)
    return X, rng.standard_normal(N), C, U, values


@jax.jit
def _taught(X, t, rate, steps, start=None):
    """The student after so many steps of optax.sgd from w₀, 0 unless given, on the mean of ½(wᵀx − t)²."""

    def loss(w):
        return jnp.mean((w @ X - t) ** 2) / 2

    def step(_, state):
        w, memory = state
        updates, memory = optax.sgd(rate).update(jax.grad(loss)(w), memory, w)
        return optax.apply_updates(w, updates), memory

    w = jnp.zeros(X.shape[0]) if start is None else start
    return jax.lax.fori_loop(0, steps, step, (w, optax.sgd(rate).init(w)))[0]


@quick
@given(seed=seeds, steps=st.integers(0, 20))
def test_appendix_b_equations_29_to_32(seed, steps):
    """From any w₀: gradient C(w − w*), one step, n of them, and the loss after those. True, w* fitting t.

    Whatever w* is, for its own answers; for targets t that no w fits, w* is the least-squares one (and Eq. 28
    loses a constant).
    """
    rng = np.random.default_rng(seed)
    X, t, C, U, values = _lesson(seed)
    start, rate = rng.standard_normal(F), 0.7
    teacher = np.linalg.lstsq(X.T, t, rcond=None)[0]

    def loss(w, answers=teacher @ X):
        return jnp.mean((w @ X - answers) ** 2) / 2

    np.testing.assert_allclose(jax.grad(loss)(start), C @ (start - teacher), rtol=1e-6, atol=1e-9)
    of_targets = jax.grad(lambda w: loss(w, t))(start)
    np.testing.assert_allclose(of_targets, C @ (start - teacher), rtol=1e-6, atol=1e-9)
    left = U * (1 - rate * values) ** steps @ U.T
    student = np.asarray(_taught(X, teacher @ X, rate, steps, start))
    expected = (np.eye(F) - left) @ teacher + left @ start
    np.testing.assert_allclose(student, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        loss(student), np.mean((X.T @ left @ (teacher - start)) ** 2) / 2, rtol=1e-5, atol=1e-12
    )
    if steps == 1:  # Eq. 30
        np.testing.assert_allclose(student, start - rate * C @ (start - teacher), rtol=1e-6, atol=1e-9)


def _filtered(U, values, rate, steps):
    """(I − ηC)ⁿC⁻¹."""
    return U * ((1 - rate * values) ** steps / values) @ U.T


@quick
@given(seed=seeds, steps=st.integers(0, 50), rate=st.floats(0.05, 1))
def test_appendix_b_remaining_error(seed, steps, rate):
    """After n steps of rate η the student lacks (1/N) Σᵢ (1 − ηλᵢ)ⁿ/λᵢ uᵢuᵢᵀXt. True if C has rank F.

    The paper's teacher, NC⁻¹Xt, is a misprint: (XXᵀ)⁻¹Xt is C⁻¹Xt/N.
    """
    X, t, C, U, values = _lesson(seed)
    teacher = np.linalg.lstsq(X.T, t, rcond=None)[0]
    np.testing.assert_allclose(teacher, np.linalg.solve(C, X @ t) / N, rtol=1e-6, atol=1e-9)
    assert not np.allclose(teacher, N * np.linalg.solve(C, X @ t), rtol=1e-2)
    student = np.asarray(_taught(X, t, rate, steps))
    expected = _filtered(U, values, rate, steps) @ X @ t / N
    np.testing.assert_allclose(teacher - student, expected, rtol=1e-6, atol=1e-9)
    # Taught by the teacher's answers instead of its targets it goes the same way (Eq. 29).
    np.testing.assert_allclose(_taught(X, teacher @ X, rate, steps), student, rtol=1e-6, atol=1e-9)


@quick
@given(seed=seeds, steps=st.integers(0, 50))
def test_appendix_b_equation_33(seed, steps):
    """The loss is E ½‖xᵀ(I − ηC)ⁿC⁻¹Xt‖² over N². Misprint: the paper's factor is N/2 for 1/(2N²).

    Nor does N/2 follow from its own teacher, which would give N²/2.
    """
    X, t, C, U, values = _lesson(seed)
    teacher, rate = np.linalg.solve(C, X @ t) / N, 0.5
    x = np.random.default_rng(seed + 1).standard_normal((F, 100))
    difference = (teacher - np.asarray(_taught(X, t, rate, steps))) @ x
    bracket = np.mean((x.T @ _filtered(U, values, rate, steps) @ X @ t) ** 2)
    loss = np.mean(difference**2) / 2
    assert loss == pytest.approx(bracket / (2 * N**2), rel=1e-5, abs=1e-12)
    assert loss < 0.01 * N / 2 * bracket


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_appendix_b_filter(steps):
    """(1 − ηλ)ⁿ/λ leaves small eigenvalues of C what they are in C⁻¹ and takes large ones away.

    True if η ≤ 1/λ_max: it falls all the way, and the more so the more steps. The student's own answers have
    the opposite filter: they keep the large ones.
    """
    values, rate = np.geomspace(1e-5, 1, 200), 1.0
    remaining = (1 - rate * values) ** steps
    assert (np.diff(remaining / values) < 0).all()
    assert remaining[values < 0.01 / steps].min() > 0.98
    assert remaining[values > 0.999].max() < 1e-2
    assert (np.diff(1 - remaining) >= 0).all()
    # Too fast for the largest eigenvalues, and the filter changes its sign with each step.
    assert ((1 - 1.5 * values) ** 9 / values).min() < 0


def test_appendix_b_rates():
    """n → ∞ takes the student to the teacher if η < 2/λ_max, and away from it beyond: true with that."""
    X, t, C, _, values = _lesson(0)
    teacher = np.linalg.solve(C, X @ t) / N
    assert values[-1] == pytest.approx(1)
    for rate, converges in ((1.0, True), (1.9, True), (2.1, False)):
        apart = [np.linalg.norm(teacher - np.asarray(_taught(X, t, rate, n))) for n in (0, 500, 100_000)]
        if converges:
            assert apart[2] < 1e-6 * apart[0]
        else:
            assert not apart[1] < 1e6 * apart[0]


def test_appendix_b_nothing_is_learnt_where_nothing_varies():
    """Where λ = 0 the student stays at w₀ however long it is taught: its error goes to 0 if C has rank F.

    Of centred pictures, N ≤ F of them, it never has. The loss on such pictures goes to 0 all the same.
    """
    X, t, *_ = _lesson(0)
    X = X.copy()
    X[0] = 0
    teacher = np.linalg.lstsq(X.T, t, rcond=None)[0] + np.eye(F)[0]
    student = np.asarray(_taught(X, teacher @ X, 0.5, 20_000))
    assert student[0] == 0
    np.testing.assert_allclose(np.linalg.norm(teacher - student), 1, rtol=1e-6)
    assert np.mean((teacher @ X - student @ X) ** 2) < 1e-8 * np.mean((teacher @ X) ** 2)


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.5])
def test_appendix_b_equation_34(rate):
    """(I − ηC)ⁿC⁻¹ has C's eigenvectors and (1 − ηλᵢ)ⁿ/λᵢ. True; called an SVD, true if η ≤ 1/λ_max.

    Beyond, odd n make some negative, and singular values can't be.
    """
    _, _, C, U, values = _lesson(0)
    matrix = np.linalg.matrix_power(np.eye(F) - rate * C, 3) @ np.linalg.inv(C)
    expected = (1 - rate * values) ** 3 / values
    np.testing.assert_allclose(np.diag(U.T @ matrix @ U), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(matrix, U * expected @ U.T, rtol=1e-6, atol=1e-9)
    singular = np.linalg.svd(matrix, compute_uv=False)
    assert (np.abs(np.sort(expected)[::-1] - singular).max() < 1e-6) == (rate <= 1)


def test_appendix_b_coincides_with_theorem_1():
    """After enough steps the filter is what Theorem 1 keeps of C⁻¹. True if there is a gap in the spectrum.

    Relative to its norm the filtered matrix is then U_kΣ_k⁻¹U_kᵀ up to λ_k/λ_{k+1}'s power. Without a gap it
    has no k: at each n what is kept tapers off.
    """
    k = 3

    def apart(values, n):
        kept, filtered = np.where(np.arange(F) < k, 1 / values, 0), (1 - values) ** n / values
        return np.linalg.norm(filtered - kept) / np.linalg.norm(kept)

    gap, none = np.r_[np.full(k, 1e-4), np.full(F - k, 0.9)], np.linspace(0.5, 0.9, F)
    assert apart(gap, 20) < 0.01
    assert min(apart(none, n) for n in range(500)) > 0.5


def test_appendix_b_early_stopping_spares_the_small_eigenvalues():
    """Stopping early is said to lessen the perturbation by small eigenvalues: of the remaining error, false.

    Each step lessens it at each λ, so that the fewer steps the more of C⁻¹'s smallest eigenvalues is left. Of
    the student's own answers it is true: what it hasn't learnt can't perturb them. (Relative to the large
    ones the small ones' share of the error rises with n.)
    """
    values = np.geomspace(1e-3, 1, 50)
    left = np.array([(1 - 0.9 * values) ** n / values for n in (0, 1, 10, 100)])
    assert (np.diff(left, axis=0) < 0).all()
    assert (np.diff(left[:, 0] / left[:, -1]) > 0).all()
    learnt = np.array([1 - (1 - 0.9 * values) ** n for n in (1, 10, 100)])
    assert (np.diff(learnt[:, 0]) > 0).all()


@pytest.mark.parametrize("condition", [10.0, 1000.0])
def test_appendix_b_convergence_takes_the_condition_number(condition):
    """The loss goes to 0 as n → ∞. True if η < 2/λ_max; "quickly", and "for a small η": false.

    It falls as (1 − ηλ_min)²ⁿ: of the order of λ_max/λ_min steps at the largest η, more at a smaller.
    """
    values = np.geomspace(1 / condition, 1, F)

    def steps(rate):
        """Until the loss, of a w* with the same share of each eigenvector, is a hundredth."""
        n = np.arange(200_000)[:, None]
        losses = ((1 - rate * values) ** (2 * n) * values)[:, 0]  # of the smallest λ, the last to go
        return int(np.argmax(losses < 0.01 * losses[0]))

    assert steps(1.0) == pytest.approx(np.log(100) / 2 * condition, rel=0.1)
    assert steps(0.1) == pytest.approx(10 * steps(1.0), rel=0.2)


@quick
@given(seed=seeds)
def test_appendix_b_equation_35(seed):
    """xᵀAy = ½xᵀAx − ½(x − y)ᵀA(x − y) + ½yᵀAy with y = Xt: a difference of squared distances. True.

    Of what stands inside the norm of Eq. 33. The loss is its square.
    """
    X, t, _, U, values = _lesson(seed)
    A, y = _filtered(U, values, 0.5, 5), X @ t
    x = np.random.default_rng(seed).standard_normal(F)
    right = x @ A @ x / 2 - (x - y) @ A @ (x - y) / 2 + y @ A @ y / 2
    np.testing.assert_allclose(x @ A @ y, right, rtol=1e-6, atol=1e-6 * abs(y @ A @ y))
