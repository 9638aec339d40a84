"""Writes PyTorch's two file formats without PyTorch, opcode by opcode: readers are tested anywhere."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

STORAGES = {
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.uint8): "ByteStorage",
    np.dtype(np.bool_): "BoolStorage",
}
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"
MAGIC = 0x1950A86A20F9469CFC6C


class View(NamedTuple):
    """A tensor as PyTorch keeps it; offset and stride in elements."""

    storage: np.ndarray
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


Tensors = Mapping[str, np.ndarray | View]


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def state_dict(tensors: Tensors, *, legacy: bool, parameters: bool = False) -> tuple[bytes, dict[str, bytes]]:
    """The opcodes that put a state dict on the stack, and the bytes of each storage by its key."""
    code = ORDERED_DICT + b"("
    storages: dict[str, np.ndarray] = {}
    keys: dict[int, str] = {}
    for name, tensor in tensors.items():
        view = tensor if isinstance(tensor, View) else whole(tensor)
        key = keys.setdefault(id(view.storage), str(len(keys)))
        storages[key] = view.storage
        storage = text("storage") + b"ctorch\n" + STORAGES[view.storage.dtype].encode() + b"\n"
        storage += text(key) + text("cpu") + number(view.storage.size) + (b"N" if legacy else b"")
        built = b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + b"tQ" + number(view.offset)
        built += numbers(view.size) + numbers(view.stride) + b"\x89" + ORDERED_DICT + b"tR"
        if parameters:
            built = b"ctorch._utils\n_rebuild_parameter\n(" + built + b"\x88" + ORDERED_DICT + b"tR"
        code += text(name) + built
    # PyTorch hangs the modules' versions on the dict, as an attribute
    code += b"u}" + text("_metadata") + ORDERED_DICT + b"sb"
    return code, {key: storage.tobytes() for key, storage in storages.items()}


def whole(array: np.ndarray) -> View:
    stride = tuple(step // array.itemsize for step in array.strides)
    return View(array.reshape(-1), 0, array.shape, stride)


def pickled(code: bytes) -> bytes:
    return b"\x80\x02" + code + b"."


def write_zip(path: Path, code: bytes, storages: Mapping[str, bytes], *, compression: int = 0) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(code))
        archive.writestr("archive/byteorder", "little")
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")


def write_legacy(
    path: Path, code: bytes, storages: Mapping[str, bytes], *, itemsize: int, little_endian: bool = True
) -> None:
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {}}
    parts = [pickle.dumps(value, protocol=2) for value in (MAGIC, 1001, system)]
    parts += [pickled(code), pickle.dumps(list(storages), protocol=2)]
    for data in storages.values():
        parts += [struct.pack("<q", len(data) // itemsize), data]
    path.write_bytes(b"".join(parts))


def write(path: Path, tensors: Tensors, kind: str) -> None:
    """A state dict in the format `zip` or `legacy`; a legacy file's tensors must be of one item size."""
    code, storages = state_dict(tensors, legacy=kind == "legacy")
    if kind == "zip":
        write_zip(path, code, storages)
    else:
        first = next(iter(tensors.values()))
        dtype = first.storage.dtype if isinstance(first, View) else first.dtype
        write_legacy(path, code, storages, itemsize=dtype.itemsize)
