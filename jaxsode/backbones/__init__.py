"""Pictures → feature maps of several scales, by pretrained convolutional networks."""

from pathlib import Path
from typing import TYPE_CHECKING

import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxsode.backbones.protocol import IMAGENET, Backbone, Normalisation
from jaxsode.backbones.registry import BACKBONES, Spec, create, parameters, with_parameters

if TYPE_CHECKING:
    from jaxsode.backbones.download import Progress

__all__ = [
    "BACKBONES",
    "IMAGENET",
    "Backbone",
    "Normalisation",
    "Spec",
    "create",
    "load",
    "parameters",
    "with_parameters",
]


def load(
    name: str,
    *,
    weights: str | Path | None = None,
    layers: tuple[int, ...] | None = None,
    dtype: DTypeLike = jnp.float32,
    progress: "Progress | None" = None,
) -> Backbone:
    """A backbone with pretrained weights.

    Args:
        name: one of BACKBONES.
        weights: a file, see `weights.find`; None looks in the cache and then at the publisher; the word
            "random" leaves random weights, whose features mean nothing.
        layers: whose feature maps are returned, ascending; None takes the backbone's default.
        dtype: of the computation, float32 or bfloat16; parameters are float32.
        progress: of a download, called with bytes so far and bytes in all (None if unknown).

    Raises:
        ArgumentError: an unknown name, layer or dtype.
        WeightsError: no weights, or weights that don't fit; see `weights.find`.
    """
    backbone = create(name, layers=layers, dtype=dtype)
    if weights == "random":
        return backbone
    # Late: what reads files of weights is not needed for a network with random ones.
    from jaxsode.backbones.weights import find, shapes

    found = find(name, weights=weights, leaves=shapes(backbone), progress=progress)
    return with_parameters(backbone, found.tensors)
