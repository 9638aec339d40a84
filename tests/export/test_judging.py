"""The judge gives what the inspector gives; decision, pixels and p-value are one thing, ties included."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method
from jaxsode.calibration import Calibration
from jaxsode.errors import NumericalError
from jaxsode.inspection import Inspector
from jaxsode.judging import Judge

SIZE = (32, 24)


def inspector(*, rate=0.25, ignored=None, scores=None):
    detector = Detector.fit([pictures(9)], Tiny.make(), Method(k=5))
    if scores is None:
        scores = Inspector(detector, None, ignored)(pictures(8, seed=4)).scores
    names = tuple(map(str, range(len(scores))))
    return Inspector(detector, Calibration(scores, names, rate, ignored=ignored), ignored)


def corner():
    ignored = np.zeros(SIZE, bool)
    ignored[:10, :9] = True
    return ignored


@pytest.mark.parametrize("ignored", [None, corner()], ids=["all", "without a corner"])
def test_it_gives_what_the_inspector_gives(ignored):
    known = inspector(ignored=ignored)
    batch = pictures(6, seed=4)  # of the calibration's own: ties
    got, expected = jax.jit(lambda judge, x: judge(x))(Judge.of(known), batch), known(batch)
    np.testing.assert_allclose(got.map, expected.maps, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got.score, expected.scores, rtol=1e-5)
    assert expected.p_values is not None
    near = np.abs(np.subtract.outer(expected.scores, known.calibration.scores)) < 1e-4
    counts = np.asarray(got.p_value, np.float64) - expected.p_values
    assert (np.abs(counts) <= (near.sum(1) + 1e-3) / 9).all()


@pytest.mark.parametrize(
    ("N", "rate"),
    [
        *((19, rate) for rate in (0.05, 0.1, 0.2, 1 / 3, 0.5, 0.75)),
        (5, 1 / 3),
        (29, 0.1),
        (59, 0.05),
        (119, 0.05),
    ],
)
def test_decision_pixels_and_p_value_are_one_thing(N, rate):
    """Each picture's score is one of the calibration's: nothing but ties."""
    first = Judge.of(inspector())
    batch = pictures(N, seed=7)
    judged = jax.jit(lambda judge, x: judge(x))
    scores = np.asarray(judged(first, batch).score)
    calibration = Calibration(scores, tuple(map(str, range(N))), rate)
    judge = Judge.of(Inspector(inspector().detector, calibration))
    got = judged(judge, batch)
    np.testing.assert_array_equal(got.score, scores)
    np.testing.assert_array_equal(got.p_value, np.float32(calibration.p_values(scores)))
    alpha = np.float32(calibration.level)
    np.testing.assert_array_equal(np.asarray(got.p_value) <= alpha, got.defective)
    np.testing.assert_array_equal(
        (np.asarray(got.map) > np.float32(calibration.threshold)).any((1, 2)), got.defective
    )
    assert int(np.asarray(got.defective).sum()) == N - calibration.rank
    of_inspector = Inspector(inspector().detector, calibration)(batch)
    np.testing.assert_array_equal(of_inspector.p_values <= calibration.level, of_inspector.defective)


def test_what_has_no_score_is_not_called_good():
    known = inspector()
    broken = dataclasses.replace(Judge.of(known), mean=known.detector.mean.at[0, 0, 0].set(np.nan))
    got = broken(pictures(2, seed=3))
    assert np.isnan(got.score).all()
    assert np.isnan(got.p_value).all()
    assert np.asarray(got.defective).all()
    maps = np.full((1, *SIZE), np.nan, np.float32)
    assert known.of_maps(maps).defective.all()


def test_a_detector_that_is_not_finite_is_refused():
    known = inspector()
    mean = known.detector.mean.at[1, 2, 3].set(np.inf)
    with pytest.raises(NumericalError, match=r"mean .* isn't finite"):
        Judge.of(dataclasses.replace(known, detector=dataclasses.replace(known.detector, mean=mean)))


def test_without_a_threshold_there_is_a_map_and_a_score():
    got = Judge.of(Inspector(inspector().detector))(pictures(1))
    assert got.p_value is None
    assert got.defective is None
    assert np.isfinite(got.score).all()


def test_it_goes_through_vmap_and_gradients():
    judge = Judge.of(inspector())
    batch = pictures(3, seed=2).astype(np.float32) / 255
    alone = jax.vmap(lambda x: judge(x[None]).score[0])(batch)
    np.testing.assert_allclose(alone, judge(batch).score, rtol=1e-5)
    slope = jax.grad(lambda x: judge(x).score.sum())(jax.numpy.asarray(batch))
    assert np.isfinite(slope).all()
    assert np.abs(slope).max() > 0
