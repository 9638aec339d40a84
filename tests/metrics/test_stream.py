"""The stream against the definition, however the pictures come; its bounds on memory and error."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from many_scores import pictures
from referee import agree, all_by_definition

from jaxsode.errors import ArgumentError, NumericalError
from jaxsode.metrics import Stream, evaluate, image_auroc, levels
from jaxsode.metrics import stream as streams

UNDEFINED = {"pooled": None, "paper": None}


@st.composite
def batches(draw):
    """Batches of small pictures, each batch of its own size and dtype, with many ties."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)))
        rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        few = draw(st.sampled_from([2, 6, 1000]))
        maps = (rng.integers(-few, few, shape) / 8).astype(draw(st.sampled_from([np.float32, np.float64])))
        masks = rng.choice(np.array([0, 0, 0, 127, 128, 255, 255], np.uint8), shape)
        masks[rng.random(shape[0]) < 0.4] = 0
        found.append((maps, masks))
    return found


def pictures_of(parts):
    return [picture for part in parts for picture in zip(*part, strict=True)]


def streamed(parts, *, memory=None, **options):
    """The stream's result and the closed stream."""
    with Stream(memory=memory, **options) as stream:
        for maps, masks in parts:
            stream.add(maps, masks, (masks >= 128).any(axis=(1, 2)))
        return stream.result(), stream


