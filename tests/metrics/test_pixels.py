"""The weights of pixels, by hand on pictures small enough to count."""

import numpy as np
import pytest

from jaxsode.metrics.pixels import Protocol, Weights, regions, weights_of

POOLED = Protocol(lowest=128, per_picture=False)
PAPER = Protocol(lowest=128, per_picture=True)
PAPER_FULL = Protocol(lowest=255, per_picture=True)


def test_regions_touch_by_corners():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    labels, number = regions(mask)
    assert number == 3
    assert labels[0, 0] == labels[1, 1] != 0
    assert len({labels[0, 0], labels[0, 3], labels[2, 3]}) == 3
    assert (labels > 0).tolist() == mask.tolist()


def test_no_region():
    labels, number = regions(np.zeros((2, 3), bool))
    assert number == 0
    assert not labels.any()


@pytest.fixture
def pictures():
    """Two pictures of 1 × 6. The first has regions of 2 pixels and of 1, the second one region of 1 pixel."""
    maps = np.array([[[5, 3, 0, 9, 3, 4]], [[3, 7, 1, 1, 2, 6]]], np.float32)
    masks = np.array([[[255, 200, 0, 255, 0, 100]], [[0, 0, 0, 0, 0, 255]]], np.uint8)
    return maps, masks


# Scores of positives are 3, 5, 6, 9, so the levels are: below, 3, between, 5, between, 6, between, 9, above.


def test_pooled(pictures):
    (weights,) = weights_of(*pictures, [POOLED])
    np.testing.assert_array_equal(weights.negative, [4, 2, 1, 0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(weights.pixel, [0, 1, 0, 1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(weights.region, [0, 0.5, 0, 0.5, 0, 1, 0, 1, 0])


def test_paper(pictures):
    (weights,) = weights_of(*pictures, [PAPER])
    first = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0]) / 3
    second = np.array([3, 1, 0, 0, 0, 0, 1, 0, 0]) / 5
    np.testing.assert_allclose(weights.negative, first + second, atol=1e-16)
    np.testing.assert_allclose(weights.pixel, np.array([0, 1, 0, 1, 0, 3, 0, 1, 0]) / 3, atol=1e-16)
    np.testing.assert_allclose(weights.region, np.array([0, 1, 0, 1, 0, 4, 0, 2, 0]) / 4, atol=1e-16)


def test_full_mask_moves_partial_pixels_to_the_negatives(pictures):
    """And the levels are still those of all protocols asked for together."""
    pooled, paper = weights_of(*pictures, [POOLED, PAPER_FULL])
    np.testing.assert_array_equal(pooled.pixel, [0, 1, 0, 1, 0, 1, 0, 1, 0])
    first = np.array([1, 2, 1, 0, 0, 0, 0, 0, 0]) / 4
    second = np.array([3, 1, 0, 0, 0, 0, 1, 0, 0]) / 5
    np.testing.assert_allclose(paper.negative, first + second, atol=1e-16)
    np.testing.assert_allclose(paper.pixel, np.array([0, 0, 0, 1, 0, 2, 0, 1, 0]) / 2, atol=1e-16)
    np.testing.assert_allclose(paper.region, np.array([0, 0, 0, 1, 0, 2, 0, 1, 0]) / 2, atol=1e-16)


def test_without_positives_all_scores_are_one_level(pictures):
    maps, masks = pictures
    pooled, paper = weights_of(maps, np.zeros_like(masks), [POOLED, PAPER])
    assert pooled.negative.tolist() == [12.0]
    assert paper.negative.tolist() == [2.0]
    assert pooled.pixel.tolist() == pooled.region.tolist() == [0.0]


@pytest.mark.parametrize("protocol", [PAPER, PAPER_FULL])
def test_each_picture_weighs_one_in_the_paper(protocol):
    rng = np.random.default_rng(3)
    maps = rng.integers(0, 50, (5, 9, 8)).astype(np.float32)
    masks = rng.choice(np.array([0, 127, 128, 255], np.uint8), (5, 9, 8))
    masks[0] = 0  # no positives
    masks[1] = 255  # no negatives
    (weights,) = weights_of(maps, masks, [protocol])
    sums = [weights.negative.sum(), weights.pixel.sum(), weights.region.sum()]
    np.testing.assert_allclose(sums, [4, 4, 4], rtol=1e-13)


def test_the_bound_is_half_the_rectangle_of_each_bin_that_begins_below_the_limit():
    """From the highest score: fpr 0 0.5 0.5 0.5 0.9 1, tpr 0 0 0.5 0.5 1 1."""
    positive = np.array([0, 1, 0, 1, 0], float)
    negative = np.array([1, 4, 0, 0, 5], float)
    weights = Weights(negative, positive, positive, binned=True)
    for limit, bound in ((1.0, 0.1), (0.6, 0.1 / 0.6), (0.5, 0.0)):
        found = weights.area(positive, limit=limit)
        assert found is not None
        assert found[1] == pytest.approx(bound, abs=1e-15)
