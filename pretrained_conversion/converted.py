"""The file we write: safetensors under our own names and layout, which says what it holds."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from jaxsode.errors import OutputError, WeightsError
from pretrained_conversion import readers

_FORMAT = "jaxsode weights"
_VERSION = "1"


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
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already: choose another name, or overwrite it with --overwrite")
    metadata = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "name": description.name,
        "source": description.source,
        "sha256": description.sha256,
        "normalisation": json.dumps({"mean": description.mean, "std": description.std}),
    }
    content = safetensors.numpy.save(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}; choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def describe(path: str | Path) -> Description | None:
    """What a converted file says of itself; None for a file of weights that is not ours.

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
