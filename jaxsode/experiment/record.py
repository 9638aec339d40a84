"""What a run took, and on what: times with compilation apart, peak memory, versions and device."""

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import jax

_OF_A_RUN = ("fit_s", "score_s", "blocks_s")
_COMPILATION = "/jax/core/compile/backend_compile_duration"


class Stopwatch:
    """Wall-clock seconds by name, less the seconds that XLA compiled meanwhile, which go to `compile_s`.

    JAX tells it of compilations from its making to the end of it as a context.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(("compile_s", "extract_s", *_OF_A_RUN), 0.0)
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._listen)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        start, compiled = time.perf_counter(), self.seconds["compile_s"]
        yield
        spent = time.perf_counter() - start - (self.seconds["compile_s"] - compiled)
        self.seconds[name] += spent

    def take(self) -> dict[str, float]:
        """The seconds that belong to one run on one split, and of compiling; they start at zero again."""
        return {name: self._zero(name) for name in ("compile_s", *_OF_A_RUN)}

    def _zero(self, name: str) -> float:
        taken, self.seconds[name] = self.seconds[name], 0.0
        return taken

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILATION:
            self.seconds["compile_s"] += duration_secs


def peak_memory() -> dict[str, int | None]:
    """Bytes: the most that the process held, and that the device's allocator gave, where it tells."""
    device = jax.devices()[0].memory_stats() or {}
    return {
        "process_peak": _process_peak(),
        "device_peak": device.get("peak_bytes_in_use"),
    }


def _process_peak() -> int:
    # What getrusage tells on Linux begins with the peak of the process that started this one.
    if (status := Path("/proc/self/status")).exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        line = next(line for line in lines if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def environment() -> dict[str, Any]:
    """Versions, device, machine and the commit of a checkout."""
    packages = ("jaxsode", "jax", "jaxlib", "flax", "numpy", "scipy", "pillow", "tensorflow-datasets")
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in packages},
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "system": platform.platform()},
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a checkout without installing it
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _commit() -> str | None:
    """Of the checkout that this file lies in, with a + where it has changes; None outside of one."""
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return None
    git = ["git", "-C", str(here)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        status = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):  # no git, or no commit yet
        return None
    return commit + ("+" if status else "")
