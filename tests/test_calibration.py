"""Thresholds and p-values against their definition, ties included; what is bound to a state."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from tiny import Tiny, pictures

from jaxsode import Detector, Method, calibration, checkpoint
from jaxsode.calibration import Calibration
from jaxsode.errors import ArgumentError, CheckpointError, DataError, NumericalError
from jaxsode.inspection import Inspector


def _of(scores, rate=0.05):
    return Calibration(np.asarray(scores, np.float32), tuple(map(str, range(len(scores)))), rate)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("n", [1, 5, 19, 20, 99, 100, 230])
def test_a_decision_is_a_p_value(n, rate):
    rng = np.random.default_rng(n)
    scores = rng.integers(0, max(n // 3, 2), n)  # with ties
    made = _of(scores, rate)
    s = np.arange(-1, scores.max() + 2, 0.5)
    p = np.array([Fraction(1 + int((scores >= x).sum()), n + 1) for x in s])
    alpha = max(Fraction(str(rate)), Fraction(1, n + 1))
    np.testing.assert_array_equal(made.defective(s), [bool(x <= alpha) for x in p])
    np.testing.assert_allclose(made.p_values(s), p.astype(float), rtol=1e-15)
    r = math.ceil((n + 1) * (1 - alpha))
    assert (made.rank, made.threshold) == (r, np.sort(scores)[r - 1])
    assert (made.note is None) == (rate * (n + 1) >= 1 - 1e-12)


def test_the_promise_holds_on_average():
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        made = _of(rng.standard_normal(99), 0.1)
        rates.append(1 - stats.norm.cdf(made.threshold))
    low, high = made.interval()
    assert abs(np.mean(rates) - 0.1) < 0.005
    assert 0.9 < np.mean([(low <= rate <= high) for rate in rates]) < 0.99
    assert made.false_alarms(40) == (0, 9)


def test_what_is_no_number_gets_no_decision():
    with pytest.raises(NumericalError, match="b has no finite score"):
        Calibration(np.array([1, np.nan], np.float32), ("a", "b"), 0.5)
    made = _of([1.0, 2.0], 0.5)
    assert np.isnan(made.p_values([np.nan, 1]))[0]
    with pytest.raises(NumericalError, match="no decision"):
        made.defective([np.nan])
    for rate in (0, 1, -1, float("nan")):
        with pytest.raises(ArgumentError, match="must be above 0 and below 1"):
            _of([1.0], rate)
    with pytest.raises(DataError, match="give more"):
        _of([])
    assert _of(np.arange(50), 0.01).note == (
        "50 good pictures can promise a false-alarm rate of 0.0196 at the least, not 0.01: that takes 99"
    )


def test_it_belongs_to_one_state(tmp_path):
    good = pictures(10)
    detector = Detector.fit([good], Tiny.make(), Method(k=3))
    left_out = next(detector.leave_one_out_maps([good]))
    detector.save(tmp_path / "a")
    found, why = calibration.read(tmp_path / "a")
    assert found is None
    assert "jaxsode calibrate makes one" in why
    ignored = np.zeros(detector.size, bool)
    ignored[0, :3] = True
    made = _of(left_out.max((1, 2)), 0.2)
    dataclasses.replace(made, ignored=ignored).write(tmp_path / "a")
    found, why = calibration.read(tmp_path / "a")
    assert why is None
    np.testing.assert_array_equal(found.scores, made.scores)
    np.testing.assert_array_equal(found.ignored, ignored)
    assert found.threshold == made.threshold
    detector.update([pictures(4, seed=1)]).save(tmp_path / "b")
    (tmp_path / "b" / calibration.FILE).write_bytes((tmp_path / "a" / calibration.FILE).read_bytes())
    assert "another state" in calibration.read(tmp_path / "b")[1]
    assert checkpoint.state(tmp_path / "a") != checkpoint.state(tmp_path / "b")
    text = (tmp_path / "a" / calibration.FILE).read_text().replace('"threshold": ', '"threshold": 1')
    (tmp_path / "a" / calibration.FILE).write_text(text)
    with pytest.raises(CheckpointError, match="damaged"):
        calibration.read(tmp_path / "a")


def test_an_inspector_is_all_in_one(tmp_path):
    good = pictures(12)
    detector = Detector.fit([good], Tiny.make(), Method(k=3))
    detector.save(tmp_path / "d")
    ignored = np.zeros(detector.size, bool)
    ignored[:9] = True
    without = Inspector.load(tmp_path / "d", backbone=Tiny.make(), ignored=ignored)
    assert without.calibration is None
    maps = next(detector.leave_one_out_maps([good], ignored=ignored))
    made = dataclasses.replace(_of(without.scores(maps), 0.2), ignored=ignored)
    made.write(tmp_path / "d")
    inspector = Inspector.load(tmp_path / "d", backbone=Tiny.make())
    new = pictures(5, seed=3)
    got = inspector(new)
    expected = np.asarray(detector.anomaly_map(new, ignored=ignored))
    np.testing.assert_array_equal(got.maps, expected)
    np.testing.assert_array_equal(got.scores, np.nanmax(expected, axis=(1, 2)))
    np.testing.assert_array_equal(got.defective, got.scores > made.threshold)
    np.testing.assert_array_equal(got.defective, got.p_values <= made.alpha)
    np.testing.assert_array_equal(got.defective, (np.nan_to_num(got.maps) > made.threshold).any((1, 2)))
    assert Inspector.load(tmp_path / "d", backbone=Tiny.make(), ignored=ignored).calibration is not None
    other = Inspector.load(tmp_path / "d", backbone=Tiny.make(), ignored=~ignored)
    assert other.calibration is None
    assert "another --ignore-mask" in other.why_no_threshold
    assert other(new).p_values is None
    lost = new.astype(np.float32) / 255
    lost[2, 20, 5] = np.nan
    got = inspector(lost)
    assert np.isnan(got.scores[2])
    assert np.isnan(got.p_values[2])
    assert got.defective[2]  # what has no score is not called good
