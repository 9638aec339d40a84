"""Features are extracted once where they are used again, and are the same either way."""

import numpy as np
import pytest
from miniature import is_complete, kolektor
from tiny import Tiny

from jaxsode import datasets
from jaxsode.experiment.features import Features
from jaxsode.fitting import extract


@pytest.fixture
def features(tmp_path, monkeypatch):
    is_complete(monkeypatch)
    dataset = datasets.load("kolektor", data_dir=kolektor(tmp_path))
    return Features(Tiny.make(), dataset, size=(32, 24), batch_size=4, workers=2)


def _collected(features, indices):
    return [
        np.concatenate(scale) for scale in zip(*[_rows(b) for b in features.batches(indices)], strict=True)
    ]


def _rows(batch):
    maps, valid = batch
    assert all(m.shape[0] == 4 for m in maps)
    return [np.asarray(m)[:valid] for m in maps]


def test_kept_and_streamed_agree(features):
    indices = [3, 1, 17, 0, 9]
    streamed = _collected(features, indices)
    done = []
    assert features.prepare([*range(18), *range(18)], progress=done.append) == 18
    assert sum(done) == 18
    kept = _collected(features, indices)
    for a, b in zip(streamed, kept, strict=True):
        np.testing.assert_array_equal(a, b)
    alone = extract(features.backbone, features.dataset.picture(17, size=(32, 24))[None])
    np.testing.assert_allclose(kept[0][2], alone[0][0], rtol=1e-5, atol=1e-6)


def test_all_are_kept_if_any_is_used_twice(features):
    """A fold's test pictures are some of both: extracted in part, they would be extracted again."""
    assert features.prepare([0, 1, 1], progress=lambda _: None) == 2


def test_what_is_used_once_is_not_kept(features):
    assert features.prepare(range(18), progress=lambda _: None) == 0


def test_what_does_not_fit_is_not_kept(features):
    each = features.bytes_per_picture()
    assert each == 4 * 12 * (8 * 6 + 4 * 3)
    assert features.prepare([0, 0, 1, 1], progress=lambda _: None, memory=2 * each - 1) == 0
    assert len(_collected(features, [0, 1])[0]) == 2
    assert features.prepare([0, 0, 1, 1], progress=lambda _: None, memory=2 * each) == 2
