"""Section 3 on random feature selection: a semi-orthogonal W too, and what becomes of its rank."""

from math import comb

import jax
import numpy as np
import pytest
from hypothesis import given
from matrices import covariance, embedded_eigenvalues, quick, seeds

from jaxsode.algebra import embedding

F, K = 20, 10


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@quick
@given(seed=seeds)
def test_random_selection_is_a_special_case(seed):
    """k columns of the identity are semi-orthogonal, and WᵀCW is C's k chosen rows and columns. True."""
    W = np.asarray(embedding.sampled(seed, F, K), np.float64)
    np.testing.assert_array_equal(W.T @ W, np.eye(K))
    chosen = W.argmax(0)
    _, _, C = covariance(seed, F)
    np.testing.assert_array_equal(W.T @ C @ W, C[np.ix_(chosen, chosen)])


def _ranks(make, C, seeds=150):
    found = []
    for seed in range(seeds):
        values = np.asarray(embedded_eigenvalues(C, np.asarray(make(seed, F, K), np.float64)))
        found.append(int(np.sum(values > 1e-10 * np.trace(C))))
    return np.array(found)


def test_random_selection_loses_rank_among_redundant_features():
    """Of F = 20 features that are 10 twice over, 10 chosen at random hardly ever are the 10. True.

    A semi-orthogonal W keeps rank 10 with probability one: WᵀCW loses rank only if a column's combination
    lies in C's null space, which is of measure zero as long as k ≤ rank C.
    """
    _, _, half = covariance(0, F // 2)
    twice = np.tile(half, (2, 2))
    sampled = _ranks(embedding.sampled, twice)
    full = 2 ** (F // 2) / comb(F, K)  # one of each pair
    assert full < 0.006
    assert np.mean(sampled == K) < 0.03
    assert sampled.min() <= 6
    # k distinct pairs on average: F/2 pairs, each missed with probability C(F−2, k)/C(F, k)
    assert abs(sampled.mean() - F / 2 * (1 - comb(F - 2, K) / comb(F, K))) < 0.3
    for make in (embedding.semi_orthogonal, embedding.gaussian):
        assert (_ranks(make, twice, 50) == K).all()


def test_random_selection_loses_rank_to_features_that_do_not_vary():
    """The same of constant features. True."""
    _, _, half = covariance(0, F // 2)
    constant = np.zeros((F, F))
    constant[: F // 2, : F // 2] = half
    assert _ranks(embedding.sampled, constant).max() < K
    assert (_ranks(embedding.semi_orthogonal, constant, 50) == K).all()


def test_no_embedding_has_more_rank_than_the_covariance():
    """Where C has a rank below k nothing keeps rank k. The condition of the above: true if rank C ≥ k.

    And where no feature is redundant, random selection keeps it too.
    """
    few = np.random.default_rng(0).standard_normal((F, K - 3))
    for make in (embedding.semi_orthogonal, embedding.gaussian, embedding.sampled):
        assert (_ranks(make, few @ few.T, 20) == K - 3).all()
    _, _, C = covariance(0, F)
    assert (_ranks(embedding.sampled, C, 50) == K).all()
