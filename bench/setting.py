"""One point of the grid that `fit`, `score` and `memory` measure, and what every implementation starts from.

Only NumPy is imported here: a peer's process must not hold JAX while its memory is measured.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.errors import BenchError

EPSILON = 0.01
SIGMA = 4.0
IMPLEMENTATIONS = {
    "ours": "bench.ours",
    "PyTorch, plain": "bench.peers.plain_torch",
    "anomalib": "bench.peers.anomalib_padim",
}
"""What fits and scores: modules by name; each has `build(setting, parts)`."""
RUNTIMES = {
    "ONNX Runtime": "bench.peers.onnx_runtime",
    "OpenVINO, latency": "bench.peers.open_vino:latency",
    "OpenVINO, throughput": "bench.peers.open_vino:throughput",
    "ours, exported to ONNX": "bench.peers.exported",
}
"""What only scores, by what ours fitted; the same, or a module and another function of it."""
ON_REQUEST = {"ours, without llvmlite": "bench.ours:without_code"}
"""What is named with `--only` or doesn't take part."""
PLACES = IMPLEMENTATIONS | RUNTIMES | ON_REQUEST
"""Where each is, see `build`."""


@dataclass(frozen=True)
class Setting:
    """What is computed.

    Attributes:
        backbone: "resnet18" or "wide_resnet50_2".
        size: (height, width) of the pictures.
        k: the embedding size.
        pooling: locations along either axis that features are a mean of: 1 as in the paper, 3 as recommended.
            What ε is, which is recommended too, takes no time.
    """

    backbone: str
    size: tuple[int, int]
    k: int
    pooling: int = 1

    def __str__(self) -> str:
        pooled = f", pooling {self.pooling}" if self.pooling > 1 else ""
        return f"{self.backbone}, {self.size[0]} × {self.size[1]}, k = {self.k}{pooled}"

    def fields(self) -> dict[str, Any]:
        """For a row of the JSON."""
        return asdict(self) | {"size": list(self.size)}

    def unpooled(self, name: str) -> None:
        """Raises BenchError where there is pooling, which `name` has none of."""
        if self.pooling > 1:
            raise BenchError(f"{name} has no pooling")


@dataclass(frozen=True)
class Parts:
    """The same for all: the network's weights by our names, batch norm folded, kernels HWIO; W (F, k)."""

    tensors: Mapping[str, np.ndarray]
    W: np.ndarray

    def save(self, path: Path) -> None:
        """For another process."""
        arrays: dict[str, Any] = {f"weights/{name}": tensor for name, tensor in self.tensors.items()}
        np.savez(path, W=self.W, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Parts":
        """What `save` wrote."""
        with np.load(path) as file:
            tensors = {name.removeprefix("weights/"): file[name] for name in file.files if name != "W"}
            return cls(tensors, file["W"])


@dataclass(frozen=True)
class Stage:
    """A part of the path, on inputs that are there already.

    Attributes:
        call: what is timed; as in `bench.harness.Contender`, so is `prepare`.
        pictures: how many one call handles; 0 for what is done once, whatever their number.
    """

    call: Callable[..., Any]
    pictures: int
    prepare: Callable[[], tuple[Any, ...]] | None = None


@dataclass(frozen=True)
class Equivalent:
    """How the others have to be set to compute what this implementation computes.

    Attributes:
        W: (F, k); None for that of `Parts`.
        epsilon: for N pictures.
        scale: of N pictures; times the others' map it is this one's.
        margin: pixels at the edges, where the filters treat the border differently.
    """

    W: np.ndarray | None = None
    epsilon: Callable[[int], float] = lambda pictures: EPSILON
    scale: Callable[[int], float] = lambda pictures: 1.0
    margin: int = 0


class Implementation(Protocol):
    """Fits and scores pictures of one setting. Pictures are uint8 (N, height, width, 3) in host memory."""

    equivalent: Equivalent

    def fit(self, batches: Iterable[np.ndarray], /) -> Any:
        """A model, from batches of equal size; as a user of that library would do it."""
        ...

    def score(self, model: Any, pictures: np.ndarray, /) -> Any:
        """Anomaly maps, where the device has them."""
        ...

    def fetch(self, maps: Any, /) -> np.ndarray:
        """The maps in host memory, (N, height, width)."""
        ...

    def wait(self, value: Any, /) -> Any:
        """Returns when what was begun is done."""
        ...

    def blank(self) -> Any:
        """A model that scores without having been fitted, for its memory: its numbers mean nothing."""
        ...

    def fit_stages(self, batches: Sequence[np.ndarray], /) -> dict[str, Stage]:
        """By name, in order."""
        ...

    def score_stages(self, model: Any, pictures: np.ndarray, /) -> dict[str, Stage]:
        """By name, in order."""
        ...

    def device_peak(self) -> int | None:
        """Bytes that the device's allocator gave at most; None on a CPU, where the process's peak counts."""
        ...


def build(name: str, setting: Setting, parts: Parts) -> Any:
    """An implementation by its name; see `Implementation`.

    Raises:
        ImportError: its library is not there.
    """
    module, _, function = PLACES[name].partition(":")
    return getattr(importlib.import_module(module), function or "build")(setting, parts)
