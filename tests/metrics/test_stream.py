"""The stream against the definition, however the pictures come; its bounds on memory, disk and error."""

import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from referee import agree, all_by_definition

from jaxsode.errors import ArgumentError, NumericalError, OutputError
from jaxsode.metrics import Stream, evaluate, image_auroc, levels, spool

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


def streamed(parts, *, most=None, **options):
    """The stream's result and the closed stream."""
    with Stream(levels=most, **options) as stream:
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


@pytest.mark.parametrize("most", [3, 0, -1])
def test_too_few_levels(most):
    with pytest.raises(ArgumentError, match=f"levels is {most}: a curve needs 4"):
        Stream(paper_full_mask=False, levels=most)


# Memory and disk.


def test_memory_does_not_grow_with_good_pictures(monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 2**15)
    side = 64
    rng = np.random.default_rng(6)
    defect = np.zeros((1, side, side), np.uint8)
    defect[:, 8:16, 8:16] = 255

    def peak(good):
        tracemalloc.start()
        with Stream(paper_full_mask=False) as stream:
            stream.add(rng.random((1, side, side), np.float32), defect, np.array([True]))
            for _ in range(good):
                stream.add(rng.random((1, side, side), np.float32), defect * 0, np.array([False]))
            stream.result()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)  # what is made once
    few, many = peak(20), peak(220)
    # A picture leaves its score and its flag; its map would be 16 KiB. Curve and vectors of them take more.
    assert many - few < 200 * 256


@pytest.fixture
def files(monkeypatch):
    """The temporary files that are opened on disk."""
    opened = []
    make = tempfile.TemporaryFile

    def noted(*arguments, **options):
        opened.append(make(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    return opened


def test_the_spool_goes_to_disk_beyond_its_limit_and_is_deleted(files, tmp_path, monkeypatch):
    maps, masks = smooth(7)
    defective = masks.any(axis=(1, 2))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    expected = evaluate(maps, masks, defective, paper_full_mask=True)
    assert not files
    monkeypatch.setattr(spool, "IN_MEMORY", 4096)
    with Stream(paper_full_mask=True) as stream:
        for i in range(12):
            stream.add(maps[i : i + 1], masks[i : i + 1], defective[i : i + 1])
        assert len(files) == 1
        assert stream.result() == expected
        written = files[0].seek(0, 2)
        # The good pixels' scores, and for each picture two headers and two weights.
        assert written == (masks < 128).sum() * 4 + 12 * (2 * 16 + 2 * 8)
        assert not files[0].closed
    assert files[0].closed
    assert not list(tmp_path.iterdir())


def test_the_spool_is_deleted_after_an_error(files, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    maps, masks = smooth(8)

    def interrupted():
        with Stream(paper_full_mask=True) as stream:
            stream.add(maps, masks, masks.any(axis=(1, 2)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [file.closed for file in files] == [True]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line(monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 4096)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "w+b"))  # noqa: SIM115
    maps, masks = smooth(9)
    with (
        Stream(paper_full_mask=True) as stream,
        pytest.raises(OutputError, match=r"No space left .* TMPDIR") as caught,
    ):
        stream.add(maps, masks, masks.any(axis=(1, 2)))
    assert "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match="closed"):
        stream.result()


def test_no_temporary_folder_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    maps, masks = smooth(9)
    with Stream(paper_full_mask=True) as stream, pytest.raises(OutputError, match="another folder in TMPDIR"):
        stream.add(maps, masks, masks.any(axis=(1, 2)))


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


# Merged levels.


@pytest.mark.parametrize("most", [4, 7, 16, 64, 256])
@pytest.mark.parametrize("order", ["random", "rising"])
def test_the_bound_holds(most, order, monkeypatch):
    monkeypatch.setattr(levels, "AT_ONCE", 100)
    maps, masks = smooth(11, count=30)
    if order == "rising":  # the worst: later pictures crowd where no level has been yet, or all in one
        order_of = np.argsort(maps.mean(axis=(1, 2)))
        maps, masks = maps[order_of] + np.arange(30, dtype=np.float32)[:, None, None] / 10, masks[order_of]
    exact = evaluate(maps, masks, masks.any(axis=(1, 2)), paper_full_mask=True)
    one_by_one = [(maps[i : i + 1], masks[i : i + 1]) for i in range(30)]
    got, stream = streamed(one_by_one, most=most, paper_full_mask=True)
    assert stream.merged
    assert got["image_auroc"] == exact["image_auroc"]
    assert stream.error_bound["image_auroc"] == 0.0
    for name, limit in (("pixel_auroc", 1.0), ("pro", 0.3)):
        for average in ("pooled", "paper"):
            bound = stream.error_bound[name][average]
            assert bound > 0
            assert abs(got[name][average] - exact[name][average]) <= bound + 1e-12
            if order == "random":
                assert bound < 16 / most / limit


def test_as_many_levels_as_scores_is_exact():
    maps, masks = smooth(12)
    distinct = len(np.unique(maps[masks >= 128]))
    exact = evaluate(maps, masks, masks.any(axis=(1, 2)), paper_full_mask=True)
    for most, merged in ((distinct, False), (distinct - 1, True)):
        got, stream = streamed([(maps, masks)], most=most, paper_full_mask=True)
        assert stream.merged == merged
        assert (got == exact) == (not merged)
        assert (stream.error_bound["pro"]["pooled"] == 0.0) == (not merged)


def test_what_is_merged_is_small_and_what_is_large_is_not_merged():
    scores = np.arange(1000.0)
    weights = np.ones((1, 1000))
    weights[0, [333, 334, 500]] = 500  # ties of many positives: each would fill a cell
    found = levels.Levels(columns=1, guides=1, most=40)
    found.add(scores, weights)
    found.settle()
    merged = found.highest > found.lowest
    assert merged.any()
    assert found.sums[0, merged].max() < 2 / 10 * weights.sum()
    assert not merged[np.searchsorted(found.lowest, [333, 334])].any()
    assert {333.0, 334.0, 500.0} <= set(found.lowest)
    assert found.lowest.size <= 2 * 10


def test_no_more_levels_than_are_allowed():
    rng = np.random.default_rng(13)
    for most in (4, 5, 30):
        found = levels.Levels(columns=2, guides=1, most=most)
        total = np.zeros(2)
        for _ in range(20):
            weights = rng.random((2, 50))
            total += weights.sum(axis=1)
            found.add(rng.random(50), weights)
            found.settle()
            assert found.lowest.size <= most
            assert (found.lowest <= found.highest).all()
            assert (found.highest[:-1] < found.lowest[1:]).all()
        np.testing.assert_allclose(found.sums.sum(axis=1), total, rtol=1e-12)
