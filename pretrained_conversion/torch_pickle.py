"""PyTorch's two file formats, read without PyTorch and without running anything.

Both hold a pickle in which tensors stand as (storage, offset, size, stride) and storages as names. The zip
format (since PyTorch 1.6) keeps each storage as a record of its own; the legacy format appends them to four
pickles: a magic number, a version, the writer's byte order, the object.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxsode.errors import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_MEMO = 1_000_000

_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# what training scripts wrap a state dict in
_WRAPPERS = ("state_dict", "model_state_dict", "model")


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str


class _Tensor(NamedTuple):
    """Offset and stride in elements, as PyTorch counts them."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Knows the few globals that a state dict needs, each by a stand-in, and refuses all others.

    What `find_class` gives out is immutable or a bound method, so that no pickle can alter it for the next.
    """

    def __init__(self, file: io.BytesIO, path: Path):
        super().__init__(file, encoding="utf-8")
        self.file = file
        self.path = path
        self.storages: dict[str, _Storage] = {}
        self.allowed: dict[str, Any] = {f"torch.{name}": name for name in _DTYPES} | {
            "collections.OrderedDict": OrderedDict,
            "torch.Size": tuple,
            "torch._utils._rebuild_tensor": self.rebuild_tensor,
            "torch._utils._rebuild_tensor_v2": self.rebuild_tensor,
            "torch._utils._rebuild_parameter": self.rebuild_parameter,
        }

    def find_class(self, module: str, name: str, /) -> Any:
        path = f"{module}.{name}"
        if path not in self.allowed:
            raise WeightsError(
                f"{self.path} asks for {path!r}, which tensors don't need and which may run code: "
                "nothing was run; get the weights from their publisher"
            )
        return self.allowed[path]

    def persistent_load(self, pid: Any, /) -> _Storage:
        kind, storage_type, key, _location, _count, *view = pid
        if kind != "storage" or not isinstance(key, str) or any(view):
            raise WeightsError(f"{self.path} refers to something that is no storage of a tensor")
        return self.storages.setdefault(key, _Storage(np.dtype(_DTYPES[storage_type]), key))

    def rebuild_tensor(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor without storage")
        return _Tensor(storage, offset, size, stride)

    def rebuild_parameter(self, data: _Tensor, *_: Any) -> _Tensor:
        return data


def is_pickle_record(name: str) -> bool:
    """Whether a name in a zip is that of PyTorch's pickle, `data.pkl` in the archive's one folder."""
    return name.endswith("/data.pkl") and name.count("/") == 1


def read_zip(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `.pth` in the zip format.

    Raises:
        WeightsError: it holds anything but tensors, or is damaged; the zip library's errors pass through.
    """
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: record for record in archive.infolist()}
        pickled = next(name for name in records if is_pickle_record(name))
        folder = pickled.removesuffix("data.pkl")

        def record(name: str) -> bytes:
            # a few compressed bytes may unpack to terabytes, and PyTorch compresses nothing
            if records[name].compress_type != zipfile.ZIP_STORED:
                raise WeightsError(f"{path}: {name} is compressed, which PyTorch never does: get it again")
            return archive.read(name)

        if f"{folder}byteorder" in records and record(f"{folder}byteorder") != b"little":
            raise WeightsError(f"{path} was written on a big-endian machine: save it again on another")
        tensors = _state_dict(_unpickle(_Unpickler(io.BytesIO(record(pickled)), path)), path)
        return _arrays(tensors, lambda key: record(f"{folder}data/{key}"), path)


def read_legacy(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `.pth` in the format of PyTorch before 1.6.

    Raises:
        WeightsError: it holds anything but tensors, or is damaged.
    """
    content = path.read_bytes()
    file = io.BytesIO(content)
    # in turn: what follows a wrong one is no pickle
    known = all(_unpickle(_Unpickler(file, path)) == number for number in (_MAGIC, _VERSION))
    system = _unpickle(_Unpickler(file, path)) if known else None
    if not isinstance(system, dict):
        raise WeightsError(f"{path} is a pickle, but of no PyTorch format known here: save it again")
    if not dict.get(system, "little_endian"):
        raise WeightsError(f"{path} was written on a big-endian machine: save it again on another")
    unpickler = _Unpickler(file, path)
    tensors = _state_dict(_unpickle(unpickler), path)
    keys = _unpickle(_Unpickler(file, path))
    # each storage is its number of elements in 8 bytes, and the elements; those outside the state dict too
    position = file.tell()
    buffers = {}
    for key in keys:
        start = position + 8
        count = int.from_bytes(content[position:start], "little")
        position = start + count * unpickler.storages[key].dtype.itemsize
        buffers[key] = memoryview(content)[start:position]
    if position > len(content):
        raise EOFError(f"{len(content)} bytes of {position}")
    return _arrays(tensors, buffers.__getitem__, path)


def _unpickle(unpickler: _Unpickler) -> Any:
    """One pickled object; whatever goes wrong inside is damage of the file."""
    try:
        start = unpickler.file.tell()
        for opcode, index, _ in pickletools.genops(unpickler.file):
            # the unpickler's memo is an array: an index with one flipped bit would take all memory
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (index or 0) > _MEMO:
                raise ValueError(f"memo {index}")
        unpickler.file.seek(start)
        return unpickler.load()
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"{unpickler.path} is cut short or damaged ({reason}): get it again") from error


def _state_dict(found: Any, path: Path) -> dict[str, _Tensor]:
    """The mapping from names to tensors, out of what training scripts wrap it in."""
    for _ in _WRAPPERS:  # wrappers inside wrappers, but no endless ones
        if isinstance(found, dict):
            inner = (dict.get(found, key) for key in _WRAPPERS)
            found = next((value for value in inner if isinstance(value, dict)), found)
    if not isinstance(found, dict) or not found:
        raise WeightsError(f"{path} holds no state dict: save the model's state_dict()")
    for name, value in dict.items(found):
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise WeightsError(f"{path}: entry {name!r} is no tensor: save the model's state_dict() alone")
    tensors: dict[str, _Tensor] = dict(dict.items(found))
    if all(name.startswith("module.") for name in tensors):  # DataParallel
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _arrays(
    tensors: dict[str, _Tensor], data: Callable[[str], bytes | memoryview], path: Path
) -> dict[str, np.ndarray]:
    """Strided views into the storages; NumPy checks that none reaches beyond its storage."""
    buffers = {key: data(key) for key in {tensor.storage.key for tensor in tensors.values()}}
    arrays = {}
    for name, (storage, offset, size, stride) in tensors.items():
        try:
            arrays[name] = np.ndarray(
                size,
                storage.dtype,
                buffer=buffers[storage.key],
                offset=offset * storage.dtype.itemsize,
                strides=[step * storage.dtype.itemsize for step in stride],
            )
        except (OverflowError, TypeError, ValueError) as error:
            raise WeightsError(
                f"{path}: tensor {name} does not fit its storage: get the file again"
            ) from error
    return arrays
