"""The file we write: safetensors under our own names and layout, which says what it holds, with a checksum.

The checksum stands in the file's own metadata: the CRC-32 of all bytes but its own digits, which notices
every change of up to 32 bits in a row. Checking takes a quarter of a second a GB, a twentieth of loading.
"""

import contextlib
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from jaxsode.errors import OutputError, WeightsError
from pretrained_conversion import readers

_FORMAT = "jaxsode weights"
_VERSION = "2"
_NO_DIGITS = "0" * 8
_CHECKSUM = re.compile(rb'"crc32":"([0-9a-f]{8})"')


@dataclass(frozen=True)
class Description:
    """What a converted file says of itself.

    Attributes:
        name: of the backbone.
        source: the file or address it was made from.
        sha256: of that source.
        mean, std: of the normalisation, three numbers each for RGB in [0, 1].
    """

    name: str
    source: str
    sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def write(
    path: str | Path,
    tensors: Mapping[str, np.ndarray],
    description: Description,
    *,
    overwrite: bool = False,
) -> None:
    """Writes a converted file under its final name at once, or not at all.

    Raises:
        OutputError: there is such a file and `overwrite` is False, or it can't be written.
    """
    path = Path(path)
    if os.path.exists(path) and not overwrite:
        raise OutputError(f"{path} exists already: choose another name, or overwrite it with --overwrite")
    metadata = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "name": description.name,
        "source": description.source,
        "sha256": description.sha256,
        "normalisation": json.dumps({"mean": description.mean, "std": description.std}),
        "crc32": _NO_DIGITS,
    }
    content = safetensors.numpy.save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata
    )
    start, stop, _ = _digits(content, path)
    content = content[:start] + _crc32(content, start, stop).encode() + content[stop:]
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}; choose another place") from error
    finally:
        with contextlib.suppress(OSError):  # told above, whatever it is
            temporary.unlink()


def read(path: str | Path) -> tuple[Description, dict[str, np.ndarray]] | None:
    """What a converted file says of itself, and its tensors as written; None for a file that is not ours.

    Raises:
        WeightsError: the file is missing or written by another version, or not every bit of it is as it was
            written.
    """
    description = describe(path)
    if description is None:
        return None
    content = Path(path).read_bytes()
    start, stop, written = _digits(content, path)
    if _crc32(content, start, stop) != written:
        raise WeightsError(f"{path} is damaged, not what was written: get it or convert the weights again")
    return description, readers.of_safetensors(content, path)


def _digits(content: bytes, path: str | Path) -> tuple[int, int, str]:
    """Where the checksum's digits are, and which."""
    header = 8 + int.from_bytes(content[:8], "little")
    found = _CHECKSUM.search(content, 8, min(header, len(content)))
    if found is None:
        raise WeightsError(f"{path} is damaged, without a checksum: get it or convert the weights again")
    return found.start(1), found.end(1), found[1].decode()


def _crc32(content: bytes, start: int, stop: int) -> str:
    view = memoryview(content)
    return f"{zlib.crc32(view[stop:], zlib.crc32(_NO_DIGITS.encode(), zlib.crc32(view[:start]))):08x}"


def describe(path: str | Path) -> Description | None:
    """What a converted file says of itself, unchecked; None for a file of weights that is not ours.

    Raises:
        WeightsError: the file is missing, damaged, or written by another version.
    """
    if readers.file_format(path) != "safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is cut short or damaged ({error}): get it again") from error
    if metadata.get("format") != _FORMAT:
        return None
    if metadata.get("format_version") != _VERSION:
        raise WeightsError(
            f"{path} has version {metadata.get('format_version')!r} of our format, not {_VERSION!r}: "
            "convert the weights again"
        )
    try:
        normalisation = json.loads(metadata["normalisation"])
        return Description(
            name=metadata["name"],
            source=metadata["source"],
            sha256=metadata["sha256"],
            mean=tuple(normalisation["mean"]),
            std=tuple(normalisation["std"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} does not describe itself rightly ({error!r}): convert it again"
        ) from error
