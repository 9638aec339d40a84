"""Files of weights → named arrays, for every format that weights are published in.

The format is told by a file's content, never by its suffix. No format may run code.
"""

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import ml_dtypes
import numpy as np
import safetensors

from jaxsode.errors import WeightsError
from pretrained_conversion import torch_pickle

Format = Literal["npz", "torch zip", "torch legacy", "safetensors", "shards"]

_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_DAMAGE = (
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    safetensors.SafetensorError,
)


def read(path: str | Path) -> dict[str, np.ndarray]:
    """All tensors of a file of weights by name.

    Args:
        path: a PyTorch state dict or a training script's checkpoint with one in it (`.pth`, zip or legacy;
            read without PyTorch), `.safetensors`, `.npz`, or the index of several such files beside it
            (`model.safetensors.index.json`).

    Returns:
        Arrays of the file's own shapes and dtypes (bfloat16 is ml_dtypes'); they may be read-only views.

    Raises:
        WeightsError: missing, empty, cut short, damaged, of unknown format, or without a state dict. A `.npz`
            and a `.pth` in the zip format are checked by their CRC-32; the other formats have none.
    """
    path = Path(path)
    kind = file_format(path)
    try:
        if kind == "shards":
            return _read_shards(path)
        if kind == "safetensors":
            return of_safetensors(path.read_bytes(), path)
        if kind == "npz":
            return _read_npz(path)
        if kind == "torch zip":
            return torch_pickle.read_zip(path)
        return torch_pickle.read_legacy(path)
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(
            f"{path} can't be read ({reason}): cut short, damaged or not plain numbers"
        ) from error


def file_format(path: str | Path) -> Format:
    """Which format a file's first bytes, or the names inside its zip, belong to.

    Raises:
        WeightsError: there is no such file, it is empty, a damaged zip, or of another format.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"can't read weights {path}: {error.strerror}; give the path of a file") from error
    if len(head) < 16:
        raise WeightsError(f"{path} is empty or cut short ({size} bytes): get it again")
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    # safetensors: the header's length in 8 bytes, then the header, which is JSON
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return "safetensors"
    if head[0] == 0x80 and 2 <= head[1] <= 5:  # a pickle and its protocol
        return "torch legacy"
    if head.lstrip().startswith(b"{"):
        return "shards"
    raise WeightsError(f"{path} is cut short, or no .pth, .safetensors or .npz file: give one of these")


def files(path: str | Path) -> list[Path]:
    """The file itself and, where it is an index, those that it names."""
    path = Path(path)
    return [path, *(_index(path)[1] if file_format(path) == "shards" else ())]


def sha256(*paths: str | Path) -> str:
    """The SHA-256 of files, one after the other, in 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _zip_format(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _DAMAGE as error:
        raise WeightsError(f"{path} is cut short or damaged ({error}): get it again") from error
    if any(torch_pickle.is_pickle_record(name) for name in names):
        return "torch zip"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise WeightsError(f"{path} is a zip, but neither a .pth nor an .npz file: give one of these")


def _index(path: Path) -> tuple[dict[str, str], list[Path]]:
    """What an index says: the file of each tensor, and these files, which must lie beside it."""
    try:
        where = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(where.values()))
        plain = bool(names) and all(Path(name).name == name for name in names)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is no index of weights, or damaged: give the weights' file") from error
    if not plain:
        raise WeightsError(f"{path} names no files, or files in other folders: get it again")
    return where, [path.with_name(name) for name in names]


def _read_shards(path: Path) -> dict[str, np.ndarray]:
    where, files = _index(path)
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        if file_format(file) == "shards":
            raise WeightsError(f"{path} names {file.name}, an index too: get it again")
        found = read(file)
        said = {name for name, shard in where.items() if shard == file.name}
        if found.keys() != said:
            odd = min(found.keys() ^ said)
            raise WeightsError(f"{path} and {file.name} don't agree about {odd!r}: get both again")
        tensors |= found
    return tensors


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def of_safetensors(content: bytes, path: str | Path) -> dict[str, np.ndarray]:
    """The tensors in the bytes of a `.safetensors`; messages name its path."""
    # the library's own NumPy front end has no bfloat16
    tensors = {}
    for name, tensor in safetensors.deserialize(content):
        if tensor["dtype"] not in _SAFETENSORS_DTYPES:
            raise WeightsError(f"{path}: {name} has dtype {tensor['dtype']}, which no backbone of ours uses")
        dtype = np.dtype(_SAFETENSORS_DTYPES[tensor["dtype"]])
        tensors[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    return tensors
