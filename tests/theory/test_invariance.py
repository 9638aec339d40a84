"""What a square orthogonal matrix leaves as it is: section 3's first paragraph and Proposition 1."""

import numpy as np
import pytest
from hypothesis import given
from matrices import covariance, gaussian, low_rank, quick, seeds, semi_orthogonal

F = 8
EPSILON = 0.01


@quick
@given(seed=seeds)
def test_proposition_1(seed):
    """W(WᵀCW)⁻¹Wᵀ = C⁻¹ of a square orthogonal W. True; without ε of any square W that can be inverted.

    With ε it is (C + εI)⁻¹, and that only of an orthogonal one.
    """
    _, _, C = covariance(seed, F)
    W, omega = semi_orthogonal(seed, F, F), gaussian(seed, F, F) + 5 * np.eye(F)
    for square in (W, omega):
        np.testing.assert_allclose(low_rank(C, square), np.linalg.inv(C), rtol=1e-5, atol=1e-6)
    P = np.linalg.inv(C + EPSILON * np.eye(F))
    np.testing.assert_allclose(low_rank(C, W, EPSILON), P, rtol=1e-8, atol=1e-8)
    assert not np.allclose(low_rank(C, omega, EPSILON), P, rtol=1e-4)
    # and of no W that is not square
    assert not np.allclose(low_rank(C, W[:, :-1]), np.linalg.inv(C), rtol=1e-4)


@quick
@given(seed=seeds)
def test_eigenvalues_are_kept_by_an_orthogonal_change_of_basis(seed):
    """UᵀCU has C's eigenvalues. True: this is what section 3 needs."""
    _, values, C = covariance(seed, F)
    W = semi_orthogonal(seed, F, F)
    np.testing.assert_allclose(np.linalg.eigvalsh(W.T @ C @ W), values, rtol=1e-8)


def test_eigenvalues_are_not_kept_from_the_left_or_the_right_alone():
    """Section 3's first sentence has it of UC and CU. False: of those it is the singular values."""
    quarter = np.array([[0.0, -1], [1, 0]])
    C = np.diag([1.0, 2])
    for product in (quarter @ C, C @ quarter):
        eigenvalues = np.linalg.eigvals(product)
        np.testing.assert_allclose(eigenvalues.real, 0, atol=1e-12)
        np.testing.assert_allclose(np.abs(eigenvalues), np.sqrt(2))
        np.testing.assert_allclose(np.linalg.svd(product, compute_uv=False), [2, 1])


@pytest.mark.parametrize("k", [1, 5])
def test_a_semi_orthogonal_w_is_orthogonal_on_one_side_only(k):
    """WᵀW = I and WWᵀ ≠ I. True if k < F."""
    W = semi_orthogonal(0, F, k)
    np.testing.assert_allclose(W.T @ W, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(np.trace(W @ W.T), k)
    square = semi_orthogonal(0, F, F)
    np.testing.assert_allclose(square @ square.T, np.eye(F), atol=1e-12)
