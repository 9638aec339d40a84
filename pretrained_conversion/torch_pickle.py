"""PyTorch's two file formats, read without PyTorch and without running anything.

Both hold a pickle in which tensors stand as (storage, offset, size, stride) and storages as names. The zip
format (since PyTorch 1.6) keeps each storage as a record of its own; the legacy format appends them to four
pickles: a magic number, a version, the writer's byte order, the object. That may be a state dict, or what a
training script saved: the state dict with its arguments, optimizer and whatever else; those are passed over.
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
# What training scripts wrap a state dict in. The first of these that is there is taken: moving averages only
# where there is nothing else.
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "network", "net", "params", "weights")
_WRAPPERS += ("module", "state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema")
_DEPTH = 4


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str


class _Tensor(NamedTuple):
    """Offset and stride in elements, as PyTorch counts them."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Unknown:
    """Stands for whatever else a pickle asks for: lets all be done to it, and does and keeps nothing."""

    path = ""

    def __new__(cls, *_: Any, **__: Any) -> "_Unknown":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any):
        pass

    def __call__(self, *_: Any) -> "_Unknown":
        return self

    def ignore(self, *_: Any) -> None:
        pass

    __setstate__ = __setitem__ = append = extend = add = ignore


class _Unpickler(pickle.Unpickler):
    """Knows the few globals that a state dict needs, each by a stand-in; all others by an inert one.

    Nothing that a pickle names is ever imported or called. What `find_class` gives out is immutable, a bound
    method or a class made for this pickle, so that no pickle can alter it for the next.
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
            "torch._utils._rebuild_parameter_with_state": self.rebuild_parameter,
            "torch._tensor._rebuild_from_type_v2": self.rebuild_from_type,
        }

    def find_class(self, module: str, name: str, /) -> Any:
        path = f"{module}.{name}"
        if path not in self.allowed:
            self.allowed[path] = type("_Unknown", (_Unknown,), {"path": path})
        return self.allowed[path]

    def persistent_load(self, pid: Any, /) -> Any:
        if isinstance(pid, tuple) and pid[:1] == ("module",):  # a class and its source code, long ago
            return pid[1]
        kind, storage_type, key, _location, _count, *view = pid
        if kind != "storage" or not isinstance(key, str) or any(view):
            raise WeightsError(f"{self.path} refers to something that is no storage of a tensor")
        if isinstance(storage_type, type):
            raise WeightsError(f"{self.path} holds numbers of {_class(storage_type)}, which no backbone uses")
        return self.storages.setdefault(key, _Storage(np.dtype(_DTYPES[storage_type]), key))

    def rebuild_tensor(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor without storage")
        return _Tensor(storage, offset, size, stride)

    def rebuild_parameter(self, data: _Tensor, *_: Any) -> _Tensor:
        return data

    def rebuild_from_type(self, rebuild: Any, _type: Any, arguments: tuple[Any, ...], *_: Any) -> Any:
        return rebuild(*arguments)


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
    for _ in range(_DEPTH):  # wrappers inside wrappers, but no endless ones
        inner = _wrapped(found) if isinstance(found, dict) else None
        if inner is None:
            break
        found = inner
    if not isinstance(found, dict) or not found:
        what = f" but an object of {_class(found)}, of which nothing was run" if _class(found) else ""
        raise WeightsError(f"{path} holds no state dict{what}: save the model's state_dict()")
    for name, value in dict.items(found):
        if isinstance(name, str) and isinstance(value, _Tensor):
            continue
        what = f"an object of {_class(value)}, of which nothing was run" if _class(value) else "no tensor"
        raise WeightsError(f"{path}: entry {name!r} is {what}: save the model's state_dict() alone")
    return dict(dict.items(found))


def _wrapped(found: dict[Any, Any]) -> dict[Any, Any] | None:
    """The state dict in a training script's dict, by its name there or as the only one; else None."""
    for key in _WRAPPERS:
        if isinstance(inner := dict.get(found, key), dict):
            return inner
    values = list(dict.values(found))
    states = [value for value in values if isinstance(value, dict) and _is_state(value)]
    alone = len(states) == 1 and not any(isinstance(value, _Tensor) for value in values)
    return states[0] if alone else None


def _is_state(found: dict[Any, Any]) -> bool:
    items = list(dict.items(found))
    return bool(items) and all(isinstance(k, str) and isinstance(v, _Tensor) for k, v in items)


def _class(value: Any) -> str:
    """The name of the class, or function, that a pickle asked for to make this; "" for plain values."""
    unknown = isinstance(value, _Unknown) or (isinstance(value, type) and issubclass(value, _Unknown))
    return repr(value.path) if unknown else ""


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
