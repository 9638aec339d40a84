"""What a detector takes for pictures: one range of floats, one array a batch; a line for all else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method
from jaxsode import pictures as our_pictures
from jaxsode.errors import ArgumentError, JaxsodeError
from jaxsode.pictures import SLACK, checked

METHOD = Method(k=2, epsilon=0.1)
GOOD = pictures(6)
FLOATS = (GOOD / 255).astype(np.float32)

WRONG = {
    "0…255": (
        GOOD.astype(np.float32),
        r"^pictures are floats in 0 … 255, not in \[0, 1\]: divide them by 255",
    ),
    "ImageNet's": (
        ((FLOATS - 0.45) / 0.225).astype(np.float32),
        r"^pictures are floats in -2 … 2.444, not in \[0, 1\]: don't normalise them, the backbone does$",
    ),
    "what resizing overshoots": (
        (FLOATS * 1.06 - 0.04).astype(np.float32),
        r"^pictures are floats in -0.04 … 1.02, not in \[0, 1\]: clip them to \[0, 1\], as after resizing$",
    ),
    "-1…1": (FLOATS * 2 - 1, r"^pictures are floats in -1 … 1, not in \[0, 1\]: don't normalise them"),
}


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.fit([GOOD], Tiny.make(), METHOD)


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floats_of_another_range(detector: Detector, kind: str, dtype: type):
    wrong, line = WRONG[kind][0].astype(dtype), WRONG[kind][1]
    with pytest.raises(ArgumentError, match=line if dtype != np.float16 else "not in"):
        detector.anomaly_map(wrong)
    with pytest.raises(ArgumentError, match="not in"):
        Detector.fit([FLOATS, wrong], Tiny.make(), METHOD)
    with pytest.raises(ArgumentError, match="not in"):
        detector.update([wrong])


@pytest.mark.parametrize("kind", WRONG)
def test_jaxs_arrays_of_another_range(detector: Detector, kind: str):
    """The first batch of a fit is waited for; a map isn't, and is NaN where it would mean nothing."""
    wrong = jnp.asarray(WRONG[kind][0])
    with pytest.raises(ArgumentError, match=WRONG[kind][1]):
        Detector.fit([wrong], Tiny.make(), METHOD)
    assert np.isnan(detector.anomaly_map(wrong)).any(axis=(1, 2)).all()
    with pytest.raises(JaxsodeError):
        Detector.fit([jnp.asarray(FLOATS), wrong], Tiny.make(), METHOD)


def test_scoring_jaxs_arrays_waits_for_none(detector: Detector, monkeypatch: pytest.MonkeyPatch):
    """Its lowest and highest, brought to the host, would wait for all that the device has still to do."""
    looked_at: list[type] = []
    monkeypatch.setattr(our_pictures, "_check_range", lambda array: looked_at.append(type(array)))
    held = jnp.asarray(FLOATS)
    detector.anomaly_map(held)
    assert looked_at == []
    detector.anomaly_map(FLOATS)
    assert looked_at == [np.ndarray]
    Detector.fit([held, held, held], Tiny.make(), METHOD)
    assert len(looked_at) == 2  # the first of the fit


def test_in_range_floats_and_bytes_agree(detector: Detector):
    of_bytes = detector.anomaly_map(GOOD)
    for floats in (FLOATS, jnp.asarray(FLOATS), FLOATS.astype(np.float64)):
        np.testing.assert_allclose(detector.anomaly_map(floats), of_bytes, atol=1e-4)


def test_what_resizing_leaves_may_pass():
    edge = FLOATS.copy()
    edge[0, 0, 0, 0], edge[0, 0, 0, 1] = -SLACK / 2, 1 + SLACK / 2
    assert checked(edge).dtype == np.float32
    edge[0, 0, 0, 0] = -2 * SLACK
    with pytest.raises(ArgumentError, match="not in"):
        checked(edge)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_gives_nan_beside_what_is(detector: Detector, value: float):
    spoilt = FLOATS.copy()
    spoilt[2, 5, 5] = value
    maps = np.asarray(detector.anomaly_map(spoilt))
    assert np.isnan(maps[2]).any()
    assert np.isfinite(np.delete(maps, 2, axis=0)).all()
    spoilt[1] *= 255
    with pytest.raises(ArgumentError, match=r"not in \[0, 1\]"):
        detector.anomaly_map(spoilt)


def test_within_a_program_of_ones_own(detector: Detector):
    scored = jax.jit(lambda d, x: d.anomaly_map(x))
    np.testing.assert_allclose(scored(detector, FLOATS), detector.anomaly_map(FLOATS), atol=1e-4)
    assert np.isnan(scored(detector, FLOATS * 255)).any()


@pytest.mark.parametrize(
    ("batch", "line"),
    [
        (
            (GOOD, np.zeros(6)),
            r"^a batch is a tuple of 2 and no one array: give its pictures alone, \(N, ",
        ),
        ([GOOD, np.zeros(6)], r"^a batch is a list of 2 and no one array"),
        ((GOOD, GOOD), r"^pictures have shape \(2, 6, 32, 24, 3\): it must be \(N, height, width, 3 or 1\)$"),
        ({"image": GOOD, "label": 0}, r"^a batch is a dict of image, label: give its pictures alone"),
        (None, r"^a batch is a NoneType and no array"),
        (object(), r"^a batch is a object and no array"),
        (
            np.moveaxis(GOOD, -1, 1),
            r"^pictures have shape \(6, 3, 32, 24\): .* 1\): move the channels from",
        ),
        (GOOD.astype(np.int32), r"^pictures are int32: give uint8, or floats in \[0, 1\]$"),
        (np.array([["a"]]), r"^pictures have shape \(1, 1\)"),
    ],
    ids=["tuple", "list", "two", "dict", "none", "object", "channels first", "int32", "text"],
)
def test_a_batch_that_is_no_array_of_pictures(detector: Detector, batch: object, line: str):
    for use in (
        lambda: Detector.fit([batch], Tiny.make(), METHOD),
        lambda: detector.anomaly_map(batch),
        lambda: detector.update([batch]),
    ):
        with pytest.raises(ArgumentError, match=line) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_list_of_pictures_is_a_batch(detector: Detector):
    np.testing.assert_array_equal(detector.anomaly_map(list(GOOD)), detector.anomaly_map(GOOD))
    np.testing.assert_array_equal(detector.anomaly_map(tuple(GOOD)), detector.anomaly_map(GOOD))
