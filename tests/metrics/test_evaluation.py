"""The metrics of arrays against their definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from referee import agree, all_by_definition
from sklearn.metrics import roc_auc_score

from jaxsode.errors import ArgumentError, NumericalError
from jaxsode.metrics import evaluate, image_auroc, pixel_auroc, pro


@st.composite
def small_sets(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)))
    levels = draw(st.sampled_from([2, 5, 1000]))
    maps = draw(hnp.arrays(np.float32, shape, elements=st.integers(-levels, levels).map(lambda v: v / 8)))
    values = st.sampled_from([0, 0, 0, 127, 128, 255, 255])
    masks = draw(hnp.arrays(np.uint8, shape, elements=values))
    empty = draw(st.lists(st.booleans(), min_size=shape[0], max_size=shape[0]))
    masks[empty] = 0
    return maps, masks


@given(small_sets(), st.sampled_from([0.05, 0.3, 0.5, 1.0]), st.booleans())
@settings(deadline=None, max_examples=300)
def test_definition_on_small_sets_with_ties(pictures, limit, full):
    maps, masks = pictures
    defective = (masks >= 128).any(axis=(1, 2))
    ours = evaluate(maps, masks, defective, pro_limit=limit, paper_full_mask=full)
    agree(ours, all_by_definition(maps, masks, pro_limit=limit, paper_full_mask=full))


@pytest.fixture(scope="module")
def pictures():
    """Six pictures, two of them good, with soft-edged defects that the scores find more or less."""
    rng = np.random.default_rng(5)
    masks = np.zeros((6, 24, 17), np.uint8)
    for i, (top, left, height, width) in enumerate(
        [(2, 3, 6, 5), (10, 1, 3, 9), (0, 0, 4, 4), (12, 8, 9, 2)]
    ):
        masks[i, top : top + height, left : left + width] = 180
        masks[i, top + 1 : top + height - 1, left : left + width - 1] = 255
    masks[0, 20:23, 10:14] = 255
    masks[3, 2, 2] = 255
    maps = np.round(rng.gamma(3.0, 1.0, masks.shape) + masks / 100, 1).astype(np.float32)
    defective = np.array([True, True, True, True, False, False])
    return maps, masks, defective


@pytest.mark.parametrize("full", [False, True])
def test_definition_on_a_larger_set(pictures, full):
    maps, masks, defective = pictures
    ours = evaluate(maps, masks, defective, paper_full_mask=full)
    agree(ours, all_by_definition(maps, masks, pro_limit=0.3, paper_full_mask=full))


def test_scikit_learn(pictures):
    maps, masks, defective = pictures
    ours = evaluate(maps, masks, defective, paper_full_mask=False)
    truth = masks > 127.5
    assert ours["pixel_auroc"]["pooled"] == pytest.approx(
        roc_auc_score(truth.ravel(), maps.ravel()), abs=1e-12
    )
    kinds = [np.where(t, t.sum(), (~t).sum()) for t in truth]
    theirs = roc_auc_score(truth.ravel(), maps.ravel(), sample_weight=1 / np.stack(kinds).ravel())
    assert ours["pixel_auroc"]["paper"] == pytest.approx(theirs, abs=1e-12)
    theirs = roc_auc_score(defective, maps.max(axis=(1, 2)))
    assert ours["image_auroc"] == pytest.approx(theirs, abs=1e-12)


def test_scores_of_pictures_may_be_given(pictures):
    maps, masks, defective = pictures
    scores = np.where(defective, 1.0, 2.0)
    ours = evaluate(maps, masks, defective, image_scores=scores, paper_full_mask=False)
    assert ours["image_auroc"] == 0.0


@pytest.mark.parametrize("average", ["pooled", "paper"])
def test_single_metrics_are_those_of_the_whole(pictures, average):
    maps, masks, defective = pictures
    whole = evaluate(maps, masks, defective, pro_limit=0.2, paper_full_mask=True)
    full = average == "paper"
    single = pixel_auroc(maps, masks, average=average, full_mask=full)
    assert single == pytest.approx(whole["pixel_auroc"][average], abs=1e-14)
    single = pro(maps, masks, average=average, limit=0.2, full_mask=full)
    assert single == pytest.approx(whole["pro"][average], abs=1e-14)
    assert image_auroc(maps.max(axis=(1, 2)), defective) == whole["image_auroc"]


def test_only_the_order_of_scores_counts(pictures):
    maps, masks, defective = pictures
    before = evaluate(maps, masks, defective, paper_full_mask=True)
    after = evaluate(np.exp(maps.astype(np.float64)) - 5, masks, defective, paper_full_mask=True)
    assert after == before


def test_order_and_repetition_of_pictures_do_not_matter(pictures):
    maps, masks, defective = pictures
    before = evaluate(maps, masks, defective, paper_full_mask=True)
    order = np.array([3, 0, 5, 2, 1, 4, 2, 4, 1, 0, 5, 3])
    after = evaluate(maps[order], masks[order], defective[order], paper_full_mask=True)
    agree(after, {name: before[name] for name in ("pixel_auroc", "pro")})
    assert after["image_auroc"] == pytest.approx(before["image_auroc"], abs=1e-14)


def test_pooled_roc_does_not_see_where_a_picture_ends(pictures):
    maps, masks, _ = pictures
    halves = (12, 12, 17)
    whole = pixel_auroc(maps, masks)
    assert pixel_auroc(maps.reshape(halves), masks.reshape(halves)) == pytest.approx(whole, abs=1e-14)


def test_perfect_reversed_and_constant_maps(pictures):
    _, masks, defective = pictures
    truth = (masks > 127.5).astype(np.float32)
    for maps, pixel, overlap, image in (
        (truth, 1.0, 1.0, 1.0),
        (-truth, 0.0, 0.0, 0.5),  # every picture has a good pixel: all maxima are 0
        (np.zeros_like(truth), 0.5, 0.15, 0.5),
    ):
        got = evaluate(maps, masks, defective, paper_full_mask=False)
        agree(got, {"pixel_auroc": dict.fromkeys(("pooled", "paper"), pixel)})
        agree(got, {"pro": dict.fromkeys(("pooled", "paper"), overlap)})
        assert got["image_auroc"] == image


def test_infinite_scores_are_just_the_highest(pictures):
    maps, masks, defective = pictures
    highest = np.where(maps == maps.max(), np.float32(np.inf), maps)
    expected = evaluate(maps, masks, defective, paper_full_mask=False)
    assert evaluate(highest, masks, defective, paper_full_mask=False) == expected


def test_inputs_are_only_read(pictures):
    copies = [array.copy() for array in pictures]
    for array in copies:
        array.flags.writeable = False
    evaluate(*copies, paper_full_mask=True)
    for copy, array in zip(copies, pictures, strict=True):
        np.testing.assert_array_equal(copy, array)


# Undefined is None.


def test_no_defective_picture(pictures):
    maps, masks, _ = pictures
    got = evaluate(maps[4:], masks[4:], np.zeros(2, bool), paper_full_mask=False)
    assert got["pixel_auroc"] == got["pro"] == {"pooled": None, "paper": None}
    assert got["image_auroc"] is None


def test_no_good_picture(pictures):
    maps, masks, _ = pictures
    got = evaluate(maps[:4], masks[:4], np.ones(4, bool), paper_full_mask=False)
    assert got["image_auroc"] is None
    agree(got, all_by_definition(maps[:4], masks[:4], pro_limit=0.3, paper_full_mask=False))
    assert got["pixel_auroc"]["paper"] is not None


def test_no_good_pixel(pictures):
    maps, masks, _ = pictures
    got = evaluate(maps, np.full_like(masks, 255), np.ones(6, bool), paper_full_mask=False)
    assert got["pixel_auroc"] == got["pro"] == {"pooled": None, "paper": None}


def test_faint_masks_leave_the_full_protocol_without_a_defect(pictures):
    maps, masks, defective = pictures
    got = evaluate(maps, np.minimum(masks, 254), defective, paper_full_mask=True)
    assert got["pixel_auroc"]["paper"] is None
    assert got["pro"]["paper"] is None
    assert got["pixel_auroc"]["pooled"] is not None
    assert got["pro"]["pooled"] is not None


def test_a_defect_without_pixels_counts_among_the_good_pixels_alone(pictures):
    """It lowers no true-positive rate, and the picture stays defective for the picture's metric."""
    maps, masks, defective = pictures
    lost = masks.copy()
    lost[2] = 100
    got = evaluate(maps, lost, defective, paper_full_mask=False)
    called_good = evaluate(
        maps, lost, defective & (np.arange(6) != 2), image_scores=maps.max(axis=(1, 2)), paper_full_mask=False
    )
    assert got["pixel_auroc"] == called_good["pixel_auroc"]
    assert got["pro"] == called_good["pro"]
    assert got["image_auroc"] == image_auroc(maps.max(axis=(1, 2)), defective) != called_good["image_auroc"]


