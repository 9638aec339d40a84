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
def _taught(X, t, rate, steps):
    """The student after so many steps of optax.sgd from w₀ = 0, on the mean of ½(wᵀx − t)²."""

    def loss(w):
        return jnp.mean((w @ X - t) ** 2) / 2

    def step(_, state):
        w, memory = state
        updates, memory = optax.sgd(rate).update(jax.grad(loss)(w), memory, w)
        return optax.apply_updates(w, updates), memory

    w = jnp.zeros(X.shape[0])
    return jax.lax.fori_loop(0, steps, step, (w, optax.sgd(rate).init(w)))[0]


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
    """Where λ = 0 the student stays at w₀ however long it is taught: n → ∞ is true if C has rank F.

    Of centred pictures, N ≤ F of them, it never has.
    """
    X, t, *_ = _lesson(0)
    X = X.copy()
    X[0] = 0
    assert _taught(X, t, 0.5, 1000)[0] == 0


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