@given(batches(), st.sampled_from([0.05, 0.3, 1.0]), st.booleans(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_definition_in_any_batches_and_any_order(parts, limit, full, random):
    pictures = pictures_of(parts)
    expected = all_by_definition(*zip(*pictures, strict=True), pro_limit=limit, paper_full_mask=full)
    defective = np.array([(mask >= 128).any() for _, mask in pictures])
    of_images = image_auroc([scores.max() for scores, _ in pictures], defective)
    random.shuffle(pictures)
    one_by_one = [(scores[None], mask[None]) for scores, mask in pictures]
    for order in (parts, one_by_one):
        got, stream = streamed(order, pro_limit=limit, paper_full_mask=full)
        agree(got, expected)
        assert got["image_auroc"] == (None if of_images is None else pytest.approx(of_images, abs=1e-12))
        assert not stream.merged
        for name, averages in expected.items():
            exact = {average: None if value is None else 0.0 for average, value in averages.items()}
            assert stream.error_bound[name] == exact


def smooth(seed, count=12, size=(24, 20)):
    """Pictures in whose defects scores are higher on the average; every third is good."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *size), np.uint8)
    for i in range(count):
        if i % 3:
            masks[i, 2 + i % 7 : 9 + i, 3 : 6 + i] = 180
            masks[i, 4 + i % 7 : 8 + i, 4 : 5 + i] = 255
    return (rng.gamma(3, 1, masks.shape) + masks / 100).astype(np.float32), masks


def test_sorting_in_a_few_scores_at_a_time_changes_nothing(monkeypatch):
    """Positives are sorted in at every picture, not once at the end."""
    maps, masks = smooth(0)
    expected, _ = streamed([(maps, masks)], paper_full_mask=True)
    monkeypatch.setattr(levels, "AT_ONCE", 1)
    got, _ = streamed([(maps[i : i + 1], masks[i : i + 1]) for i in range(12)], paper_full_mask=True)
    agree(got, {name: expected[name] for name in ("pixel_auroc", "pro")})


def test_a_result_on_the_way_changes_nothing():
    maps, masks = smooth(1)
    defective = masks.any(axis=(1, 2))
    with Stream(paper_full_mask=False) as stream:
        stream.add(maps[:5], masks[:5], defective[:5])
        agree(stream.result(), all_by_definition(maps[:5], masks[:5], pro_limit=0.3, paper_full_mask=False))
        stream.add(maps[5:], masks[5:], defective[5:])
        assert stream.result() == evaluate(maps, masks, defective, paper_full_mask=False)


@pytest.mark.parametrize("at", [0, 1])
def test_a_defect_without_mask_leaves_the_metric_of_pictures(at):
    maps, masks = smooth(2)
    defective = masks.any(axis=(1, 2))
    known = np.ones(12, bool)
    known[[1, 3]] = False  # 1 is defective, and of 3, a good one, it says nothing
    masks[1] = 0
    halves = [slice(0, 6), slice(6, 12)]
    with Stream(paper_full_mask=False) as stream:
        for half in halves[:: 1 if at == 0 else -1]:
            stream.add(maps[half], masks[half], defective[half], masked=known[half])
        got = stream.result()
        assert got["pixel_auroc"] == got["pro"] == UNDEFINED
        assert got["image_auroc"] == pytest.approx(image_auroc(maps.max(axis=(1, 2)), defective), abs=1e-14)
        assert stream.error_bound == {"pixel_auroc": UNDEFINED, "pro": UNDEFINED, "image_auroc": 0.0}
    known[1] = True
    with Stream(paper_full_mask=False) as stream:
        stream.add(maps, masks, defective, masked=known)
        assert stream.result() == evaluate(maps, masks, defective, paper_full_mask=False)


# What a user can get wrong: one line each, and nothing of the batch is added.


def test_nan_names_the_picture_counted_from_the_first():
    maps, masks = smooth(3)
    defective = masks.any(axis=(1, 2))
    broken = maps[7:].copy()
    broken[2, 5, 5] = np.nan
    with Stream(paper_full_mask=False) as stream:
        stream.add(maps[:7], masks[:7], defective[:7])
        with pytest.raises(NumericalError, match="picture 9 ") as caught:
            stream.add(broken, masks[7:], defective[7:])
        assert "\n" not in str(caught.value)
        stream.add(maps[7:], masks[7:], defective[7:])
        assert stream.result() == evaluate(maps, masks, defective, paper_full_mask=False)
    scores = np.where(np.arange(5) == 1, np.nan, 1.0)
    with Stream(paper_full_mask=False) as stream:
        stream.add(maps[:7], masks[:7], defective[:7], image_scores=np.zeros(7))
        with pytest.raises(NumericalError, match="picture 8 "):
            stream.add(maps[7:], masks[7:], defective[7:], image_scores=scores)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"defective": np.zeros(5, bool)}, "picture 8 is good but its mask is not"),
        ({"masked": np.zeros(5, bool)}, "picture 8 has a mask and is said to have none"),
        ({"masked": np.ones(4, bool)}, r"masked is bool \(4,\)"),
        ({"image_scores": np.zeros(5)}, "with every batch or with none"),
    ],
)
def test_bad_batches(options, words):
    maps, masks = smooth(4)
    defective = masks.any(axis=(1, 2))
    masks[7] = 0
    with Stream(paper_full_mask=False) as stream:
        stream.add(maps[:7], masks[:7], defective[:7])
        with pytest.raises(ArgumentError, match=words) as caught:
            stream.add(**{"maps": maps[7:], "masks": masks[7:], "defective": defective[7:], **options})
        assert "\n" not in str(caught.value)
        stream.add(maps[7:], masks[7:], defective[7:])
        assert stream.result() == evaluate(maps, masks, defective, paper_full_mask=False)


def test_a_closed_stream_refuses():
    maps, masks = smooth(5)
    _, stream = streamed([(maps, masks)], paper_full_mask=False)
    for call in (stream.result, lambda: stream.add(maps, masks, masks.any(axis=(1, 2)))):
        with pytest.raises(ArgumentError, match="the stream is closed"):
            call()
    stream.close()
    assert stream.error_bound["image_auroc"] == 0.0


def test_nothing_to_measure():
    with Stream(paper_full_mask=False) as stream, pytest.raises(ArgumentError, match="no picture was added"):
        stream.result()


@pytest.mark.parametrize("memory", [2**24 - 1, 0, -1, 1e9])
def test_too_little_memory(memory):
    with pytest.raises(ArgumentError, match=rf"metrics is {memory}: give whole bytes, at least 16777216 "):
        Stream(paper_full_mask=False, memory=memory)


def test_a_picture_half_added_is_no_picture(monkeypatch):
    """Interrupted within a batch, the stream is closed: no number comes of half of it."""
    maps, masks = smooth(10)
    with Stream(paper_full_mask=False) as stream:
        left = iter([None, None])

        def interrupted(*_):
            if next(left, KeyboardInterrupt):
                raise KeyboardInterrupt

        monkeypatch.setattr(stream._pixels, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.add(maps, masks, masks.any(axis=(1, 2)))
        with pytest.raises(ArgumentError, match="closed"):
            stream.result()


# Beyond the memory.


@pytest.fixture
def any_memory(monkeypatch):
    monkeypatch.setattr(streams, "LEAST_MEMORY", 0)


def one_by_one(maps, masks):
    return [(maps[i : i + 1], masks[i : i + 1]) for i in range(len(maps))]


def within_bounds(got, bounds, exact):
    for name in ("pixel_auroc", "pro"):
        for average in ("pooled", "paper"):
            assert 0 < bounds[name][average] < 0.5
            assert abs(got[name][average] - exact[name][average]) <= bounds[name][average] + 1e-12


@pytest.mark.parametrize("memory", [0, 8000, 15_000, 2**22])
@pytest.mark.parametrize("order", ["random", "rising"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bound_holds(memory, order, dtype, any_memory):
    """From the first picture on, or after a few that were kept; in a page or in several."""
    maps, masks = smooth(11, count=30)
    if order == "rising":  # bins that were there before are never where the next picture's scores are
        order_of = np.argsort(maps.mean(axis=(1, 2)))
        maps, masks = maps[order_of] + np.arange(30, dtype=np.float32)[:, None, None] / 10, masks[order_of]
    maps = maps.astype(dtype)
    if memory == 2**22:
        maps = np.repeat(np.repeat(maps, 10, axis=1), 10, axis=2)
        masks = np.repeat(np.repeat(masks, 10, axis=1), 10, axis=2)
    exact = evaluate(maps, masks, masks.any(axis=(1, 2)), paper_full_mask=True)
    got, stream = streamed(one_by_one(maps, masks), memory=memory, paper_full_mask=True)
    assert stream.merged
    assert got["image_auroc"] == exact["image_auroc"]
    assert stream.error_bound["image_auroc"] == 0.0
    within_bounds(got, stream.error_bound, exact)
    assert got != exact
    assert stream.error_bound["pro"]["pooled"] < 0.15


def test_any_order_gives_the_same_beyond_the_memory(any_memory):
    maps, masks = smooth(12, count=30)
    parts = one_by_one(maps, masks)
    expected, stream = streamed(parts, memory=10_000, paper_full_mask=True)
    for again in (parts[::-1], parts[1::2] + parts[::2], [(maps, masks)]):
        got, other = streamed(again, memory=10_000, paper_full_mask=True)
        for name in ("pixel_auroc", "pro"):
            assert got[name] == pytest.approx(expected[name], abs=1e-12)
            assert other.error_bound[name] == pytest.approx(stream.error_bound[name], abs=1e-12)


def test_exact_as_long_as_all_fits(any_memory):
    maps, masks = smooth(12)
    exact = evaluate(maps, masks, masks.any(axis=(1, 2)), paper_full_mask=True)
    needed = 4 * (masks < 128).sum() + 256 * (masks >= 128).sum()
    for memory, merged in ((needed * 8 // 7 + 8, False), (needed * 8 // 7 - 8, True)):
        got, stream = streamed([(maps, masks)], memory=int(memory), paper_full_mask=True)
        assert stream.merged == merged
        assert (got == exact) == (not merged)
        assert (stream.error_bound["pro"]["pooled"] == 0.0) == (not merged)


def test_a_result_on_the_way_changes_nothing_beyond_the_memory(any_memory):
    maps, masks = smooth(1)
    parts = one_by_one(maps, masks)
    expected, _ = streamed(parts, memory=3000, paper_full_mask=True)
    with Stream(paper_full_mask=True, memory=3000) as stream:
        merged = []
        for some, of_some in parts:
            stream.add(some, of_some, of_some.any(axis=(1, 2)))
            stream.result()
            merged.append(stream.merged)
        assert stream.result() == expected
        assert merged == sorted(merged)
        assert not merged[0]


@pytest.mark.parametrize("masks", [0, 255])
def test_undefined_beyond_the_memory(masks, any_memory):
    """Of good pixels alone, or of defective ones alone, there is no curve."""
    masks = np.full((2, 4, 4), masks, np.uint8)
    got, stream = streamed([(np.ones((2, 4, 4)), masks)], memory=0, paper_full_mask=True)
    assert stream.merged
    assert got["pixel_auroc"] == got["pro"] == stream.error_bound["pro"] == UNDEFINED


def test_memory_does_not_grow_with_pictures(any_memory):
    def peak(count):
        tracemalloc.start()
        with Stream(paper_full_mask=True, memory=2**20) as stream:
            for maps, masks in pictures(count, side=128):
                stream.add(maps, masks, masks.any(axis=(1, 2)))
            stream.result()
        assert stream.merged
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(30)  # what is made once
    few, many = peak(30), peak(300)
    assert many < 1.1 * few


@pytest.mark.parametrize("memory", [None, 2**24])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_it_takes_no_more_than_it_says(memory, share):
    """While scores come and when the curves are drawn; the pages' table has 16 MiB, little of it used."""
    side, count = 256, 12 if memory is None else 90
    rng = np.random.default_rng(13)
    masks = np.zeros((1, side, side), np.uint8)
    masks[:, : int(share * side)] = 255
    tracemalloc.start()
    with Stream(paper_full_mask=True, memory=memory) as stream:
        for _ in range(count):
            stream.add(rng.random((1, side, side), np.float32), masks, np.array([True]))
        stream.result()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stream.merged == (memory is not None)
    positives = count * int((masks > 0).sum())
    needed = 4 * (count * masks.size - positives) + 256 * positives
    vectors = 40 * masks.size
    assert peak < vectors + (needed if memory is None else memory + 2**24)


HERE = Path(__file__).parent


def in_a_process_of_its_own(count, side, memory):
    """(result, error bounds, peak in bytes) of a stream."""
    done = subprocess.run(
        [sys.executable, HERE / "many_scores.py", *map(str, (count, side, memory))],
        env={"PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("count", "memory", "bound"),
    [
        pytest.param(5, 2**24, 3e-4, id="5 million"),
        pytest.param(100, 2**28, 1e-4, id="100 million", marks=pytest.mark.slow),
    ],
)
def test_many_distinct_scores(count, memory, bound):
    got, bounds, peak = in_a_process_of_its_own(count, 1000, memory)
    exact, _ = streamed(pictures(count, side=1000), paper_full_mask=True)
    within_bounds(got, bounds, exact)
    assert max(*bounds["pixel_auroc"].values(), *bounds["pro"].values()) < bound
    assert peak < 2e9


@pytest.mark.slow
def test_the_process_does_not_grow_with_pictures():
    """Ten times as many pictures, and memory below what the fewer need."""
    few, many = (in_a_process_of_its_own(count, 256, 2**25)[2] for count in (200, 2000))
    assert many < 1.1 * few


def test_the_picture_score_may_be_of_the_highest_hundredth():
    rng = np.random.default_rng(0)
    maps, masks = rng.random((6, 20, 30)), np.zeros((6, 20, 30), np.uint8)
    masks[:3, 2, 2] = 255
    defective = np.arange(6) < 3
    got, _ = streamed([(maps, masks)], paper_full_mask=False, picture_score="top1%")
    top = np.sort(maps.reshape(6, -1), axis=1)[:, -6:].mean(1)
    assert got["image_auroc"] == image_auroc(top, defective)
    assert got["image_auroc"] != image_auroc(maps.max((1, 2)), defective)
    with pytest.raises(ArgumentError, match="picture_score 'mean' is unknown: choose one of max, top1%"):
        Stream(paper_full_mask=False, picture_score="mean")
