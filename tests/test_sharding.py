"""Sharded over eight devices, pictures and locations alike, the result is the single device's."""

import os
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from tiny import Tiny, pictures

from jaxsode import Detector, Method
from jaxsode.errors import ArgumentError
from jaxsode.fitting import accumulate, factorise
from jaxsode.meshes import over_rows, set_aside


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
    alone = Detector.fit(batches, backbone, Method(k=6))
    mesh = _mesh(shape, names)
    sharded = Detector.fit(batches, backbone, Method(k=6), mesh=mesh)
    for a, b in ((sharded.mean, alone.mean), (sharded.whitener, alone.whitener)):
        assert np.linalg.norm(np.asarray(a) - np.asarray(b)) <= 1e-5 * np.linalg.norm(np.asarray(b))
    maps, expected = (np.asarray(d.anomaly_map(test)) for d in (sharded, alone))
    assert np.linalg.norm(maps - expected) <= 1e-5 * np.linalg.norm(expected)


def test_many_matrices_of_a_real_size():
    """So many on each device that they are factorised chunk by chunk, in every algorithm's loops."""
    rng = np.random.default_rng(0)
    z = [(rng.standard_normal((4, 8, 256, 80), dtype=np.float32), 4) for _ in range(2)]
    sharding = over_rows(_mesh((8,), ("locations",)))
    whitener = factorise(accumulate(z, sharding=sharding), 0.5)
    alone = np.asarray(factorise(accumulate(z), 0.5).matrix)
    assert np.linalg.norm(np.asarray(whitener.matrix) - alone) <= 1e-5 * np.linalg.norm(alone)


def test_each_device_holds_its_share():
    detector = Detector.fit([pictures(8)], Tiny.make(), Method(k=6), mesh=_mesh((8,), ("locations",)))
    shards = detector.whitener.addressable_shards
    assert len({shard.device for shard in shards}) == 8
    assert {shard.data.shape for shard in shards} == {(1, 6, 6, 6)}


def test_rows_must_divide():
    with pytest.raises(ArgumentError, match="8 rows don't divide along"):
        Detector.fit([pictures(8)], Tiny.make(), Method(k=6), mesh=_mesh((3,), ("locations",)))


def test_rows_divide_along_their_own_axis_alone():
    train = pictures(8, size=(16, 24))
    detector = Detector.fit([train], Tiny.make(), Method(k=6), mesh=_mesh((2, 4), ("pictures", "locations")))
    assert {shard.data.shape for shard in detector.whitener.addressable_shards} == {(1, 6, 6, 6)}


def test_a_batch_must_divide():
    with pytest.raises(ArgumentError, match="a batch of 6 pictures doesn't divide among the 4 devices"):
        Detector.fit([pictures(6)], Tiny.make(), Method(k=6), mesh=_mesh((4,), ("pictures",)))


def test_a_mesh_as_jax_makes_it():
    """`jax.make_mesh` has explicit axes, and an active mesh is a context of every call."""
    backbone, train, test = Tiny.make(), [pictures(8), pictures(8, seed=1)], pictures(8, seed=2)
    alone = Detector.fit(train, backbone, Method(k=6))
    expected, left_out = alone.anomaly_map(test), alone.leave_one_out(train)
    mesh = jax.make_mesh((4, 2), ("locations", "pictures"))

    def same(maps, expected=expected):
        assert np.linalg.norm(np.asarray(maps) - np.asarray(expected)) <= 1e-5 * np.linalg.norm(expected)

    same(Detector.fit(train, backbone, Method(k=6), mesh=mesh).anomaly_map(test))
    dealt_out = jax.device_put(test, jax.NamedSharding(mesh, jax.P("pictures")))
    same(alone.anomaly_map(dealt_out))
    with jax.set_mesh(mesh):
        same(Detector.fit(train, backbone, Method(k=6)).anomaly_map(test))
        sharded = Detector.fit(train[:1], backbone, Method(k=6), mesh=mesh).update(train[1:])
        assert len(sharded.mean.sharding.device_set) == 8
        same(sharded.anomaly_map(test))
        same(sharded.leave_one_out(train), left_out)
        same(jax.jit(lambda detector, x: detector.anomaly_map(x))(alone, jnp.asarray(test)))
    same(sharded.leave_one_out(train), left_out)


