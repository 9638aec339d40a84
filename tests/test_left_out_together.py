"""Groups left out at a time, and regions that don't matter: the detector against refits and plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Tiny

from jaxsode import Detector, Method
from jaxsode.algebra.distance import anomaly_map, anomaly_map_without, resampling
from jaxsode.errors import ArgumentError

SIZE = (32, 24)


def _pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *SIZE, 3), dtype=np.uint8)


def _fitted(pictures, **method):
    batches = [pictures[i : i + 4] for i in range(0, len(pictures), 4)]
    return Detector.fit(batches, Tiny.make(), Method(k=3, **({"epsilon": 0.05} | method)))


@pytest.mark.parametrize("method", [{}, {"variance_weight": 0.2, "epsilon": "20%"}])
def test_a_group_has_the_maps_of_a_fit_without_it(method):
    pictures = _pictures(14)
    groups = ["a", "b", "a", "c", "d", "d", "a", "e", "e", "f", "g", "g", "g", "h"]
    detector = _fitted(pictures, **method)
    batches = [pictures[i : i + 4] for i in range(0, 14, 4)]
    maps = np.concatenate(list(detector.leave_one_out_maps(batches, groups=groups)))
    assert maps.shape == (14, *SIZE)
    if method:  # the share, and γ's mean, are of all pictures
        return
    for group in set(groups):
        out = [i for i, each in enumerate(groups) if each == group]
        others = _fitted(np.delete(pictures, out, axis=0))
        expected = others.anomaly_map(pictures[out])
        np.testing.assert_allclose(maps[out], expected, rtol=2e-3)


def test_groups_are_as_many_as_the_pictures():
    pictures = _pictures(6)
    detector = _fitted(pictures)
    for groups in ([0, 0, 1], [0, 0, 1, 2, 3, 4, 5], [0, 1, 2], list(range(7))):
        with pytest.raises(ArgumentError, match="groups and"):
            list(detector.leave_one_out_maps([pictures], groups=groups))
    with pytest.raises(ArgumentError, match="leaves nothing"):
        list(detector.leave_one_out_maps([pictures], groups=[0] * 6))


def _smoothed(d, ignored, sigma):
    """The definition: what counts, over how much counts, each an anomaly map in float64."""
    H, W = d.shape
    height, width = ignored.shape
    counts = np.array(
        [
            [not ignored[int((i + 0.5) * height / H), int((j + 0.5) * width / W)] for j in range(W)]
            for i in range(H)
        ]
    )
    rows, columns = resampling(H, height, sigma), resampling(W, width, sigma)
    top, bottom = rows @ (np.where(counts, d, 0)) @ columns.T, rows @ counts @ columns.T
    result = np.full(ignored.shape, np.nan)
    judged = ~ignored & (bottom > 0)
    result[judged] = top[judged] / bottom[judged]
    return result


def test_what_is_ignored_adds_nothing():
    rng = np.random.default_rng(0)
    d = rng.uniform(1, 2, (6, 4)).astype(np.float32)
    ignored = np.zeros(SIZE, bool)
    ignored[5:14, :9] = True
    map_ = np.asarray(anomaly_map_without(jnp.asarray(d), jnp.asarray(ignored), sigma=2.0))
    np.testing.assert_allclose(map_, _smoothed(d.astype(np.float64), ignored, 2.0), rtol=1e-5)
    assert (np.isnan(map_) == ignored).all()
    shouting = d.copy()
    shouting[2, 0] = 1e6  # its centre is ignored
    again = anomaly_map_without(jnp.asarray(shouting), jnp.asarray(ignored), sigma=2.0)
    np.testing.assert_array_equal(map_, again)
    lost = d.copy()
    lost[2, 0] = np.nan
    np.testing.assert_array_equal(
        map_, anomaly_map_without(jnp.asarray(lost), jnp.asarray(ignored), sigma=2.0)
    )
    nothing = anomaly_map_without(jnp.asarray(d), jnp.zeros(SIZE, bool), sigma=2.0)
    np.testing.assert_allclose(nothing, anomaly_map(jnp.asarray(d), SIZE, sigma=2.0), rtol=1e-6)


def test_a_detector_ignores():
    pictures = _pictures(8)
    detector = _fitted(pictures)
    ignored = np.zeros(SIZE, bool)
    ignored[:10] = True
    assert (np.isnan(detector.anomaly_map(pictures, ignored=ignored)) == ignored).all()
    left_out = next(detector.leave_one_out_maps([pictures], ignored=ignored))
    assert (np.isnan(left_out) == ignored).all()
    together = next(detector.leave_one_out_maps([pictures], groups=[0, 0, 1, 2, 3, 4, 5, 6], ignored=ignored))
    np.testing.assert_allclose(together[2:], left_out[2:], rtol=1e-4)
    for wrong, line in (
        (np.zeros((3, 3), bool), "32 × 24"),
        (np.zeros(SIZE), "give bool"),
        (np.ones(SIZE, bool), "leave something"),
    ):
        with pytest.raises(ArgumentError, match=line):
            detector.anomaly_map(pictures, ignored=wrong)
