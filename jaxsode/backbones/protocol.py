"""What a backbone is to the rest of the package.

Any callable pytree with these attributes will do: a Flax NNX module of ours, or a registered dataclass
around a network defined elsewhere.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax


@dataclass(frozen=True)
class Normalisation:
    """x ↦ (x − mean) / std per channel, for x in [0, 1] (RGB)."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@runtime_checkable
class Backbone(Protocol):
    """A callable pytree from pictures to feature maps, finest first.

    Attributes:
        name: what it is called on the command line and in saved files.
        strides: of each returned feature map, finest first; a map of a picture of `height` has about
            height / stride rows (each backbone rounds as its own layers do).
        channels: of each returned feature map. F is their sum.
        normalisation: applied by `__call__` itself; told here for reports and saved files.
    """

    name: str
    strides: tuple[int, ...]
    channels: tuple[int, ...]
    normalisation: Normalisation

    def __call__(self, pictures: jax.Array, /) -> tuple[jax.Array, ...]:
        """pictures (N, height, width, 3), RGB in [0, 1] → a tuple of (N, h, w, C) feature maps."""
        ...
