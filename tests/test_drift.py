"""Drift: how often it alarms where nothing has changed, and that it does where something has."""

import numpy as np
import pytest
from scipy import stats

from jaxsode.drift import LOOKS, Drift, limit
from jaxsode.errors import ArgumentError


def _alarms(n, runs, threshold_rank=None, seed=1):
    """How many of so many unchanged runs ever alarm, each with a calibration of its own."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(runs):
        calibration = rng.gamma(4, size=n)
        threshold = None if threshold_rank is None else np.sort(calibration)[threshold_rank - 1]
        drift = Drift(calibration, threshold)
        for score in rng.gamma(4, size=LOOKS):
            if drift.add(score, threshold is not None and score > threshold) is not None:
                alarms += 1
                break
    return alarms


@pytest.mark.slow
@pytest.mark.parametrize(("n", "rank"), [(50, 50), (230, 219), (230, 228), (50, None), (230, None)])
def test_at_most_one_in_a_hundred_unchanged_runs_ever_alarms(n, rank):
    alarms = _alarms(n, 1000, rank)
    print(f"N = {n}, rank {rank}: {alarms} of 1,000 runs of {LOOKS} alarmed")
    assert alarms <= stats.binom(1000, 0.01).ppf(0.999)


def test_a_few_unchanged_runs_are_silent():
    assert _alarms(50, 8, 48) == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_change_alarms_once_in_either_direction(sign):
    rng = np.random.default_rng(0)
    calibration = rng.standard_normal(230)
    drift = Drift(calibration)
    lines = [drift.add(score + sign, False) for score in rng.standard_normal(60)]
    said = [line for line in lines if line is not None]
    assert len(said) == 1
    assert ("higher" if sign > 0 else "lower") in said[0]
    assert "light, camera or product" in said[0]
    assert drift.alarmed


def test_many_defects_are_no_drift():
    rng = np.random.default_rng(0)
    drift = Drift(np.arange(100.0), 98.0)
    lines = [drift.add(1000.0, True) for _ in range(300)]
    lines += [drift.add(score, False) for score in rng.uniform(0, 98, 100)]
    assert not any(lines)
    assert (drift.defective, drift.seen) == (300, 400)


def test_the_statistic_is_the_rank_sum_s_with_ties():
    rng = np.random.default_rng(0)
    calibration, recent = rng.integers(0, 9, 40), rng.integers(2, 11, 30)
    drift = Drift(calibration, window=30)
    for score in recent:
        drift.add(score, False)
    found = stats.mannwhitneyu(recent, calibration, use_continuity=False).statistic
    expected = (found - 40 * 30 / 2) / np.sqrt(40 * 30 * 71 / 12)
    assert drift.statistic == pytest.approx(expected)


def test_it_goes_on_from_what_it_had_seen():
    rng = np.random.default_rng(0)
    calibration, scores = rng.standard_normal(50), rng.standard_normal(70)
    whole, first = Drift(calibration), Drift(calibration)
    for score in scores:
        whole.add(score, False)
    for score in scores[:33]:
        first.add(score, False)
    second = Drift(calibration).resumed(first.page())
    for score in scores[33:]:
        second.add(score, False)
    assert second.page() == whole.page()
    assert second.statistic == whole.statistic


def test_what_can_not_be_compared():
    for scores in ([], [1.0, np.nan]):
        with pytest.raises(ArgumentError, match="all finite"):
            Drift(np.array(scores))
    assert limit(3, 2, 50) == np.inf
