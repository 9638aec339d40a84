"""A fitted detector on disk: its arrays by Orbax, and a page of JSON that says what they are.

The folder appears under its name only when all of it is written; a half-written one is never loaded. The
whitener is triangular, so only its lower half is stored.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.backbones import registry
from jaxsode.backbones.protocol import Backbone, Normalisation
from jaxsode.detector import Detector, Settings
from jaxsode.errors import CheckpointError

FORMAT = 1
_PAGE = "detector.json"
_ARRAYS = "arrays"


def save(detector: Detector, path: str | Path) -> None:
    """Write a detector into a new folder, all of it or nothing.

    Args:
        detector: fitted.
        path: a folder that does not exist yet.

    Raises:
        CheckpointError: the folder exists.
    """
    import orbax.checkpoint as ocp

    path = Path(path).absolute()
    if path.exists():
        raise CheckpointError(f"{path} exists already: choose another folder for the detector, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    backbone = detector.backbone
    page = {
        "format": FORMAT,
        "backbone": backbone.name,
        "layers": getattr(backbone, "layers", None),
        "dtype": _dtype(backbone),
        "normalisation": asdict(backbone.normalisation),
        "settings": asdict(detector.settings),
    }
    try:
        partial.mkdir()
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(partial / _ARRAYS, _arrays(detector))
        page["files"] = _sizes(partial)
        (partial / _PAGE).write_text(json.dumps(page, indent=2) + "\n")
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def load(path: str | Path, *, backbone: Backbone | None = None) -> Detector:
    """Read a detector that `save` wrote. It scores as the saved one did, bit for bit on the same machine.

    Args:
        path: the folder.
        backbone: one of the same structure as the saved one, if it is not of this package; its arrays are
            replaced by the saved ones.

    Returns:
        The detector.

    Raises:
        CheckpointError: no detector there, a damaged one, one of another format, or one with a backbone that
            this package doesn't know.
    """
    path = Path(path).absolute()
    try:
        page = json.loads((path / _PAGE).read_text())
        if page["format"] != FORMAT:
            raise CheckpointError(
                f"{path} is a detector of format {page['format']}, this version reads {FORMAT}: fit it again"
            )
        name, files, layers, dtype = (page[key] for key in ("backbone", "files", "layers", "dtype"))
        normalisation = Normalisation(**{key: tuple(v) for key, v in page["normalisation"].items()})
        settings = Settings(**(page["settings"] | {"size": tuple(page["settings"]["size"])}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds no whole detector: fit and save it again ({error})") from error
    # Orbax would notice, too, but leaves reads under way that complain on the terminal later.
    if damaged := sorted(file for file, _ in files.items() ^ _sizes(path).items()):
        raise CheckpointError(f"{path}: {damaged[0]} is not as it was saved: fit and save the detector again")
    if backbone is None:
        if name not in registry.BACKBONES:
            raise CheckpointError(
                f"{path} was fitted with the backbone {name!r}: pass it to load as `backbone`"
            )
        backbone = registry.create(name, layers=layers and tuple(layers), dtype=jnp.dtype(dtype))
    arrays = _restore(path)
    saved = (name, normalisation, _shapes(arrays["backbone"]))
    if saved != (backbone.name, backbone.normalisation, _shapes(jax.tree.leaves(backbone))):
        raise CheckpointError(
            f"{path} was fitted with another backbone than the one given ({name}, not {backbone.name}, "
            "or one of other arrays): give the backbone that it was fitted with"
        )
    return Detector(
        backbone=jax.tree.unflatten(jax.tree.structure(backbone), arrays["backbone"]),
        W=arrays["W"],
        mean=arrays["mean"],
        whitener=_unpack(arrays["whitener"], arrays["W"].shape[1]),
        settings=settings,
    )


def _sizes(folder: Path) -> dict[str, int]:
    files = (file for file in (folder / _ARRAYS).rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.stat().st_size for file in files}


def _arrays(detector: Detector) -> dict[str, Any]:
    return {
        "backbone": jax.tree.leaves(detector.backbone),
        "W": detector.W,
        "mean": detector.mean,
        "whitener": _pack(detector.whitener),
    }


def _restore(path: Path) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    try:
        with ocp.StandardCheckpointer() as checkpointer:
            metadata = checkpointer.metadata(path / _ARRAYS).item_metadata
            sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            target = jax.tree.map(
                lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding), dict(metadata)
            )
            arrays = checkpointer.restore(path / _ARRAYS, target)
    except Exception as error:  # Orbax and TensorStore raise what they like for a damaged file
        raise CheckpointError(
            f"{path}: its arrays can't be read, fit and save the detector again ({_first_line(error)})"
        ) from error
    return arrays


def _shapes(arrays: Sequence[jax.Array]) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays]


@jax.jit
def _pack(whitener: jax.Array) -> jax.Array:
    rows, columns = np.tril_indices(whitener.shape[-1])
    return whitener[..., rows, columns]


@jax.jit(static_argnums=1)
def _unpack(packed: jax.Array, k: int) -> jax.Array:
    rows, columns = np.tril_indices(k)
    return jnp.zeros((*packed.shape[:-1], k, k), packed.dtype).at[..., rows, columns].set(packed)


def _dtype(backbone: Backbone) -> str:
    return str(jnp.dtype(getattr(backbone, "dtype", jnp.float32)))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
