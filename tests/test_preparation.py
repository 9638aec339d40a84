"""Squeezed, cropped, padded, and back: which pixels count, and where they lie."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_pictures import encoded
from PIL import Image

from jaxsode.datasets.decode import decode_mask, decode_picture
from jaxsode.preparation import Preparation

sides = st.integers(1, 60)


def ramp(height: int, width: int) -> np.ndarray:
    """Brightness rises along each axis, so that a pixel's value tells where it came from."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // max(height - 1, 1), x * 255 // max(width - 1, 1), 0 * x], -1).astype(np.uint8)


def prepared(pixels: np.ndarray, size: tuple[int, int], resize) -> np.ndarray:
    return decode_picture(encoded(pixels), size=size, channels=3, where="it", preparation=Preparation(resize))


@settings(deadline=None, max_examples=40)
@given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from(["squeeze", "crop", "pad"]))
def test_any_size_becomes_any_other(original, size, resize):
    placing = Preparation(resize).placing(original, size)
    y, x, y_end, x_end = placing.box
    top, left, bottom, right = placing.inside
    assert 0 <= y < y_end <= original[0]
    assert 0 <= x < x_end <= original[1]
    assert 0 <= top < bottom <= size[0]
    assert 0 <= left < right <= size[1]
    assert prepared(ramp(*original), size, resize).shape == (*size, 3)
    back = Preparation(resize).restored(np.full(size, 3.0, np.float32), original)
    assert back.shape == original
    known = back[np.isfinite(back)]
    np.testing.assert_allclose(known, 3, rtol=1e-6)
    if resize != "crop":
        assert known.size == back.size


def test_squeezed_is_what_it_always_was():
    pixels = ramp(50, 30)
    wanted = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(prepared(pixels, (16, 16), "squeeze"), wanted)


def test_cropped_is_its_middle():
    pixels = ramp(64, 32)
    placing = Preparation("crop").placing((64, 32), (16, 16))
    assert placing.box == (16, 0, 48, 32)
    assert placing.inside == (0, 0, 16, 16)
    np.testing.assert_array_equal(
        prepared(pixels, (16, 16), "crop"), prepared(pixels[16:48], (16, 16), "squeeze")
    )


def test_padded_is_all_of_it():
    pixels = ramp(64, 32)
    placing = Preparation("pad").placing((64, 32), (16, 16))
    assert placing.box == (0, 0, 64, 32)
    assert placing.inside == (0, 4, 16, 12)
    ours = prepared(pixels, (16, 16), "pad")
    np.testing.assert_array_equal(ours[:, 4:12], prepared(pixels, (16, 8), "squeeze"))
    assert (ours[:, :4] == ours[:, 4:5]).all()
    assert (ours[:, 12:] == ours[:, 11:12]).all()


@pytest.mark.parametrize("resize", ["squeeze", "crop", "pad"])
def test_a_mask_goes_where_its_picture_goes(resize):
    mask = np.zeros((60, 24), np.uint8)
    mask[25:40] = 255
    preparation = Preparation(resize, marked=True)
    ours = decode_mask(encoded(mask), size=(32, 32), where="it", preparation=preparation)
    shown = decode_picture(encoded(mask), size=(32, 32), channels=1, where="it", preparation=preparation)
    top, left, bottom, right = preparation.placing((60, 24), (32, 32)).inside
    assert np.array_equal(ours[top:bottom, left:right], shown[top:bottom, left:right, 0])
    outside = ours.copy()
    outside[top:bottom, left:right] = 0
    assert not outside.any()  # padding is never a defect


@pytest.mark.parametrize("resize", ["squeeze", "crop", "pad"])
@pytest.mark.parametrize(
    ("original", "size"), [((300, 100), (64, 64)), ((80, 200), (96, 64)), ((64, 64), (64, 64))]
)
def test_a_maps_peak_comes_back_to_its_place(original, size, resize):
    """A blob drawn on the original, prepared, taken for a map and restored lies where it was drawn."""
    y, x = np.mgrid[: original[0], : original[1]]
    centre = original[0] / 2 + 5, original[1] / 2 - 7
    width = max(original) / 12
    blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))
    preparation = Preparation(resize)
    image = np.uint8(blob * 255)
    small = decode_picture(encoded(image), size=size, channels=1, where="it", preparation=preparation)
    back = preparation.restored(small[..., 0].astype(np.float32), original)
    known = np.isfinite(back)
    assert np.abs(back - image)[known].max() < 14  # of 255: what a small map can't hold
    weights = np.where(known, back, 0)
    found = (weights * y).sum() / weights.sum(), (weights * x).sum() / weights.sum()
    drawn = (
        (image * known * y).sum() / (image * known).sum(),
        (image * known * x).sum() / (image * known).sum(),
    )
    np.testing.assert_allclose(found, drawn, atol=0.6)


def test_what_was_cropped_away_is_unknown():
    back = Preparation("crop").restored(np.ones((32, 32), np.float32), (64, 32))
    assert np.isnan(back[:16]).all()
    assert np.isnan(back[48:]).all()
    assert (back[16:48] == 1).all()


def test_what_is_not_judged_is_unknown_too():
    """Of a padded picture what all fitted ones show, in the map and in the original's own pixels."""
    preparation = Preparation("pad", shown=(8, 4, 24, 28))
    placing = preparation.placing((64, 32), (32, 32))
    assert placing.inside == (0, 8, 32, 24)
    assert placing.judged == (8, 8, 24, 24)
    anomaly_map = np.ones((32, 32), np.float32)
    known = np.zeros((32, 32), bool)
    known[8:24, 8:24] = True
    np.testing.assert_array_equal(np.isfinite(placing.masked(anomaly_map)), known)
    back = np.isfinite(preparation.restored(anomaly_map, (64, 32)))
    assert back[16:48].all()
    assert not back[:16].any()
    assert not back[48:].any()


def test_as_a_page_and_back():
    for preparation in (Preparation(), Preparation("pad", 4095, upright=True, shown=(1, 2, 3, 4))):
        assert Preparation.of_page(json.loads(json.dumps(preparation.page()))) == preparation