# What a user can get wrong: one line each.


def test_nan_names_the_picture(pictures):
    maps, masks, defective = pictures
    broken = maps.copy()
    broken[3, 5, 5] = np.nan
    broken[4, 0, 0] = np.nan
    for call in (
        lambda: evaluate(broken, masks, defective, paper_full_mask=False),
        lambda: pixel_auroc(broken, masks),
        lambda: pro(broken, masks),
        lambda: image_auroc(broken.max(axis=(1, 2)), defective),
    ):
        with pytest.raises(NumericalError, match="picture 3 ") as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.update(maps=a["maps"][0]), "maps are float32"),
        (lambda a: a.update(maps=a["maps"].astype(np.int32)), "maps are int32"),
        (lambda a: a.update(maps=a["maps"][:0], masks=a["masks"][:0], defective=a["defective"][:0]), "N ≥ 1"),
        (lambda a: a.update(masks=a["masks"][:, :-1]), "differ in shape"),
        (lambda a: a.update(masks=a["masks"] > 127), "masks are bool"),
        (lambda a: a.update(masks=a["masks"] / np.float32(255)), "masks are float32"),
        (lambda a: a.update(defective=a["defective"][:-1]), r"defective is bool \(5,\)"),
        (lambda a: a.update(defective=a["defective"].astype(int)), "defective is int64"),
        (lambda a: a.update(defective=~a["defective"]), "picture 0 is good but its mask is not"),
        (lambda a: a.update(image_scores=np.zeros((6, 1))), r"image scores are float64 \(6, 1\)"),
        (lambda a: a.update(image_scores=list("abcdef")), "image scores are <U1"),
        (lambda a: a.update(image_scores=np.zeros(5)), r"defective is bool \(6,\)"),
        (lambda a: a.update(pro_limit=0.0), r"\(0, 1\]"),
        (lambda a: a.update(pro_limit=30.0), r"\(0, 1\]"),
    ],
)
def test_bad_arguments(pictures, change, words):
    maps, masks, defective = pictures
    arguments = {"maps": maps, "masks": masks, "defective": defective}
    change(arguments)
    with pytest.raises(ArgumentError, match=words) as caught:
        evaluate(**arguments, paper_full_mask=False)
    assert "\n" not in str(caught.value)


def test_an_unknown_average(pictures):
    with pytest.raises(ArgumentError, match="choose 'pooled' or 'paper'"):
        pixel_auroc(pictures[0], pictures[1], average="mean")


def test_a_bad_limit_is_told_even_where_the_metric_is_undefined():
    with pytest.raises(ArgumentError, match=r"\(0, 1\]"):
        pro(np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.uint8), limit=0.0)
