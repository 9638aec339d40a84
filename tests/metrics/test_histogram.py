"""Bins of neighbouring scores: in the right order, as narrow as memory allows, nothing lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxsode.metrics.histogram import PAGE, Histogram, ordered

REALS = st.floats(width=32, allow_nan=False)


@given(st.lists(REALS, min_size=1, max_size=30))
def test_places_have_the_order_of_scores(scores):
    values = np.array(scores, np.float32)
    np.testing.assert_array_equal(
        np.unique(ordered(values), return_inverse=True)[1], np.unique(values, return_inverse=True)[1]
    )


def test_places_of_other_types_are_those_of_the_nearest_float32():
    values = np.array([-np.inf, -1e300, -1.0, -0.0, 0.0, 1e-300, 0.1, 1e300, np.inf])
    places = ordered(values)
    assert (np.diff(places.astype(np.int64)) >= 0).all()
    assert places[3] == places[4] == places[5] == 2**31
    assert places[0] == places[1]
    assert places[-1] == places[-2]
    assert places[6] == ordered(np.float32([0.1]))[0]
    assert ordered(np.float16([0.5]))[0] == ordered(np.float32([0.5]))[0]


def test_a_bin_for_each_score_where_there_is_room():
    first = np.float32(3).view(np.int32)
    scores = np.arange(first, first + 2 * PAGE, dtype=np.int32).view(np.float32)
    found = Histogram(columns=1, bins=3 * PAGE)
    found.add(np.random.default_rng(0).permutation(scores), [1.0])
    counts = found.column(0)
    np.testing.assert_array_equal(counts[counts > 0], np.ones(2 * PAGE))


@pytest.mark.parametrize("at_once", [1, 100, 3000])
def test_as_wide_as_needed_and_no_wider_whatever_the_order(at_once):
    rng = np.random.default_rng(1)
    scores = (np.sign(rng.random(3000) - 0.3) * np.exp(rng.normal(0, 3, 3000))).astype(np.float32)
    weights = rng.random((2, 3000))
    found = Histogram(columns=3, bins=9 * PAGE)
    for start in range(0, 3000, at_once):
        part = slice(start, start + at_once)
        found.add(scores[part], [weights[0, part], 2.0, weights[1, part]])
    places = ordered(scores).astype(np.int64)
    shift = next(s for s in range(32) if np.unique(places >> s + 10).size <= 9)
    assert shift > 0
    bins, where = np.unique(places >> shift, return_inverse=True)
    for column, expected in enumerate((weights[0], np.full(3000, 2.0), weights[1])):
        sums = found.column(column)
        assert sums.size == np.unique(places >> shift + 10).size * PAGE
        by_bin = np.bincount(where, expected)
        np.testing.assert_allclose(sums[sums > 0], by_bin, rtol=1e-12)
    assert bins.size < 3000


def test_nothing_is_nothing():
    found = Histogram(columns=2, bins=PAGE)
    found.add(np.empty(0, np.float32), [1.0, 1.0])
    assert found.column(0).size == 0