def test_a_detector_put_on_a_mesh_as_jax_makes_it(tmp_path):
    train, more, test = [pictures(8), pictures(8, seed=1)], [pictures(4, seed=3)], pictures(2, seed=2)
    alone = Detector.fit(train, Tiny.make(), Method(k=6))
    mesh = jax.make_mesh((8,), ("locations",))
    put = jax.device_put(alone, jax.NamedSharding(mesh, jax.P()))
    other = Detector.fit(more, Tiny.make(), Method(k=6))

    def saved(detector):
        folder = tmp_path / str(id(detector))
        detector.save(folder)
        return Detector.load(folder, backbone=Tiny.make())

    for do in (
        lambda detector: detector,
        lambda detector: detector.update(more),
        lambda detector: detector.remove(train[1:]),
        lambda detector: Detector.merge(detector, other),
        lambda detector: detector.with_epsilon(0.5),
        saved,
    ):
        expected = np.asarray(do(alone).anomaly_map(test))
        np.testing.assert_allclose(do(put).anomaly_map(test), expected, rtol=1e-4)
    np.testing.assert_allclose(put.leave_one_out(train), alone.leave_one_out(train), rtol=1e-4)


def test_what_an_active_mesh_is_set_aside_for():
    mesh = jax.make_mesh((8,), ("locations",))

    @set_aside
    def steps():
        try:
            yield jax.sharding.get_mesh().empty
            yield jax.sharding.get_mesh().empty
        finally:
            closed.append(True)

    closed = []
    with jax.set_mesh(mesh):
        made = steps()
        assert next(made)
        assert jax.sharding.get_mesh() == mesh  # between the steps it is the caller's again
        made.close()
        assert closed
        assert list(steps()) == [True, True]


def test_two_hosts(tmp_path):
    """Two processes of two devices each: every host reads all pictures and holds half of the detector."""
    script = textwrap.dedent(
        """
        import sys
        import jax, numpy as np
        port, process, folder, out = sys.argv[1:]
        jax.config.update("jax_num_cpu_devices", 2)
        jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(process))
        sys.path.insert(0, folder)
        from jaxsode import Detector, Method
        from tiny import Tiny, pictures

        mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 2), ("pictures", "locations"))
        detector = Detector.fit([pictures(8), pictures(4, seed=1)], Tiny.make(), k=6, mesh=mesh)
        assert len({shard.device for shard in detector.whitener.addressable_shards}) == 2
        maps = detector.anomaly_map(pictures(2, seed=2))
        whole = jax.jit(lambda x: x, out_shardings=jax.NamedSharding(mesh, jax.P()))(maps)
        np.save(f"{out}/{process}.npy", np.asarray(whole))

        # Each host holds half of the rows, saves them, and loads them again.
        four = jax.sharding.Mesh(np.array(jax.devices()), ("locations",))
        batches = [pictures(8), pictures(4, seed=1)]
        Detector.fit(batches, Tiny.make(), Method(k=6), mesh=four).save(f"{out}/detector")
        loaded = Detector.load(f"{out}/detector", backbone=Tiny.make(), mesh=four)
        assert {shard.data.shape[0] for shard in loaded.mean.addressable_shards} == {2}
        maps = loaded.update([pictures(2, seed=2)]).anomaly_map(pictures(2, seed=2))
        whole = jax.jit(lambda x: x, out_shardings=jax.NamedSharding(four, jax.P()))(maps)
        np.save(f"{out}/loaded{process}.npy", np.asarray(whole))
        """
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    folder = os.path.dirname(__file__)
    command = [sys.executable, "-c", script, str(port)]
    hosts = [
        subprocess.Popen(
            [*command, str(process), folder, str(tmp_path)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    for host in hosts:
        _, errors = host.communicate(timeout=120)
        assert host.returncode == 0, errors
    alone = Detector.fit([pictures(8), pictures(4, seed=1)], Tiny.make(), Method(k=6))
    expected = np.asarray(alone.anomaly_map(pictures(2, seed=2)))
    more = np.asarray(alone.update([pictures(2, seed=2)]).anomaly_map(pictures(2, seed=2)))
    for process in range(2):
        for name, right in ((f"{process}.npy", expected), (f"loaded{process}.npy", more)):
            assert np.linalg.norm(np.load(tmp_path / name) - right) <= 1e-5 * np.linalg.norm(right)
    assert len(list((tmp_path / "detector").glob("rows-*"))) == 4
    here = Detector.load(tmp_path / "detector", backbone=Tiny.make())
    maps = np.asarray(here.anomaly_map(pictures(2, seed=2)))
    assert np.linalg.norm(maps - expected) <= 1e-5 * np.linalg.norm(expected)
