"""What a suite found, as dated JSON: rows, what was left out and why, and what it ran on."""

import importlib
import importlib.metadata
import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from jaxsode.experiment.record import environment

FOLDER = Path(__file__).parent / "results"
PACKAGES = ("torch", "torchvision", "anomalib", "timm", "scikit-learn", "optax")


@dataclass
class Result:
    """Written again after every row, so that a run that is cut off leaves what it had found.

    Attributes:
        suite: its name.
        options: what it was asked for.
        folder: where the file goes.
        quiet: print nothing.
    """

    suite: str
    options: dict[str, Any]
    folder: Path = FOLDER
    quiet: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    agreement: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    derived: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = surroundings()
        self.started = datetime.now()
        if (load := self.environment["load_average"] or 0) > (_cores() or 1) / 2:
            self._say(f"this machine is busy already: load average {load:.1f} on {_cores()} cores")
        self.path = _unused(self.folder, f"{self.suite}-{_slug(device())}-{self.started:%Y-%m-%d}")

    def row(self, **values: Any) -> None:
        """One measurement."""
        self.rows.append(values)
        self._say(" · ".join(_short(name, value) for name, value in values.items() if _brief(value)))
        self.save()

    def agreed(self, what: str, error: float, tolerance: float) -> None:
        """How far a contender was from the referee."""
        self.agreement.append({"what": what, "relative_error": error, "tolerance": tolerance})

    def leave_out(self, what: str, why: object) -> None:
        """What was asked for and not measured."""
        reason = (str(why).splitlines() or [type(why).__name__])[0]
        self.left_out.append({"what": what, "why": reason})
        self._say(f"left out: {what}: {reason}")
        self.save()

    def optional(self, module: str, what: str) -> ModuleType | None:
        """A module that may not be there, or may not work; if so, what is left out is said."""
        try:
            return importlib.import_module(module)
        except Exception as error:  # one that is there in part, or of the wrong version, raises anything
            self.leave_out(what, f"{module} can't be imported ({type(error).__name__}: {error})")
            return None

    def save(self) -> Path:
        """Write the file, all of it or nothing."""
        content = {
            "suite": self.suite,
            "date": self.started.isoformat(timespec="seconds"),
            "seconds": round((datetime.now() - self.started).total_seconds(), 1),
            "options": self.options,
            "environment": self.environment,
            "left_out": self.left_out,
            "agreement": self.agreement,
            "derived": self.derived,
            "rows": self.rows,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
        partial.replace(self.path)
        return self.path

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(f"[{self.suite}] {line}", flush=True)


def surroundings() -> dict[str, Any]:
    """Machine, device, versions, threads, commit, and how busy the machine was already."""
    found = environment()
    found["versions"] |= {name: _version(name) for name in PACKAGES}
    found["platform"] = jax.default_backend()
    found["dtype"] = "float32"
    found["threads"] = {"usable_cores": _cores()}
    try:
        import torch

        found["threads"]["torch"] = torch.get_num_threads()
        found["versions"]["torch"] = torch.__version__
    except ImportError:
        pass  # its version is None
    found["load_average"] = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return found


def device() -> str:
    """The accelerator's name, or the processor's where there is none."""
    found = jax.devices()[0]
    return environment()["machine"]["processor"] if found.platform == "cpu" else found.device_kind


def _unused(folder: Path, name: str) -> Path:
    """No earlier result of the day is overwritten."""
    path, number = folder / f"{name}.json", 2
    while path.exists():
        path, number = folder / f"{name}-{number}.json", number + 1
    return path


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _brief(value: Any) -> bool:
    return value is not None and not isinstance(value, (dict, list))


def _short(name: str, value: Any) -> str:
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
