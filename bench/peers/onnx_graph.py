"""From uint8 pictures to anomaly maps as an ONNX graph, as one writes it for a runtime: NCHW, BN folded.

Nothing of ours is in it: `bench.peers` measures with it what a runtime makes of the algorithm at its best.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.errors import BenchError
from bench.setting import Setting

OPSET = 17
MOST_BYTES = 2**31 - 2**24
"""Of a protocol buffer, with its small parts."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Graph:
    """A graph that grows node by node; values go by their names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """One more node; returns the name of its value."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        """One more constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def model(self, inputs: Mapping[str, tuple[int, Sequence[int]]], outputs: Sequence[str]) -> bytes:
        """Serialised.

        Args:
            inputs: element type and shape by name.
            outputs: names of float32 values.
        """
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made).SerializeToString()


def network(graph: Graph, pictures: str, tensors: Mapping[str, np.ndarray]) -> list[str]:
    """uint8 (N, height, width, 3) → normalised → maps (N, C, h, w) of layers 1 to 3, finest first."""
    mean, std = (np.array(numbers, np.float32).reshape(1, 3, 1, 1) for numbers in IMAGENET)
    x = graph.add("Transpose", graph.add("Cast", pictures, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = graph.add("Mul", x, graph.constant(1 / (255 * std)))
    x = graph.add("Sub", x, graph.constant(mean / std))

    def conv(path: str, x: str, stride: int) -> str:
        kernel = tensors[f"{path}.kernel"]
        pad = kernel.shape[0] // 2
        return graph.add(
            "Conv",
            x,
            graph.constant(kernel.transpose(3, 2, 0, 1)),
            graph.constant(tensors[f"{path}.bias"]),
            strides=[stride, stride],
            pads=[pad] * 4,
        )

    def block(path: str, x: str, stride: int) -> str:
        shortcut = f"{path}.downsample"
        y = conv(shortcut, x, stride) if f"{shortcut}.kernel" in tensors else x
        bottleneck = f"{path}.conv3.kernel" in tensors
        x = graph.add("Relu", conv(f"{path}.conv1", x, 1 if bottleneck else stride))
        x = conv(f"{path}.conv2", x, stride if bottleneck else 1)
        if bottleneck:
            x = conv(f"{path}.conv3", graph.add("Relu", x), 1)
        return graph.add("Relu", graph.add("Add", x, y))

    x = graph.add("Relu", conv("conv1", x, 2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    maps = []
    for layer in (1, 2, 3):
        i = 0
        while f"layer{layer}.{i}.conv1.kernel" in tensors:
            x = block(f"layer{layer}.{i}", x, 2 if layer > 1 and i == 0 else 1)
            i += 1
        maps.append(x)
    return maps


def embedded(graph: Graph, maps: Sequence[str], W: np.ndarray, channels: Sequence[int], pooling: int) -> str:
    """Wᵀx on the finest grid, each scale projected on its own, pooled and repeated: (N, k, H, W)."""
    parts, start = [], 0
    for i, (x, C) in enumerate(zip(maps, channels, strict=True)):
        kernel = W[start : start + C].T[:, :, None, None]
        wider = kernel.shape[0] > C
        x = _pooled(graph, x, pooling) if wider else x  # of the fewer channels
        z = graph.add("Conv", x, graph.constant(kernel))
        z = z if wider else _pooled(graph, z, pooling)
        if i:
            scales = graph.constant(np.array([1, 1, 2**i, 2**i], np.float32))
            z = graph.add(
                "Resize", z, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )  # fmt: skip
        parts.append(z)
        start += C
    z = parts[0]
    for part in parts[1:]:
        z = graph.add("Add", z, part)
    return z


def _pooled(graph: Graph, x: str, window: int) -> str:
    """The mean of the locations that a window has within the map."""
    if window == 1:
        return x
    around = [window // 2] * 4
    sizes = {"kernel_shape": [window] * 2, "pads": around, "strides": [1, 1]}
    return graph.add("AveragePool", x, count_include_pad=0, **sizes)


def distance(graph: Graph, z: str, mean: np.ndarray, whitener: np.ndarray, batch: int) -> str:
    """‖M(z − μ)‖: (N, k, H, W) → (N, H, W)."""
    H, width, k = mean.shape
    y = graph.add("Transpose", z, perm=[2, 3, 0, 1])
    y = graph.add("Sub", y, graph.constant(mean[:, :, None]))
    y = graph.add("Reshape", y, graph.constant(np.array([H * width, batch, k], np.int64)))
    M = graph.constant(whitener.reshape(H * width, k, k).swapaxes(1, 2))
    white = graph.add("MatMul", y, M)
    d = graph.add("Sqrt", graph.add("ReduceSumSquare", white, axes=[2], keepdims=0))
    d = graph.add("Transpose", d, perm=[1, 0])
    return graph.add("Reshape", d, graph.constant(np.array([batch, H, width], np.int64)))


def smoothed(graph: Graph, d: str, rows: np.ndarray, columns: np.ndarray) -> str:
    """Upsampled and filtered, each axis by its matrix: (N, H, W) → (N, height, width)."""
    y = graph.add("MatMul", d, graph.constant(columns.T.astype(np.float32)))
    return graph.add("MatMul", graph.constant(rows.astype(np.float32)), y)


def resampling(source: int, target: int, sigma: float) -> np.ndarray:
    """Bilinear upsampling and a Gaussian filter, edges mirrored, along an axis: (target, source)."""
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    # The weight of a location falls to 0 with the distance to its neighbours.
    bilinear = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(source)))
    radius = int(4 * sigma + 0.5)
    shifts = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (shifts / sigma) ** 2)
    mirrored = np.pad(np.arange(target), radius, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, len(kernel))
    return np.einsum("s,psj->pj", kernel / kernel.sum(), bilinear[windows])


def check_size(setting: Setting) -> None:
    """Raises BenchError where the whitener exceeds a protocol buffer."""
    H, width = (-(-side // 4) for side in setting.size)
    if 4 * H * width * setting.k**2 > MOST_BYTES:
        raise BenchError("its graph is more than a protocol buffer holds")
