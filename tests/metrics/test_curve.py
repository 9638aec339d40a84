"""The curve against its definition, threshold by threshold, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from jaxsode.errors import ArgumentError, NumericalError
from jaxsode.metrics import area, roc

WEIGHT = st.sampled_from([0.0, 0.25, 1.0, 3.0])
ROWS = st.lists(st.tuples(st.integers(-2, 2), WEIGHT, WEIGHT), min_size=1, max_size=12).filter(
    lambda rows: sum(row[1] for row in rows) > 0 and sum(row[2] for row in rows) > 0
)


def curve_of(rows):
    scores, positive, negative = map(np.array, zip(*rows, strict=True))
    return roc(scores, positive=positive, negative=negative)


@given(ROWS)
@settings(deadline=None)
def test_every_point_is_the_rates_at_one_threshold(rows):
    fpr, tpr = [0.0], [0.0]
    for threshold in sorted({row[0] for row in rows}, reverse=True):
        found = [row for row in rows if row[0] >= threshold]
        tpr.append(sum(row[1] for row in found) / sum(row[1] for row in rows))
        fpr.append(sum(row[2] for row in found) / sum(row[2] for row in rows))
    got = curve_of(rows)
    np.testing.assert_allclose(got[0], fpr, rtol=0, atol=1e-15)
    np.testing.assert_allclose(got[1], tpr, rtol=0, atol=1e-15)
    assert got[0][-1] == got[1][-1] == 1.0


@given(ROWS, st.randoms(use_true_random=False), st.integers(0, 11))
@settings(deadline=None)
def test_order_and_splitting_do_not_matter(rows, random, index):
    score, positive, negative = rows[index % len(rows)]
    others = [row for i, row in enumerate(rows) if i != index % len(rows)]
    parts = [(score, positive / 2, 0.0), (score, positive / 2, negative / 4), (score, 0.0, negative * 3 / 4)]
    shuffled = others + parts
    random.shuffle(shuffled)
    np.testing.assert_allclose(curve_of(shuffled), curve_of(rows), rtol=0, atol=1e-15)


@given(ROWS)
@settings(deadline=None)
def test_only_the_order_of_scores_counts(rows):
    stretched = [(np.exp(7.0 * score), positive, negative) for score, positive, negative in rows]
    np.testing.assert_array_equal(curve_of(stretched), curve_of(rows))


def test_scikit_learn_with_sample_weights():
    rng = np.random.default_rng(0)
    truth = rng.random(500) < 0.2
    scores = np.round(rng.normal(size=500) + truth, 1).astype(np.float32)
    weights = rng.random(500)
    fpr, tpr = roc(scores, positive=weights * truth, negative=weights * ~truth)
    theirs = roc_curve(truth, scores, sample_weight=weights, drop_intermediate=False)
    np.testing.assert_allclose(fpr, theirs[0], atol=1e-13)
    np.testing.assert_allclose(tpr, theirs[1], atol=1e-13)
    assert area(fpr, tpr) == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights), abs=1e-13)


def test_neighbouring_floats_are_two_scores():
    below = np.float32(1.0)
    above = np.nextafter(below, np.float32(2.0))
    fpr, tpr = roc(np.array([below, above]), positive=[0, 1], negative=[1, 0])
    np.testing.assert_array_equal(fpr, [0, 0, 1])
    np.testing.assert_array_equal(tpr, [0, 1, 1])


def test_unsigned_and_infinite_scores_keep_their_order():
    for scores in (np.array([0, 255], np.uint8), np.array([-np.inf, np.inf])):
        assert area(*roc(scores, positive=[0, 1], negative=[1, 0])) == 1.0
        assert area(*roc(scores, positive=[1, 0], negative=[0, 1])) == 0.0


@pytest.mark.parametrize(
    ("fpr", "tpr", "limit", "expected"),
    [
        ([0, 1], [0, 1], 1.0, 0.5),
        ([0, 1], [0, 1], 0.3, 0.15),  # the diagonal, cut: 0.3² / 2 / 0.3
        ([0, 0, 1], [0, 1, 1], 0.3, 1.0),
        ([0, 1, 1], [0, 0, 1], 1.0, 0.0),
        ([0, 0.25, 0.25, 1], [0, 0, 1, 1], 0.25, 0.0),  # rises at the limit: nothing of it is below
        ([0, 0.25, 0.25, 1], [0, 0, 1, 1], 0.5, 0.5),
        ([0, 0.2, 0.4, 1], [0, 0.5, 1, 1], 0.3, (0.05 + 0.0625) / 0.3),  # interpolated at the limit: 0.75
    ],
)
def test_area_by_hand(fpr, tpr, limit, expected):
    assert area(np.array(fpr, float), np.array(tpr, float), limit=limit) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_a_limit_out_of_range(limit):
    with pytest.raises(ArgumentError, match=r"choose one in \(0, 1\]"):
        area(np.array([0.0, 1.0]), np.array([0.0, 1.0]), limit=limit)


@pytest.mark.parametrize(
    ("scores", "positive", "negative", "error", "words"),
    [
        ([1.0, 2.0], [1.0], [1.0, 0.0], ArgumentError, "differ in shape"),
        ([[1.0]], [[1.0]], [[1.0]], ArgumentError, "three vectors"),
        ([], [], [], ArgumentError, "not all 0"),
        (["a", "b"], [1.0, 0.0], [0.0, 1.0], ArgumentError, "real numbers"),
        ([1j, 2j], [1.0, 0.0], [0.0, 1.0], ArgumentError, "real numbers"),
        ([1.0, 2.0], [0.0, 0.0], [1.0, 1.0], ArgumentError, "`positive`"),
        ([1.0, 2.0], [1.0, 1.0], [0.0, 0.0], ArgumentError, "`negative`"),
        ([1.0, 2.0], [1.0, -1.0], [1.0, 1.0], ArgumentError, "not below 0"),
        ([1.0, 2.0], [1.0, 1.0], [1.0, np.inf], ArgumentError, "finite"),
        ([1.0, np.nan], [1.0, 1.0], [1.0, 1.0], NumericalError, "score 1 is NaN"),
    ],
)
def test_bad_input(scores, positive, negative, error, words):
    with pytest.raises(error, match=words) as caught:
        roc(scores, positive=positive, negative=negative)
    assert "\n" not in str(caught.value)
