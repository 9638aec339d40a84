"""Saved detectors of format 1, for scoring: the mean and half of the whitener, without moments.

It has the files' lengths and no checksums: a flipped bit of an array may go unnoticed. What is loaded can be
saved again, in the format of today, which notices.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxsode import checkpoint, trees
from jaxsode.algebra.packing import shapes_of
from jaxsode.algebra.precision import Triangle
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import CheckpointError
from jaxsode.layout import assembled, dealt
from jaxsode.method import Method
from jaxsode.saving import check_network, network_of
from jaxsode.trees import shown

_ARRAYS = "arrays"
_NETWORK = ("name", "dtype", "normalisation")


def read(path: Path, backbone: Backbone | None, mesh: Mesh | None) -> dict[str, Any]:
    """What a `Detector` is made of.

    Args:
        path: the folder.
        backbone, mesh: as for `Detector.load`.

    Raises:
        CheckpointError: it is damaged, or has another backbone.
        ArgumentError: see `Detector.load`.
    """
    check_network(backbone)
    page = checkpoint.read_page(path)
    try:
        sizes, settings, layers = page["files"], page["settings"], page["layers"]
        layers = layers and tuple(layers)
        network = {name: page["backbone" if name == "name" else name] for name in _NETWORK}
        size, pictures = settings["size"], settings["pictures"]
        given = {name: settings[name] for name in ("embedding", "seed", "epsilon", "sigma")}
        for name, length in sizes.items():
            if not (path / name).is_file() or (path / name).stat().st_size != length:
                raise CheckpointError(
                    f"{shown(path)}: {shown(name)} is not as it was saved: fit and save the detector again"
                )
        arrays = trees.restore(path / _ARRAYS, ())
        k = arrays["W"].shape[1]
        named = settings["embedding"] not in ("identity", "given")
        method = Method(**given, k=k if named else None, layers=layers)
        fitted = network_of(path, network, layers, arrays["backbone"], backbone)
        size, count = (int(size[0]), int(size[1])), jax.device_put(np.int32(pictures))
        panels = _panels(np.swapaxes(_unpacked(arrays["whitener"], k), -1, -2))
    except (OSError, AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{shown(path)} holds no whole detector: fit and save it again ({error})"
        ) from error
    return {
        "backbone": fitted,
        "W": jax.device_put(arrays["W"]),
        "mean": _placed(arrays["mean"], mesh),
        "precision": Triangle(panels=tuple(_placed(panel, mesh) for panel in panels)),
        "count": count,
        "method": method,
        "statistics": None,
        "size": size,
    }


def _panels(U: np.ndarray) -> list[np.ndarray]:
    """`jaxsode.algebra.packing.panels_of` in the host's memory: a single device may not hold all."""
    panels = []
    for rows, width in shapes_of(U.shape[-1]):
        first = max(0, rows - width)
        lacking = width - (rows - first)
        panels.append(np.pad(U[..., :rows, first:rows], [(0, 0)] * (U.ndim - 1) + [(lacking, 0)]))
    return panels


def _placed(array: np.ndarray, mesh: Mesh | None) -> jax.Array:
    if mesh is None:
        return jax.device_put(array)
    sharding = dealt(array.shape, mesh)
    return assembled(array.shape, array.dtype, sharding, lambda start, stop: array[start:stop])


def _unpacked(packed: np.ndarray, k: int) -> np.ndarray:
    """The lower triangle, row after row."""
    whole = np.zeros((*packed.shape[:-1], k, k), packed.dtype)
    whole[..., *np.tril_indices(k)] = packed
    return whole
