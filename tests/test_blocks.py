"""Block by block of rows, the maps are those of the whole detector; and so it is saved, and scored again."""

import jax
import numpy as np
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method
from jaxsode.algebra.precision import PRECISIONS
from jaxsode.blocks import fit_and_score, rows_per_block, score, state_bytes
from jaxsode.errors import ArgumentError, CheckpointError, DataError
from jaxsode.fitting import _factorise, extract

BACKBONE = Tiny.make()
METHOD = Method(k=6)
LOCAL = [name for name, spec in PRECISIONS.items() if spec.needs not in ("pooled", "one set")]


def _batches(array, step, calls=None):
    def make():
        if calls is not None:
            calls.append(1)
        for i in range(0, len(array), step):
            part = array[i : i + step]
            padded = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            yield extract(BACKBONE, padded), len(part)

    return make


def _stacked(maps):
    return np.concatenate([batch[:valid] for batch, valid in maps])


def _method(precision):
    if precision == "local":
        return METHOD
    return Method(embedding="identity", precision=precision, k=5 if "eigen" in precision else None)


@pytest.mark.parametrize("rows", [1, 3, 5, 8])
@pytest.mark.parametrize("keep", [True, False])
def test_equals_the_whole(rows, keep):
    train, test = pictures(10), pictures(5, seed=1)
    whole = np.asarray(Detector.fit([train], BACKBONE, METHOD).anomaly_map(test))
    calls = []
    maps = _stacked(
        fit_and_score(
            _batches(train, 4, calls),
            _batches(test, 2),
            BACKBONE,
            METHOD,
            size=(32, 24),
            rows=rows,
            keep=keep,
        )
    )
    assert maps.shape == (5, 32, 24)
    assert np.linalg.norm(maps - whole) <= 1e-5 * np.linalg.norm(whole)
    assert len(calls) == (1 if keep else -(-8 // rows))


@pytest.mark.parametrize("moments", [True, False])
@pytest.mark.parametrize("precision", LOCAL)
def test_saved_as_it_is_fitted_and_scored_as_it_is_read(precision, moments, tmp_path):
    method, train, test = _method(precision), pictures(10), pictures(5, seed=1)
    whole = Detector.fit([train], BACKBONE, method, keep_moments=moments)
    expected = np.asarray(whole.anomaly_map(test))
    options = {"size": (32, 24), "rows": 3, "pictures": 10, "keep_moments": moments}
    fitted = fit_and_score(_batches(train, 4), None, BACKBONE, method, path=tmp_path / "detector", **options)
    assert list(fitted) == []
    memory = state_bytes((2, 6), method, 24, 10)
    for maps in (
        _stacked(score(tmp_path / "detector", _batches(test, 2), memory=memory, backbone=BACKBONE)),
        Detector.load(tmp_path / "detector", backbone=BACKBONE).anomaly_map(test),
    ):
        assert np.linalg.norm(maps - expected) <= 1e-5 * np.linalg.norm(expected)
    loaded = Detector.load(tmp_path / "detector", backbone=BACKBONE)
    assert (int(loaded.count), loaded.method) == (10, whole.method)
    assert (loaded.statistics is None) == (not moments)
    with pytest.raises(CheckpointError, match="exists already"):
        list(fit_and_score(_batches(train, 4), None, BACKBONE, method, path=tmp_path / "detector", **options))


def test_nothing_is_left_of_one_that_failed(tmp_path):
    bad = pictures(4).astype(np.float32) / 255
    bad[:, 24:] = np.nan
    with pytest.raises(ArithmeticError):
        list(
            fit_and_score(
                _batches(bad, 4), None, BACKBONE, METHOD, size=(32, 24), rows=2, path=tmp_path / "detector"
            )
        )
    assert not any(tmp_path.iterdir())


def test_the_last_block_compiles_nothing():
    jax.clear_caches()
    train = _batches(pictures(4), 4)
    list(fit_and_score(train, train, BACKBONE, METHOD, size=(32, 24), rows=3))
    assert _factorise._cache_size() == 1


def test_how_many_rows_fit():
    method = Method(k=100)
    one = state_bytes((1, 64), method, 448)
    assert one == 4 * 64 * (100 * 100 + 208 * 32 + 2 * 100)  # panels of 4, 36, 68 and 100 rows
    assert rows_per_block((64, 64), method, 448, 10 * one) == 10
    assert rows_per_block((64, 64), method, 448, 40 * one) == 32  # rather than 40 and 24
    assert rows_per_block((64, 64), method, 448, 1000 * one) == 64
    with pytest.raises(ArgumentError, match="can't hold one row"):
        rows_per_block((64, 64), method, 448, one - 1)
    with pytest.raises(ArgumentError, match="one for all locations and can't be done in blocks"):
        rows_per_block((64, 64), Method(precision="global"), 448, 10**6)


@pytest.mark.parametrize("precision", ["global", "global-one-mean"])
def test_one_for_all_locations_is_not_cut(precision):
    """Refused before a picture is looked at: local numbers would come out under its name."""

    def untouched():
        raise AssertionError

    with pytest.raises(ArgumentError, match="one for all locations and can't be done in blocks"):
        fit_and_score(untouched, None, BACKBONE, Method(k=6, precision=precision), size=(32, 24), rows=2)


def test_nothing_to_fit_on():
    with pytest.raises(DataError, match="no pictures to fit on"):
        list(fit_and_score(list, _batches(pictures(1), 1), BACKBONE, METHOD, size=(32, 24), rows=2))


@pytest.mark.parametrize("keep", [True, False])
def test_nothing_to_score(tmp_path, keep):
    """Said so, rather than that there is nothing to fit on; and no detector is left."""
    good = _batches(pictures(4), 4)
    with pytest.raises(DataError, match="no pictures to score"):
        fit_and_score(good, list, BACKBONE, METHOD, size=(32, 24), rows=2, keep=keep, path=tmp_path / "d")
    assert not any(tmp_path.iterdir())
    with pytest.raises(DataError, match="no pictures to fit on"):
        fit_and_score(list, None, BACKBONE, METHOD, size=(32, 24), rows=2, keep=keep)
