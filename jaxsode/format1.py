"""Saved detectors of format 1, for scoring: the mean and half of the whitener, without moments."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsode import checkpoint
from jaxsode.algebra.precision import Whitener
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import CheckpointError
from jaxsode.method import Method
from jaxsode.saving import network_of

_ARRAYS = "arrays"
_NETWORK = ("name", "dtype", "normalisation")


def read(path: Path, backbone: Backbone | None) -> dict[str, Any]:
    """What a `Detector` is made of.

    Args:
        path: the folder.
        backbone: as for `Detector.load`.

    Raises:
        CheckpointError: it is damaged, or has another backbone.
    """
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
                    f"{path}: {name} is not as it was saved: fit and save the detector again"
                )
        arrays = checkpoint.restore(path / _ARRAYS)
        k = arrays["W"].shape[1]
        named = settings["embedding"] not in ("identity", "given")
        method = Method(**given, k=k if named else None, layers=layers)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no whole detector: fit and save it again ({error})") from error
    return {
        "backbone": network_of(path, network, layers, arrays["backbone"], backbone),
        "W": jnp.asarray(arrays["W"]),
        "mean": jnp.asarray(arrays["mean"]),
        "precision": Whitener(jnp.asarray(_unpacked(arrays["whitener"], k))),
        "count": jnp.asarray(pictures, jnp.int32),
        "method": method,
        "statistics": None,
        "size": (size[0], size[1]),
    }


def _unpacked(packed: np.ndarray, k: int) -> np.ndarray:
    """The lower triangle, row after row."""
    whole = np.zeros((*packed.shape[:-1], k, k), packed.dtype)
    whole[..., *np.tril_indices(k)] = packed
    return whole
