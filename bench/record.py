"""What a suite found, as dated JSON: rows, what was left out and why, and what it ran on."""

import importlib
import importlib.metadata
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

from bench import quiet
from bench.errors import BenchError
from jaxsode.experiment.record import environment
from jaxsode.home import home

FOLDER = Path(__file__).parent / "results"
PACKAGES = (
    "torch",
    "torchvision",
    "anomalib",
    "timm",
    "scikit-learn",
    "optax",
    "llvmlite",
    "onnx",
    "onnxruntime",
    "openvino",
)


@dataclass
class Result:
    """Written again after every row, so that a run that is cut off leaves what it had found, as `.partial`.

    Attributes:
        suite: its name.
        options: what it was asked for.
        folder: where the file goes.
        silent: print nothing.
    """

    suite: str
    options: dict[str, Any]
    folder: Path = FOLDER
    silent: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    agreement: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    derived: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = surroundings()
        self.started = datetime.now()
        self.path = _unused(self.folder, f"{self.suite}-{_slug(device())}-{self.started:%Y-%m-%d}")

    def begin(self, *, strict: bool, quick: bool = False) -> None:
        """Note how quiet the machine is.

        Args:
            strict: wait a little for a load to fall, and measure nothing where it does not.
            quick: a small reference product.

        Raises:
            BenchError: strict, and it is noisy, or the code is no commit's.
        """
        patience = quiet.PATIENCE_S if strict and self.environment["changes"] == [] else 0.0
        self.environment["load_average"] = quiet.load_average(patience, say=self._say)
        before = quiet.reference_gflop_s(quick=quick)
        reference = {"before": before, "best": self._best(before, quick)}
        self.environment["reference_gflop_s"] = reference
        if noise := quiet.noise(self.environment | {"reference_gflop_s": reference | {"after": before}}):
            if strict:
                raise BenchError(f"{'; '.join(noise)}: nothing is measured; see to it, or give --allow-noisy")
            self._say(f"this will be no result: {'; '.join(noise)}")

    def end(self, *, strict: bool, quick: bool = False) -> Path:
        """Write the file, once it is known that the machine was as quiet in the end.

        Raises:
            BenchError: strict, and it was not; what was found is kept as `.partial`.
        """
        after = quiet.reference_gflop_s(quick=quick)
        self.environment["reference_gflop_s"] |= {"after": after, "best": self._best(after, quick)}
        self._keep()
        if strict and (noise := quiet.noise(self.environment)):
            raise BenchError(
                f"{'; '.join(noise)}: no result; what was found is in {self.partial}: run again on a quiet "
                "machine, or give --allow-noisy"
            )
        return self.save()

    @property
    def partial(self) -> Path:
        """Where the file is until it is a result."""
        return self.path.with_name(f"{self.path.name}.partial")

    def row(self, **values: Any) -> None:
        """One measurement."""
        self.rows.append(values)
        self._say(" · ".join(_short(name, value) for name, value in values.items() if _brief(value)))
        self._keep()

    def agreed(self, what: str, error: float, tolerance: float) -> None:
        """How far a contender was from the referee."""
        self.agreement.append({"what": what, "relative_error": error, "tolerance": tolerance})

    def leave_out(self, what: str, why: object) -> None:
        """What was asked for and not measured."""
        reason = (str(why).splitlines() or [type(why).__name__])[0]
        self.left_out.append({"what": what, "why": reason})
        self._say(f"left out: {what}: {reason}")
        self._keep()

    def optional(self, module: str, what: str) -> ModuleType | None:
        """A module that may not be there, or may not work; if so, what is left out is said."""
        try:
            return importlib.import_module(module)
        except Exception as error:  # one that is there in part, or of the wrong version, raises anything
            self.leave_out(what, f"{module} can't be imported ({type(error).__name__}: {error})")
            return None

    def save(self) -> Path:
        """Write the file, all of it or nothing."""
        self._keep()
        self.partial.replace(self.path)
        return self.path

    def _keep(self) -> None:
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
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        self.partial.write_text(text, encoding="utf-8")

    def _best(self, rate: float, quick: bool) -> float:
        of_jaxlib = f"jaxlib {self.environment['versions']['jaxlib']}{', quick' if quick else ''}"
        machine = f"{device()}, {quiet.cores()} cores, {of_jaxlib}"
        return quiet.best_gflop_s(machine, rate, home() / "bench" / "best.json")

    def _say(self, line: str) -> None:
        if not self.silent:
            print(f"[{self.suite}] {line}", flush=True)


def surroundings() -> dict[str, Any]:
    """Machine, device, versions, threads, commit, and how busy the machine was already."""
    found = environment()
    found["versions"] |= {name: _version(name) for name in PACKAGES}
    found["platform"] = jax.default_backend()
    found["dtype"] = "float32"
    found["threads"] = {"usable_cores": quiet.cores()}
    try:
        import torch

        found["threads"]["torch"] = torch.get_num_threads()
        found["versions"]["torch"] = torch.__version__
    except Exception:  # not there, or broken: said when a peer asks for it
        pass
    found["load_average"] = quiet.load_average()
    found["changes"] = quiet.changes()
    if found["commit"] is not None and found["changes"] == []:
        found["commit"] = found["commit"].removesuffix("+")  # only results of other suites are new
    return found


def device() -> str:
    """The accelerator's name, or the processor's where there is none."""
    found = jax.devices()[0]
    return environment()["machine"]["processor"] if found.platform == "cpu" else found.device_kind


def _unused(folder: Path, name: str) -> Path:
    """No earlier result of the day is overwritten."""
    path, number = folder / f"{name}.json", 2
    while path.exists() or path.with_name(f"{path.name}.partial").exists():
        path, number = folder / f"{name}-{number}.json", number + 1
    return path


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
