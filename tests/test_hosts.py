"""Two hosts save and load together: what fails on one is one line on both, and nobody waits for ever."""

import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
from tiny import Tiny, pictures

from jaxsode import Detector, Method

_SCRIPT = textwrap.dedent(
    """
    import errno, os, sys
    import jax, numpy as np
    port, process, tests, out = sys.argv[1:]
    me = int(process)
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=me)
    sys.path.insert(0, tests)
    from tiny import Tiny, pictures
    from jaxsode import Detector, Method, checkpoint, trees
    from jaxsode.errors import CheckpointError

    def mesh(name):
        return jax.sharding.Mesh(np.array(jax.devices()), (name,))

    def here(array):
        sharding = jax.NamedSharding(array.sharding.mesh, jax.P())
        return np.asarray(jax.jit(lambda x: x, out_shardings=sharding)(array))

    def raises(name, do):
        try:
            do()
        except Exception as error:
            print(name, type(error).__name__, str(error).replace(out, "OUT"), sep=" | ", flush=True)

    detector = Detector.fit([pictures(8)], Tiny.make(), Method(k=6), mesh=mesh("locations"))
    sound = f"{out}/sound"
    detector.save(sound)

    def fails(name, on, module, attribute, action, do):
        whole = getattr(module, attribute)
        if me == on:
            setattr(module, attribute, action(whole))
        raises(name, do)
        setattr(module, attribute, whole)

    def full(whole):
        def save(*_, **options):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save

    def memory(whole):
        def asarray(*_, **options):
            raise MemoryError("no memory")
        return asarray

    def taken(whole):
        def listed(folder):
            os.makedirs(f"{out}/d/somebody's")
            return whole(folder)
        return listed

    def seen(whole):
        return lambda path: True

    def denied(whole):
        def restore(path, files):
            raise CheckpointError(f"{path.parent}: its arrays can't be read (Permission denied)")
        return restore

    def save():
        detector.save(f"{out}/d")

    def load():
        Detector.load(sound, backbone=Tiny.make(), mesh=mesh("locations"))

    fails("full 0", 0, trees, "save", full, save)
    fails("full 1", 1, trees, "save", full, save)
    fails("memory 1", 1, trees, "save", memory, save)
    fails("seen 1", 1, os.path, "lexists", seen, save)
    fails("denied 0", 0, trees, "restore", denied, load)
    fails("denied 1", 1, trees, "restore", denied, load)
    assert sorted(os.listdir(out)) == ["sound"], os.listdir(out)
    fails("taken 0", 0, checkpoint, "_listed", taken, save)
    load()

    # Each its own, under a name of its own: the second host's would be lost.
    local = Detector.fit([pictures(8)], Tiny.make(), Method(k=6))
    raises("own names", lambda: local.save(f"{out}/own{me}"))
    assert sorted(os.listdir(out)) == ["d", "sound"], os.listdir(out)

    # NaN is not itself, when hosts compare what they have.
    black = np.full((2, 32, 24, 3), np.nan, np.float32)
    for axis in ("locations", "pictures"):
        batches = [np.concatenate([pictures(6) / np.float32(255), black])]
        raises(f"nan {axis}", lambda: Detector.fit(batches, Tiny.make(), Method(k=6), mesh=mesh(axis)))
        over = Detector.fit([pictures(8)], Tiny.make(), Method(k=6), mesh=mesh(axis))
        np.save(f"{out}/left out {axis} {me}.npy", over.leave_one_out([pictures(8)]))

    # Cut in other ways: by pictures, and on each host its own.
    dual = Method(embedding="identity", precision="dual")
    Detector.fit([pictures(8)], Tiny.make(), dual, mesh=mesh("pictures")).save(f"{out}/by pictures")
    Detector.fit([pictures(8)], Tiny.make(), Method(k=6)).save(f"{out}/own")
    loaded = Detector.load(f"{out}/own", backbone=Tiny.make(), mesh=mesh("anything"))
    np.save(f"{out}/maps{me}.npy", here(loaded.anomaly_map(pictures(2, seed=1))))
    """
)


def test_what_fails_on_one_host_fails_on_both(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(port), str(me), os.path.dirname(__file__), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in range(2)
    ]
    try:
        done = [host.communicate(timeout=240) for host in hosts]
    finally:
        for host in hosts:
            host.kill()
    for host, (_, errors) in zip(hosts, done, strict=True):
        assert host.returncode == 0, errors
    lines = [
        dict(line.split(" | ", 1) for line in printed.splitlines() if " | " in line) for printed, _ in done
    ]
    full = "CheckpointError | OUT/d can't be written (No space left on device): choose another folder"
    denied = "CheckpointError | OUT/sound: its arrays can't be read (Permission denied)"
    seen = "CheckpointError | OUT/d exists already: choose another folder, or remove it"
    taken = "CheckpointError | OUT/d was taken meanwhile: choose another folder"
    names = (
        "CheckpointError | the hosts save one detector together, and here it is OUT/own1 while the first "
        "host has OUT/own0: give all of them the same folder"
    )
    nan = {name: lines[0][name] for name in ("nan locations", "nan pictures")}
    assert all(
        line.startswith("NumericalError | C + εI can't be factorised at location (0, 0)")
        for line in nan.values()
    )
    assert (
        lines[0]
        == {
            "full 0": full,
            "full 1": f"{full} (on host 1)",
            "memory 1": "CheckpointError | no memory (on host 1)",
            "seen 1": f"{seen} (on host 1)",
            "denied 0": denied,
            "denied 1": f"{denied} (on host 1)",
            "taken 0": taken,
            "own names": f"{names} (on host 1)",
        }
        | nan
    )
    assert (
        lines[1]
        == {
            "full 0": f"{full} (on host 0)",
            "full 1": full,
            "memory 1": "MemoryError | no memory",
            "seen 1": seen,
            "denied 0": f"{denied} (on host 0)",
            "denied 1": denied,
            "taken 0": f"{taken} (on host 0)",
            "own names": names,
        }
        | nan
    )
    left_out = Detector.fit([pictures(8)], Tiny.make(), Method(k=6)).leave_one_out([pictures(8)])
    for axis in ("locations", "pictures"):
        for me in range(2):
            found = np.load(out / f"left out {axis} {me}.npy")
            assert np.linalg.norm(found - left_out) <= 1e-5 * np.linalg.norm(left_out)
    test = pictures(2, seed=1)
    for name, method in (
        ("own", Method(k=6)),
        ("by pictures", Method(embedding="identity", precision="dual")),
    ):
        right = np.asarray(Detector.fit([pictures(8)], Tiny.make(), method).anomaly_map(test))
        loaded = Detector.load(out / name, backbone=Tiny.make())
        assert np.linalg.norm(np.asarray(loaded.anomaly_map(test)) - right) <= 1e-5 * np.linalg.norm(right)
        for me in range(2) if name == "own" else ():
            assert np.linalg.norm(np.load(out / f"maps{me}.npy") - right) <= 1e-5 * np.linalg.norm(right)
