"""An ONNX graph in the making: values in lazy layouts and lazily broadcast, nodes, arrays beside the file.

A value knows in which order its axes are stored, and which of them are still to be broadcast. So what JAX
writes as NHWC runs as NCHW from the first convolution to the last without a transposition between, and what
JAX broadcasts in full is left to the runtime.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from jaxsode.errors import ArgumentError

OPSET = 18
IR_VERSION = 10
BATCH = "batch"
"""The name of the axis whose length is open."""

INLINE = 2**31 - 2**24
"""Bytes of arrays that a file holds itself; protobuf's own limit is 2 GiB for all of it."""

_ALIGNED = 4096  # so that a runtime may map the file into memory
_SMALL = 1024  # bytes; shapes are among them, which must be known without the other file


@dataclass(frozen=True)
class Value:
    """An array of the traced function, as the graph has it.

    Attributes:
        shape: as it is held, in the order of JAX: 1 where it is broadcast later; not an int where it is open.
        layout: axis i of what is stored is axis layout[i] in the order of JAX.
        name: of the tensor in the graph; None of a constant.
        array: the constant, of `shape`, in the order of JAX.
    """

    shape: tuple[Any, ...]
    layout: tuple[int, ...]
    name: str | None = None
    array: np.ndarray | None = None


def constant(array: Any) -> Value:
    """A value that is known.

    Args:
        array: of any shape.
    """
    array = np.asarray(array)
    return Value(array.shape, tuple(range(array.ndim)), array=array)


class Graph:
    """Nodes and arrays, in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._known: dict[tuple[Any, ...], str] = {}

    def add(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node of one output.

        Args:
            kind: ONNX's name of the operation.
            inputs: names of tensors.
            name: of the output; by default the next that is free.
            attributes: of the node.

        Returns:
            The output's name.
        """
        name = f"{kind.lower()}_{len(self.nodes)}" if name is None else name
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def array(self, array: Any, dtype: Any = None) -> str:
        """The name of a constant tensor; equal ones are kept once.

        Args:
            array: its values, in the order that is stored.
            dtype: to have it in.
        """
        array = np.ascontiguousarray(array, dtype)
        digest = hashlib.sha256(array.view(np.uint8).data if array.ndim else array.tobytes()).digest()
        key = (array.shape, str(array.dtype), digest)
        if key not in self._known:
            self._known[key] = f"constant_{len(self._known)}"
            self.arrays[self._known[key]] = array
        return self._known[key]

    def stored(
        self, value: Value, layout: Sequence[int] | None = None, shape: Sequence[Any] | None = None
    ) -> str:
        """The name of a tensor that has a value in a layout, broadcast so far as is asked for.

        Args:
            value: any.
            layout: see `Value`; by default the order of JAX.
            shape: in the order of JAX; axes that are 1 in `value` and not here are broadcast; by default
                none.

        Raises:
            ArgumentError: an axis of open length would have to be broadcast.
        """
        layout = tuple(range(len(value.shape))) if layout is None else tuple(layout)
        shape = value.shape if shape is None else tuple(shape)
        if value.array is not None:
            whole = np.broadcast_to(value.array, _known_lengths(value.shape, shape))
            return self.array(whole.transpose(layout))
        assert value.name is not None
        name = value.name
        if layout != value.layout:
            name = self.add("Transpose", name, perm=[value.layout.index(axis) for axis in layout])
        if shape != value.shape:
            grown = _known_lengths(value.shape, shape)
            # An axis that is kept may be called 1 there: Expand broadcasts both ways.
            wanted = [grown[a] if value.shape[a] == 1 else 1 for a in layout]
            name = self.add("Expand", name, self.array(wanted, np.int64))
        return name

    def save(
        self,
        path: Path,
        inputs: Mapping[str, tuple[Any, Sequence[Any]]],
        outputs: Mapping[str, tuple[Any, Sequence[Any]]],
        *,
        about: Mapping[str, str],
        inline: int = INLINE,
    ) -> None:
        """Write the model; its arrays beside it, into PATH.data, where they are more than `inline` bytes.

        Args:
            path: of the file.
            inputs, outputs: dtype and shape of each by name; an axis that is not an int is open.
            about: what the model says of itself.
            inline: see `INLINE`.

        Raises:
            ArgumentError: ONNX has no such model.
            OSError: it can't be written.
        """
        beside = sum(array.nbytes for array in self.arrays.values()) > inline
        data = path.with_name(f"{path.name}.data")
        initialisers = (
            self._written(data) if beside else list(map(_inside, self.arrays, self.arrays.values()))
        )
        graph = helper.make_graph(
            self.nodes, "jaxsode", _infos(inputs), _infos(outputs), initializer=initialisers
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="jaxsode",
        )
        helper.set_model_props(model, dict(about))
        path.write_bytes(model.SerializeToString(deterministic=True))
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            path.unlink()
            data.unlink(missing_ok=True)
            told = str(error).splitlines()[0]
            raise ArgumentError(
                f"the function has no form in ONNX here: export StableHLO ({told})"
            ) from error

    def _written(self, path: Path) -> list[TensorProto]:
        """Arrays in a file of their own, one after the other, and what points to them."""
        tensors = []
        with open(path, "wb") as file:
            for name, array in self.arrays.items():
                if array.nbytes < _SMALL:
                    tensors.append(_inside(name, array))
                    continue
                file.write(bytes(-file.tell() % _ALIGNED))
                tensor = TensorProto(
                    name=name,
                    dims=array.shape,
                    data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                    data_location=TensorProto.EXTERNAL,
                )
                where = {"location": path.name, "offset": file.tell(), "length": array.nbytes}
                for key, value in where.items():
                    tensor.external_data.add(key=key, value=str(value))
                array.tofile(file)
                tensors.append(tensor)
        return tensors


def _inside(name: str, array: np.ndarray) -> TensorProto:
    return helper.make_tensor(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array.tobytes(), raw=True
    )


def _infos(tensors: Mapping[str, tuple[Any, Sequence[Any]]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
            [length if isinstance(length, int) else BATCH for length in shape],
        )
        for name, (dtype, shape) in tensors.items()
    ]


def _known_lengths(held: tuple[Any, ...], wanted: tuple[Any, ...]) -> tuple[int, ...]:
    """`wanted`, once nothing of open length is broadcast; a held axis of open length counts as 1."""
    grown = tuple(1 if length is held[i] or length == held[i] else length for i, length in enumerate(wanted))
    lengths = tuple(
        own if one == 1 and isinstance(own, int) else one for own, one in zip(held, grown, strict=True)
    )
    if not all(isinstance(length, int) for length in lengths):
        raise ArgumentError("the function repeats a constant for each picture, which can't be exported")
    return lengths
