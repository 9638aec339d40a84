"""Block by block of rows, the maps are those of the whole detector."""

import jax
import numpy as np
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method
from jaxsode.blocks import fit_and_score, rows_per_block, state_bytes
from jaxsode.detector import extract
from jaxsode.errors import ArgumentError, DataError

BACKBONE = Tiny.make()


def _batches(array, step, calls=None):
    def make():
        if calls is not None:
            calls.append(1)
        for i in range(0, len(array), step):
            part = array[i : i + step]
            padded = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            yield extract(BACKBONE, padded), len(part)

    return make


@pytest.mark.parametrize("rows", [1, 3, 5, 8])
@pytest.mark.parametrize("keep", [True, False])
def test_equals_the_whole(rows, keep):
    train, test = pictures(10), pictures(5, seed=1)
    W = semi_orthogonal(0, 24, 6)
    whole = np.asarray(Detector.fit([train], BACKBONE, Method(embedding=W)).anomaly_map(test))
    calls = []
    maps = fit_and_score(_batches(train, 4, calls), _batches(test, 2), W, size=(32, 24), rows=rows, keep=keep)
    assert maps.shape == (5, 32, 24)
    assert np.linalg.norm(maps - whole) <= 1e-5 * np.linalg.norm(whole)
    assert len(calls) == (1 if keep else 1 + -(-8 // rows))


def test_the_last_block_compiles_nothing():
    jax.clear_caches()
    train = _batches(pictures(4), 4)
    with jax.log_compiles(False):
        fit_and_score(train, train, semi_orthogonal(0, 24, 6), size=(32, 24), rows=3)
    from jaxsode.fitting import _factorise

    assert _factorise._cache_size() == 1


def test_how_many_rows_fit():
    one = state_bytes((1, 64), 100)
    assert rows_per_block((64, 64), 100, 10 * one) == 10
    assert rows_per_block((64, 64), 100, 40 * one) == 32  # rather than 40 and 24
    assert rows_per_block((64, 64), 100, 1000 * one) == 64
    with pytest.raises(ArgumentError, match="can't hold one row"):
        rows_per_block((64, 64), 100, one - 1)


def test_nothing_to_fit_on():
    with pytest.raises(DataError, match="no pictures to fit on"):
        fit_and_score(list, _batches(pictures(1), 1), semi_orthogonal(0, 24, 6), size=(32, 24), rows=2)
