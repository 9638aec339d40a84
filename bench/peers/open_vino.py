"""OpenVINO on the CPU, in float32, with a thread for each core; by either of its performance hints."""

import importlib
import sys

import numpy as np

from bench import quiet
from bench.peers.runtime import Program, Runtime
from bench.setting import Parts, Setting

# It would fork this process to report on it, beside what is measured.
sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
openvino = importlib.import_module("openvino")


def latency(setting: Setting, parts: Parts) -> "OpenVino":
    """See `bench.setting.build`."""
    return OpenVino(setting, parts, "LATENCY")


def throughput(setting: Setting, parts: Parts) -> "OpenVino":
    """See `bench.setting.build`."""
    return OpenVino(setting, parts, "THROUGHPUT")


class OpenVino(Runtime):
    """See `Runtime`.

    Args:
        setting, parts: see `Runtime`.
        hint: LATENCY, or THROUGHPUT.
    """

    def __init__(self, setting: Setting, parts: Parts, hint: str):
        super().__init__(setting, parts)
        self._options = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_NUM_THREADS": quiet.cores(),
            "INFERENCE_PRECISION_HINT": "f32",
        }

    def compiled(self, model: bytes) -> Program:
        core = openvino.Core()
        request = core.compile_model(core.read_model(model), "CPU", self._options).create_infer_request()

        def program(*arrays: np.ndarray) -> list[np.ndarray]:
            request.infer(list(arrays), share_inputs=True)
            # Copied: the request's own memory is written to by its next run.
            return [np.array(tensor.data) for tensor in request.output_tensors]

        return program
