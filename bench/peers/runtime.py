"""A runtime for deployment as an implementation to be measured: it scores, by a graph of what ours fitted."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from bench.peers import onnx_graph
from bench.setting import EPSILON, SIGMA, Equivalent, Parts, Setting, Stage

Program = Callable[..., list[np.ndarray]]
"""Arrays in, by position; arrays out."""
_GRAPHS = ("CNN", "embedding", "distance", "map")


@dataclass(frozen=True)
class Model:
    """mean (H, W, k) and whitener (H, W, k, k) of a detector; the matrices that make maps of distances."""

    mean: np.ndarray
    whitener: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


class OnHost:
    """What is the same for all that only score, and whose maps are in host memory at once."""

    def fetch(self, maps: np.ndarray) -> np.ndarray:
        return maps

    def wait(self, value: Any) -> Any:
        return value

    def fit_stages(self, batches: Sequence[np.ndarray]) -> dict[str, Stage]:
        return {}

    def device_peak(self) -> int | None:
        return None


class Runtime(OnHost, ABC):
    """See `bench.setting.Implementation`; it can't fit, so it takes what ours fitted."""

    equivalent = Equivalent()

    def __init__(self, setting: Setting, parts: Parts):
        onnx_graph.check_size(setting)
        self.setting = setting
        self.parts = parts
        self._programs: dict[str, Program] = {}
        self._last: tuple[Model, int] | None = None

    @abstractmethod
    def compiled(self, model: bytes) -> Program:
        """An ONNX model as a function."""

    def fit(self, batches: Iterable[np.ndarray]) -> Model:
        from bench import ours  # here, so that a process that only scores holds no JAX

        detector = ours.build(self.setting, self.parts).fit(batches, epsilon=EPSILON)
        return self._model(np.asarray(detector.mean), np.asarray(detector.whitener))

    def score(self, model: Model, pictures: np.ndarray) -> np.ndarray:
        (maps,) = self._program("", model, len(pictures))(pictures)
        return maps

    def blank(self) -> Model:
        k = self.setting.k
        H, width = self._grid()
        return self._model(np.zeros((H, width, k), np.float32), np.ones((H, width, k, k), np.float32))

    def score_stages(self, model: Model, pictures: np.ndarray) -> dict[str, Stage]:
        stages, values = {}, [pictures]
        for name in _GRAPHS:
            program = self._program(name, model, len(pictures))
            stages[name] = Stage(
                lambda program=program, values=tuple(values): program(*values), len(pictures)
            )
            values = program(*values)
        return stages

    def _grid(self) -> tuple[int, int]:
        height, width = self.setting.size
        return -(-height // 4), -(-width // 4)

    def _model(self, mean: np.ndarray, whitener: np.ndarray) -> Model:
        grid = zip(self._grid(), self.setting.size, strict=True)
        rows, columns = (onnx_graph.resampling(source, target, SIGMA) for source, target in grid)
        return Model(mean, whitener, rows, columns)

    def _program(self, what: str, model: Model, batch: int) -> Program:
        """The whole (""), or one stage of it, compiled once. Only the last batch's are held: each has the
        whitener."""
        last = (model, batch)
        if self._last is None or self._last[0] is not model or self._last[1] != batch:
            self._last, self._programs = last, {}
        if what not in self._programs:
            self._programs[what] = self.compiled(self._graph(what, model, batch))
        return self._programs[what]

    def _graph(self, what: str, model: Model, batch: int) -> bytes:
        graph = onnx_graph.Graph()
        (height, width), k, (H, across) = self.setting.size, self.setting.k, self._grid()
        channels = self._channels()
        inputs: dict[str, tuple[int, Sequence[int]]]
        if what in ("", "CNN"):
            inputs = {"pictures": (TensorProto.UINT8, (batch, height, width, 3))}
            values = onnx_graph.network(graph, "pictures", self.parts.tensors)
        elif what == "embedding":
            sizes = [(batch, C, -(-H // 2**i), -(-across // 2**i)) for i, C in enumerate(channels)]
            inputs = {f"maps{i}": (TensorProto.FLOAT, shape) for i, shape in enumerate(sizes)}
            values = list(inputs)
        else:
            shape = (batch, k, H, across) if what == "distance" else (batch, H, across)
            inputs = {"given": (TensorProto.FLOAT, shape)}
            values = list(inputs)
        if what in ("", "embedding"):
            values = [onnx_graph.embedded(graph, values, *self._embedding())]
        if what in ("", "distance"):
            values = [onnx_graph.distance(graph, values[0], model.mean, model.whitener, batch)]
        if what in ("", "map"):
            values = [onnx_graph.smoothed(graph, values[0], model.rows, model.columns)]
        return graph.model(inputs, values)

    def _embedding(self) -> tuple[np.ndarray, list[int], int]:
        return self.parts.W, self._channels(), self.setting.pooling

    def _channels(self) -> list[int]:
        factor = 4 if "layer1.0.conv3.kernel" in self.parts.tensors else 1
        return [factor * C for C in (64, 128, 256)]
