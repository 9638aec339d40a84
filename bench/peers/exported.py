"""Our own export, `jaxsode export`'s ONNX model, in ONNX Runtime with a thread for each core."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np

from bench import ours
from bench.peers.onnx_runtime import session_of
from bench.peers.runtime import OnHost
from bench.setting import Equivalent, Parts, Setting, Stage
from jaxsode.export import onnx_model
from jaxsode.inspection import Inspector
from jaxsode.judging import Judge

Program = Callable[[np.ndarray], np.ndarray]


def build(setting: Setting, parts: Parts) -> "Exported":
    """See `bench.setting.build`."""
    return Exported(setting, parts)


class Exported(OnHost):
    """See `bench.setting.Implementation`; one model takes any batch, and is one graph: it has no stages."""

    equivalent = Equivalent()

    def __init__(self, setting: Setting, parts: Parts):
        self.setting = setting
        self.ours = ours.build(setting, parts)

    def fit(self, batches: Iterable[np.ndarray]) -> Program:
        judge = Judge.of(Inspector(self.ours.fit(batches)))
        picture = jax.ShapeDtypeStruct((*self.setting.size, 3), np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx_model.write(path, lambda judge, x: judge(x), judge, picture)
            session = session_of(path)

        def program(pictures: np.ndarray) -> np.ndarray:
            (maps,) = session.run(["map"], {"pictures": pictures})
            return np.asarray(maps)

        return program

    def score(self, model: Program, pictures: np.ndarray) -> np.ndarray:
        return model(pictures)

    def blank(self) -> Program:
        raise NotImplementedError(
            "the process that exports is not the one that scores: its peak means nothing"
        )

    def score_stages(self, model: Program, pictures: np.ndarray) -> dict[str, Stage]:
        return {}
