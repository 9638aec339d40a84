"""From a process's start to its first map in memory, a saved detector's load included."""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import ours, path, pictures
from bench.errors import BenchError
from bench.record import Result
from bench.setting import Setting
from jaxsode.detector import Detector
from jaxsode.method import Method

STEPS = ("import_s", "load_s", "map_s")
SAVED = ("with its moments", "to score alone")
# As a command begins: see `jaxsode.cli`.
_CHILD = """
import sys, time
from jaxsode._imports import at_start
with at_start():
    import numpy as np
    from jaxsode import Detector
    from jaxsode.commands import programs
programs.keep()
times = [time.time()]
detector = Detector.load(sys.argv[1], keep_moments=False)
times.append(time.time())
np.asarray(detector.anomaly_map(np.zeros((1, *detector.size, 3), np.uint8)))
times.append(time.time())
print(*times)
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--size", type=path.size, default=(256, 256), metavar="HxW")
    parser.add_argument("--saved", nargs="+", default=SAVED, choices=SAVED)


def quick(options: argparse.Namespace) -> None:
    options.k, options.size, options.rounds, options.saved = 8, (64, 64), 1, ("with its moments",)


def run(options: argparse.Namespace, result: Result) -> None:
    if result.optional("orbax.checkpoint", "a saved detector") is None:
        return
    setting = Setting(options.backbone, options.size, options.k)
    backbone = ours.build(setting, ours.parts(setting)).backbone
    shown = path.batched(pictures.generated(16, setting.size), 8)
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.saved:
            saved, home = (Path(folder) / f"{name} {kind}" for name in ("detector", "home"))
            keep_moments = kind == SAVED[0]
            Detector.fit(shown, backbone, Method(k=options.k), keep_moments=keep_moments).save(saved)
            rounds = [_seconds(saved, home) for _ in range(1 + options.rounds)]
            for programs, found in (("compiled", rounds[:1]), ("kept by an earlier process", rounds[1:])):
                steps = dict(zip(STEPS, np.median(found, axis=0).tolist(), strict=True))
                totals = [sum(each) for each in found]
                result.row(
                    **setting.fields(),
                    saved=kind,
                    programs=programs,
                    processes=len(found),
                    total_s=float(np.median(totals)),
                    range_s=[min(totals), max(totals)],
                    **steps,
                )


def _seconds(saved: Path, home: Path) -> list[float]:
    """Of each of STEPS, in a new process."""
    surroundings = os.environ | {"JAXSODE_HOME": str(home)}
    for name in ("JAX_COMPILATION_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"):  # an installed package is compiled
        surroundings.pop(name, None)
    start = time.time()
    command = [sys.executable, "-c", _CHILD, str(saved)]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError((done.stderr.strip().splitlines() or ["the process ended without a word"])[-1])
    times = [start, *map(float, done.stdout.split())]
    return [after - before for before, after in itertools.pairwise(times)]
