"""Sharded over eight devices, pictures and locations alike, the result is the single device's."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from tiny import Tiny, pictures

from jaxsode import Detector
from jaxsode.errors import ArgumentError


def _mesh(shape, names):
    return Mesh(np.array(jax.devices()[: np.prod(shape)]).reshape(shape), names)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((8,), ("locations",)),
        ((2, 4), ("pictures", "locations")),
        ((4, 2), ("pictures", "locations")),
        ((4,), ("pictures",)),
    ],
)
def test_equals_the_single_device(shape, names):
    backbone, train, test = Tiny.make(), pictures(40), pictures(8, seed=1)
    batches = [train[i : i + 8] for i in range(0, 40, 8)]
    alone = Detector.fit(batches, backbone, k=6)
    mesh = _mesh(shape, names)
    sharded = Detector.fit(batches, backbone, k=6, mesh=mesh)
    for a, b in ((sharded.mean, alone.mean), (sharded.whitener, alone.whitener)):
        assert np.linalg.norm(np.asarray(a) - np.asarray(b)) <= 1e-5 * np.linalg.norm(np.asarray(b))
    maps, expected = (np.asarray(d.anomaly_map(test)) for d in (sharded, alone))
    assert np.linalg.norm(maps - expected) <= 1e-5 * np.linalg.norm(expected)


def test_each_device_holds_its_share():
    detector = Detector.fit([pictures(8)], Tiny.make(), k=6, mesh=_mesh((8,), ("locations",)))
    shards = detector.whitener.addressable_shards
    assert len({shard.device for shard in shards}) == 8
    assert {shard.data.shape for shard in shards} == {(1, 6, 6, 6)}


def test_rows_must_divide():
    with pytest.raises(ArgumentError, match="8 rows don't divide among 3 devices"):
        Detector.fit([pictures(8)], Tiny.make(), k=6, mesh=_mesh((3,), ("locations",)))
