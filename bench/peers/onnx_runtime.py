"""ONNX Runtime on the CPU, with a thread for each core."""

from pathlib import Path

import numpy as np
import onnxruntime

from bench import quiet
from bench.peers.runtime import Program, Runtime
from bench.setting import Parts, Setting


def build(setting: Setting, parts: Parts) -> "OnnxRuntime":
    """See `bench.setting.build`."""
    return OnnxRuntime(setting, parts)


def session_of(model: bytes | Path) -> onnxruntime.InferenceSession:
    """A model, or its file, on all cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = quiet.cores()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxRuntime(Runtime):
    """See `Runtime`."""

    def compiled(self, model: bytes) -> Program:
        session = session_of(model)
        names = [each.name for each in session.get_inputs()]

        def program(*arrays: np.ndarray) -> list[np.ndarray]:
            return [np.asarray(made) for made in session.run(None, dict(zip(names, arrays, strict=True)))]

        return program
