"""Our own export, `jaxsode export`'s ONNX model, in ONNX Runtime with a thread for each core."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnxruntime

from bench import ours, quiet
from bench.setting import Equivalent, Parts, Setting, Stage
from jaxsode.export import onnx_model
from jaxsode.inspection import Inspector
from jaxsode.judging import Judge

Program = Callable[[np.ndarray], np.ndarray]


def build(setting: Setting, parts: Parts) -> "Exported":
    """See `bench.setting.build`."""
    return Exported(setting, parts)


class Exported:
    """See `bench.setting.Implementation`; one model takes any batch, and is one graph: it has no stages."""

    equivalent = Equivalent()

    def __init__(self, setting: Setting, parts: Parts):
        self.setting = setting
        self.ours = ours.build(setting, parts)

    def fit(self, batches: Iterable[np.ndarray]) -> Program:
        judge = Judge.of(Inspector(self.ours.fit(batches)))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = quiet.cores()
        picture = jax.ShapeDtypeStruct((*self.setting.size, 3), np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx_model.write(path, lambda judge, x: judge(x), judge, picture)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def program(pictures: np.ndarray) -> np.ndarray:
            (maps,) = session.run(["map"], {"pictures": pictures})
            return np.asarray(maps)

        return program

    def score(self, model: Program, pictures: np.ndarray) -> np.ndarray:
        return model(pictures)

    def fetch(self, maps: np.ndarray) -> np.ndarray:
        return maps

    def wait(self, value: Any) -> Any:
        return value

    def blank(self) -> Program:
        raise NotImplementedError(
            "the process that exports is not the one that scores: its peak means nothing"
        )

    def fit_stages(self, batches: Sequence[np.ndarray]) -> dict[str, Stage]:
        return {}

    def score_stages(self, model: Program, pictures: np.ndarray) -> dict[str, Stage]:
        return {}

    def device_peak(self) -> int | None:
        return None
