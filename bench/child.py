"""Measurements that need a process of their own: peak memory, and another number of devices.

Nothing but NumPy is imported before the measurement asks for it, so that a peak is an implementation's own.
"""

import importlib
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
TASKS = {"peak": "bench.child", "share": "bench.scaling"}
"""Functions that a child may run, and their modules."""

_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|[Oo]ut of memory|MemoryError|bad_alloc|can't allocate")


class ChildFailed(RuntimeError):
    """The process ended early; the message is its last line, or how it ended."""


def measure(function: str, *, gigabytes: float, **arguments: Any) -> dict[str, Any]:
    """Run a function in a fresh process.

    Args:
        function: one of TASKS.
        gigabytes: of data that the process may hold; it fails beyond. Not with an accelerator, whose driver
            reserves more than that for addresses alone.
        arguments: its keyword arguments, as JSON can hold them.

    Returns:
        What it returned.

    Raises:
        ChildFailed: it raised, or the process was killed.
    """
    import jax  # here, not in the child

    if jax.default_backend() != "cpu":
        gigabytes = math.inf
    command = [sys.executable, "-m", "bench.child", function, json.dumps(arguments), str(gigabytes)]
    # Unfiltered, or the last line of an error of JAX's is about its own traceback.
    surroundings = os.environ | {"JAX_TRACEBACK_FILTERING": "off"}
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise ChildFailed(f"ended by signal {-done.returncode} with {gigabytes:g} GB to use")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        # The last line of an error of JAX's or PyTorch's may say nothing of it.
        memory = [line for line in lines if _OUT_OF_MEMORY.search(line)]
        if memory:
            raise ChildFailed(f"needs more than {gigabytes:g} GB ({memory[-1].strip()[:200]})")
        raise ChildFailed((lines or [f"ended with exit code {done.returncode}, without a word"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak(
    *,
    task: str,
    implementation: str,
    backbone: str,
    size: tuple[int, int],
    k: int,
    pooling: int = 1,
    parts: str,
    pictures: int,
    batch: int,
    state_gb: float = 0.0,
) -> dict[str, Any]:
    """Peak memory of fitting or scoring generated pictures, made batch by batch.

    Args:
        task: "fit"; "score" by a model that was not fitted; "blocks", which is ours alone: both, in blocks
            of locations.
        implementation: see `bench.setting.IMPLEMENTATIONS`.
        backbone, size, k, pooling: see `bench.setting.Setting`.
        parts: file of `Parts`.
        pictures: how many are fitted on, or scored, or both.
        batch: of them.
        state_gb: for the state of a block.

    Returns:
        `peak_bytes`, the device's where its allocator tells, else the process's; `before_bytes`, of it what
        the libraries and the network took before the first picture (0 for a device); `once_s`, what it took,
        compilation and making the pictures included.
    """
    from bench.pictures import generated
    from bench.setting import Parts, Setting, build

    setting = Setting(backbone, (size[0], size[1]), k, pooling)
    one = build(implementation, setting, Parts.load(Path(parts)))

    def batches() -> Iterator[np.ndarray]:
        for seed in range(max(1, pictures // batch)):
            yield generated(batch, (size[0], size[1]), seed=seed)

    before, start = process_peak(), time.perf_counter()
    if task == "fit":
        one.wait(one.fit(batches()))
    elif task == "blocks":
        one.in_blocks(batches, state_gb)
    else:
        model = one.blank()
        for some in batches():
            one.fetch(one.score(model, some))
    once_s = time.perf_counter() - start
    device = one.device_peak()
    if device is not None:
        return {"peak_bytes": device, "before_bytes": 0, "once_s": once_s}
    return {"peak_bytes": process_peak(), "before_bytes": before, "once_s": once_s}


def process_peak() -> int:
    """Bytes that this process held at most."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:  # not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    # What getrusage tells on Linux begins with the peak of the process that started this one.
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) * 1024


def _limit(gigabytes: float) -> None:
    """What is asked for beyond it fails, before it harms anyone else on the machine."""
    if gigabytes == math.inf:
        return
    import resource

    most = int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def main(arguments: list[str]) -> int:
    """Run a function of TASKS; its result is the last line of standard output."""
    name, given, gigabytes = arguments
    _limit(float(gigabytes))
    function: Callable[..., Any] = getattr(importlib.import_module(TASKS[name]), name)
    print(json.dumps(function(**json.loads(given))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
