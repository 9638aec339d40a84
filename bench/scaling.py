"""One fit and score over 1, 2, 4, 8 devices: pictures × locations. On a CPU the devices are virtual ones.

There they share the same cores, so that times tell only what sharding costs; agreement and memory are real.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import child
from bench.harness import Deadline, check
from bench.path import size
from bench.record import Result

TOLERANCE = 1e-5


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mesh",
        type=size,
        nargs="+",
        default=((1, 1), (1, 2), (1, 4), (1, 8), (2, 4)),
        metavar="PxL",
        help="devices along pictures × devices along locations",
    )
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--size", type=size, default=(256, 256), metavar="HxW")
    parser.add_argument("--pictures", type=int, default=32, help="that are fitted on")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--memory-gb", type=float, default=16.0, help="a process may hold; it fails beyond")


def quick(options: argparse.Namespace) -> None:
    options.mesh, options.k, options.size, options.pictures = ((1, 1), (1, 2), (2, 2)), 8, (64, 64), 8


def run(options: argparse.Namespace, result: Result) -> None:
    deadline = Deadline(options.minutes)
    for mesh in options.mesh:
        what = f"mesh {mesh[0]} × {mesh[1]}"
        if deadline.left_s <= 0:
            result.leave_out(what, f"the {options.minutes:g} minutes were over")
            continue
        try:
            found = child.measure(
                "share",
                gigabytes=options.memory_gb,
                mesh=mesh,
                backbone=options.backbone,
                size=options.size,
                k=options.k,
                pictures=options.pictures,
                batch=options.batch,
                rounds=options.rounds,
            )
        except child.ChildFailed as error:
            result.leave_out(what, error)
            continue
        result.agreed(what, check(what, found["relative_error"], TOLERANCE), TOLERANCE)
        result.row(devices=mesh[0] * mesh[1], mesh=list(mesh), **found)
    result.derived["state of one device over that of each of so many"] = falling(result.rows)


def share(
    *,
    mesh: tuple[int, int],
    backbone: str,
    size: tuple[int, int],
    k: int,
    pictures: int,
    batch: int,
    rounds: int,
) -> dict[str, Any]:
    """Runs in a child: fits and scores over a mesh, and on one device.

    Args:
        mesh: devices along pictures, which the CNN deals out, and along locations, which the statistics are
            split over.
        backbone, size, k: see `bench.setting.Setting`.
        pictures, batch: that are fitted on.
        rounds: see `bench.harness.race`.
    """
    import jax

    jax.config.update("jax_num_cpu_devices", mesh[0] * mesh[1])
    available = jax.devices()
    if len(available) < mesh[0] * mesh[1]:
        raise SystemExit(f"there are {len(available)} devices")
    from bench.harness import Contender, race, relative_error
    from bench.pictures import generated
    from jaxsode import Detector, Method
    from jaxsode.backbones import registry

    devices = np.array(available[: mesh[0] * mesh[1]]).reshape(mesh)
    over = jax.sharding.Mesh(devices, ("pictures", "locations"))
    network, method = registry.create(backbone), Method(k=k)
    every = generated(pictures, (size[0], size[1]))
    batches = [every[start : start + batch] for start in range(0, pictures, batch)]

    def fit() -> Detector:
        return Detector.fit(batches, network, method, mesh=over, keep_moments=False)

    before = child.process_peak()
    model = fit()
    maps = np.asarray(model.anomaly_map(batches[0]))
    peak = child.process_peak()
    alone = Detector.fit(batches, network, method, keep_moments=False).anomaly_map(batches[0])
    timings = race(
        [Contender("fit", fit), Contender("score", lambda: model.anomaly_map(batches[0]))], rounds=rounds
    )
    return {
        "relative_error": relative_error(maps, np.asarray(alone)),
        "state_bytes_per_device": _held(model),
        "device_peak_bytes": _device_peak(available),
        "process_peak_bytes": peak,
        "before_bytes": before,
        "fit_s": timings["fit"].median,
        "pictures_per_s": batch / timings["score"].median,
        "timing": timings["fit"].record(),
    }


def _held(model: Any) -> int:
    """What mean and whitener take of the device that holds most of them."""
    import jax

    held: dict[Any, int] = {}
    for array in jax.tree.leaves((model.mean, model.precision)):
        for shard in array.addressable_shards:
            held[shard.device] = held.get(shard.device, 0) + shard.data.nbytes
    return max(held.values())


def _device_peak(devices: Sequence[Any]) -> int | None:
    """The most that any device's allocator gave; None where none tells, as on a CPU."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use") for device in devices]
    return max((peak for peak in peaks if peak is not None), default=None)


def falling(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """State of one device over that of a device among so many, by number of devices along locations."""
    one = next((row["state_bytes_per_device"] for row in rows if row["devices"] == 1), None)
    if one is None:
        return {}
    return {str(row["mesh"][1]): one / row["state_bytes_per_device"] for row in rows if row["mesh"][0] == 1}
