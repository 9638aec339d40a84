"""SPADE against its definition in float64: all locations of all good pictures, compared one by one."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_network import Tiny

from jaxsode.algebra.distance import resampling
from jaxsode.algebra.pyramid import align
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.fitting import extract
from jaxsode.peers import PEERS, Model, Peer, Spade
from jaxsode.peers.correspondence import distances, nearest_pictures


def concatenated(maps):
    """(…, H, W, F) float64 of maps (…, h, w, C)."""
    grid = maps[0].shape[-3:-1]
    return np.concatenate([np.asarray(align(jnp.asarray(m), grid), np.float64) for m in maps], axis=-1)


def by_definition(picture, gallery, nearest):
    x, g = concatenated(picture), concatenated(gallery)
    apart = np.sqrt(((x[:, :, None] - g.reshape(1, 1, -1, g.shape[-1])) ** 2).sum(axis=-1))
    return np.sort(apart, axis=2)[:, :, :nearest].mean(axis=2)


def some_maps(rng, shapes, count=None, offset=0.0):
    lead = () if count is None else (count,)
    return tuple((offset + rng.standard_normal((*lead, *shape))).astype(np.float32) for shape in shapes)


DIVIDING = [(8, 4, 3), (4, 2, 5), (2, 1, 2)]
UNEVEN = [(7, 5, 3), (4, 3, 2), (2, 2, 6)]


@pytest.mark.parametrize(
    ("shapes", "count", "nearest"),
    [(DIVIDING, 3, 1), (UNEVEN, 3, 4), (UNEVEN, 1, 20), ([(5, 6, 4)], 1, 1), (DIVIDING, 2, 64)],
    ids=["dividing", "uneven", "twenty", "one scale", "all"],
)
def test_distances_by_definition(shapes, count, nearest):
    rng = np.random.default_rng(0)
    picture, gallery = some_maps(rng, shapes), some_maps(rng, shapes, count)
    got = distances(picture, gallery, nearest)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, by_definition(picture, gallery, nearest), rtol=2e-6)


def test_small_distances_of_large_features_keep_their_digits():
    rng = np.random.default_rng(2)
    gallery = some_maps(rng, DIVIDING, 3, offset=100.0)
    picture = tuple(g[1] + np.float32(0.125) for g in gallery)
    assert (np.asarray(distances(tuple(g[1] for g in gallery), gallery, 1)) == 0).all()
    np.testing.assert_allclose(distances(picture, gallery, 1), by_definition(picture, gallery, 1), rtol=1e-5)


def test_nan_stays_at_its_locations():
    rng = np.random.default_rng(3)
    picture, gallery = some_maps(rng, DIVIDING), some_maps(rng, DIVIDING, 2)
    picture[1][2, 1, 0] = np.nan
    got = np.asarray(distances(picture, gallery, 2))
    expected = np.zeros((8, 4), bool)
    expected[4:6, 2:4] = True
    np.testing.assert_array_equal(np.isnan(got), expected)


def test_nearest_pictures():
    rng = np.random.default_rng(4)
    pooled, gallery = (rng.standard_normal((n, 6)).astype(np.float32) for n in (3, 20))
    apart = ((pooled[:, None].astype(np.float64) - gallery[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest_pictures(pooled, gallery, 5), np.argsort(apart, axis=1)[:, :5])


@pytest.fixture(scope="module")
def backbone():
    return Tiny()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(5).integers(0, 256, (9, 32, 48, 3), dtype=np.uint8)


def test_maps_by_definition(backbone, pictures):
    """From pictures in batches of two, the last one padded, to filtered maps."""
    good, tested = pictures[:7], pictures[7:]
    model = Spade(neighbours=3, nearest=2, sigma=2.0).fit([good[i : i + 2] for i in range(0, 7, 2)], backbone)
    assert isinstance(model, Model)
    assert model.page() == {
        "method": "spade",
        "neighbours": 3,
        "nearest": 2,
        "sigma": 2.0,
        "pictures": 7,
        "grid": [8, 12],
    }
    maps, of_good = (tuple(np.asarray(m) for m in extract(backbone, p)) for p in (tested, good))
    pooled, of_all = (
        np.concatenate([m.astype(np.float64).mean(axis=(1, 2)) for m in some], axis=1)
        for some in (maps, of_good)
    )
    got = model.anomaly_map(tested)
    assert got.shape == (2, 32, 48)
    rows, columns = resampling(8, 32, 2.0), resampling(12, 48, 2.0)
    for n in range(2):
        near = np.argsort(((of_all - pooled[n]) ** 2).sum(axis=1))[:3]
        d = by_definition(tuple(m[n] for m in maps), tuple(m[near] for m in of_good), 2)
        np.testing.assert_allclose(got[n], rows @ d @ columns.T, rtol=1e-5)


def test_a_good_picture_is_its_own_nearest_one(backbone, pictures):
    model = Spade(neighbours=1).fit([pictures[:4]], backbone)
    assert float(np.abs(model.anomaly_map(pictures[:4])).max()) == 0
    assert float(model.anomaly_map(pictures[4:5]).min()) > 0


def test_batches_as_data_sets_give_them(backbone, pictures):
    """Of one size, the last one padded."""
    batches = [
        SimpleNamespace(pictures=pictures[:4], valid=4),
        SimpleNamespace(pictures=pictures[4:8], valid=1),
    ]
    model = Spade(neighbours=5).fit(iter(batches), backbone)
    assert model.page()["pictures"] == 5
    expected = Spade(neighbours=5).fit([pictures[:4], pictures[4:5]], backbone)
    np.testing.assert_array_equal(model.pooled, expected.pooled)


def test_float64_switched_on_changes_nothing():
    rng = np.random.default_rng(6)
    picture, gallery = some_maps(rng, DIVIDING), some_maps(rng, DIVIDING, 2)
    expected = distances(picture, gallery, 1)
    with jax.enable_x64(True):
        got = distances(picture, gallery, 1)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_what_can_go_wrong(backbone, pictures):
    with pytest.raises(ArgumentError, match=r"^neighbours = 5 with 4 good pictures: give at most as many$"):
        Spade(neighbours=5).fit([pictures[:4]], backbone)
    with pytest.raises(ArgumentError, match=r"^nearest = 97 of 1 pictures' 8 × 12 locations"):
        Spade(neighbours=1, nearest=97).fit([pictures[:1]], backbone)
    with pytest.raises(DataError, match="no pictures to fit on"):
        Spade().fit([], backbone)
    broken = pictures[:4].astype(np.float32) / 255
    broken[2, 5, 5] = np.nan
    with pytest.raises(NumericalError, match=r"^the features of good picture 2 are not finite"):
        Spade(neighbours=1).fit([broken], backbone)
    model = Spade(neighbours=1).fit([pictures[:4]], backbone)
    with pytest.raises(ArgumentError, match=r"^pictures are 16 × 48 and the model .* on 32 × 48: resize"):
        model.anomaly_map(pictures[:, :16])


@pytest.mark.parametrize(
    "wrong",
    [{"neighbours": 0}, {"neighbours": 2.5}, {"nearest": True}, {"sigma": -1.0}, {"sigma": float("nan")}],
)
def test_settings_are_checked(wrong):
    (name,) = wrong
    with pytest.raises(ArgumentError, match=f"^{name} = .*: give a "):
        Spade(**wrong)


def test_registry():
    assert PEERS["spade"] is Spade
    for settings in PEERS.values():
        assert isinstance(settings(), Peer)


def test_scoring_compiles_once(backbone, pictures):
    model = Spade(neighbours=2).fit([pictures[:4]], backbone)
    model.anomaly_map(pictures[4:6])
    before = distances._cache_size()
    model.anomaly_map(pictures[6:8])
    assert distances._cache_size() == before
    assert jnp.isfinite(model.anomaly_map(pictures[6:8])).all()
