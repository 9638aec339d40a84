"""Regions above a threshold, and where they lie in the original; thresholds by labels, by trying all."""

import itertools

import numpy as np
import pytest

from jaxsode.errors import DataError
from jaxsode.operating import best_f1, cheapest
from jaxsode.preparation import Preparation
from jaxsode.regions import mask_on_original, on_original, regions


def test_regions_are_8_connected_and_the_highest_comes_first():
    m = np.zeros((6, 8), np.float32)
    m[0, 0], m[1, 1] = 2, 3  # touch at a corner
    m[4:6, 5:8] = 5
    m[3, 0] = 1  # not above
    m[5, 0] = np.nan
    found = regions(m, 1.0)
    assert [(r.x, r.y, r.width, r.height, r.area, r.score) for r in found] == [
        (5, 4, 3, 2, 6, 5.0),
        (0, 0, 2, 2, 2, 3.0),
    ]
    assert regions(m, 5.0) == []


@pytest.mark.parametrize("resize", ["squeeze", "crop"])
def test_a_box_holds_what_the_mask_marks(resize):
    m = np.zeros((32, 48), np.float32)
    m[10:15, 20:33] = 2
    placing = Preparation(resize).placing((333, 700), (32, 48))
    (region,) = [on_original(r, placing) for r in regions(m, 1)]
    rows, columns = np.nonzero(mask_on_original(m, 1, placing))
    assert region.y <= rows.min() <= rows.max() < region.y + region.height
    assert region.x <= columns.min() <= columns.max() < region.x + region.width
    assert rows.min() - region.y <= 1
    assert region.y + region.height - 1 - rows.max() <= 1
    assert region.area == pytest.approx(len(rows), rel=0.02)


def test_each_defective_picture_has_a_region():
    m = np.zeros((64, 64), np.float32)
    m[63, 63] = 1.5
    placing = Preparation().placing((20, 20), (64, 64))  # a smaller original
    (region,) = [on_original(r, placing) for r in regions(m, 1)]
    assert (region.x, region.y, region.width, region.height, region.area) == (19, 19, 1, 1, 1)


def _best(good, bad, value):
    """By trying every threshold between and beside the scores."""
    scores = sorted({*good, *bad})
    tried = [scores[0] - 1, *[(a + b) / 2 for a, b in itertools.pairwise(scores)], scores[-1]]
    return max(value(sum(b > t for b in bad), sum(g > t for g in good)) for t in tried)


def test_thresholds_by_labels_are_the_best():
    rng = np.random.default_rng(0)
    for _ in range(30):
        good, bad = rng.integers(0, 12, 15) / 2, rng.integers(4, 16, 7) / 2
        made = best_f1(good, bad)
        assert made.f1 == pytest.approx(_best(good, bad, lambda f, a: 2 * f / (f + a + 7)))
        assert made.found == (bad > made.threshold).sum()
        assert made.false_alarms == (good > made.threshold).sum()
        cheap = cheapest(good, bad, missed=10, false=2)
        cost = 10 * (7 - cheap.found) + 2 * cheap.false_alarms
        assert cost == pytest.approx(-_best(good, bad, lambda f, a: -(10 * (7 - f) + 2 * a)))
    with pytest.raises(DataError, match="of defective pictures"):
        best_f1(np.ones(3), np.array([]))
    with pytest.raises(DataError, match="of good pictures"):
        best_f1(np.array([np.nan]), np.ones(2))
