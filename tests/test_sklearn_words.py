"""scikit-learn's words mean what they mean there: higher is more normal, 1 is an inlier."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tiny import Tiny, pictures

from jaxsode import Detector, Method
from jaxsode.calibration import Calibration
from jaxsode.errors import ArgumentError
from jaxsode.inspection import Inspector


@pytest.fixture(scope="module")
def batch():
    return np.concatenate([pictures(8, seed=3), pictures(3, seed=4) // 2])


@pytest.fixture(scope="module")
def inspector(batch):
    detector = Detector.fit([pictures(12)], Tiny.make(), Method(k=5))
    scores = Inspector(detector)(batch).scores[:8]  # of the batch's own: ties
    return Inspector(detector, Calibration(scores, tuple("abcdefgh"), 0.25))


def test_they_agree_with_the_decision(inspector, batch):
    found, margin = inspector(batch), inspector.decision_function(batch)
    np.testing.assert_array_equal(inspector.score_samples(batch), -found.scores)
    np.testing.assert_array_equal(inspector.predict(batch), np.where(margin >= 0, 1, -1))
    np.testing.assert_array_equal(inspector.predict(batch) == -1, found.defective)
    assert (margin == 0).sum() == 1  # the r-th smallest is at the threshold, and good
    assert inspector.predict(batch)[margin == 0].tolist() == [1]


def test_the_area_under_roc_is_of_the_normal_as_the_positive(inspector, batch):
    normal = np.arange(11) < 8
    ours = roc_auc_score(normal, inspector.score_samples(batch))
    assert ours == pytest.approx(roc_auc_score(~normal, inspector(batch).scores))


def test_what_has_no_score_is_an_outlier(inspector, batch):
    mean = inspector.detector.mean.at[0, 0, 0].set(np.nan)
    broken = dataclasses.replace(inspector, detector=dataclasses.replace(inspector.detector, mean=mean))
    assert np.isnan(broken.score_samples(batch)).all()
    assert (broken.predict(batch) == -1).all()


def test_without_a_threshold_there_is_no_decision(inspector, batch):
    alone = Inspector(inspector.detector, why_no_threshold="d has no threshold")
    assert np.isfinite(alone.score_samples(batch)).all()
    for word in (alone.decision_function, alone.predict):
        with pytest.raises(ArgumentError, match="d has no threshold"):
            word(batch)
