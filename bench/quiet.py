"""Was the machine quiet, and the code a commit's? What is measured otherwise is no result.

Quiet means: a load average of at most `LOAD` a core at the start, and a product of matrices that runs within
`SLACK` of the best that this machine ever did, before and after.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOAD = 0.5
SLACK = 0.05
PATIENCE_S = 150.0
"""Seconds to wait for the load average to fall: what ran just before is in it for minutes."""


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average(patience_s: float = 0.0, *, say: Callable[[str], None] = print) -> float:
    """Of the last minute, once it is low or the patience is over."""
    end = time.monotonic() + patience_s
    while (load := os.getloadavg()[0]) > LOAD * cores() and time.monotonic() < end:
        say(f"load average {load:.1f} on {cores()} cores: waiting for it to fall")
        time.sleep(15)
    return load


def changes() -> list[str] | None:
    """Files of the checkout that are not as committed, results left aside; None outside of one."""
    git = ["git", "-C", str(ROOT), "status", "--porcelain", "--", ".", ":!bench/results", ":!runs"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return None
    return [line[3:] for line in done.stdout.splitlines()]


def reference_gflop_s(*, quick: bool = False) -> float:
    """The rate of a square float32 product at highest precision on the default device, median of nine."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    side = 256 if quick else 2048 if jax.default_backend() == "cpu" else 8192
    a = jax.random.normal(jax.random.key(0), (side, side), jnp.float32)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    jax.block_until_ready(product(a))
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        jax.block_until_ready(product(a))
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / float(np.median(seconds)) / 1e9


def best_gflop_s(machine: str, found: float, file: Path) -> float:
    """The best that a machine ever did, `found` included, kept in a file.

    Args:
        machine: its name there.
        found: of now.
        file: JSON, rates by machine; made if it is not there.
    """
    best = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    best[machine] = max(found, best.get(machine, 0.0))
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(best, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(file)
    return best[machine]


def noise(environment: Mapping[str, Any]) -> list[str]:
    """Why what was measured in these surroundings is no result; empty if it is one.

    Args:
        environment: of a result's file, an old one too.
    """
    found = []
    load, usable = environment["load_average"], environment["threads"]["usable_cores"] or 1
    if load is None:
        found.append("no load average")
    elif load > LOAD * usable:
        found.append(f"load average {load:.1f} on {usable} cores")
    reference = environment.get("reference_gflop_s")
    if reference is None:
        found.append("no reference product")
    else:
        best = reference["best"]
        for when in ("before", "after"):
            rate = reference.get(when)
            if rate is None:
                found.append("cut off before the end")
            elif rate < (1 - SLACK) * best:
                found.append(f"a product at {rate:.3g} of {best:.3g} GFLOP/s {when}")
    if environment["commit"] is None:
        found.append("no commit")
    elif environment["commit"].endswith("+"):
        files = len(environment.get("changes") or ())
        how_many = f", {files} file{'s' if files > 1 else ''}" if files else ""
        found.append(f"uncommitted changes{how_many}")
    return found
