"""SPADE: correspondence with the most similar good pictures (Cohen and Hoshen 2020, arXiv:2005.02357).

A picture is compared to the K good ones whose globally pooled features are nearest to its own. The anomaly
score of a location is the mean Euclidean distance of its features to the κ nearest among all locations of
those K pictures, features of all scales concatenated on the finest grid; bilinear to the picture and
filtered like the detector's distances.

Nothing is estimated: the model is the good pictures' features. For N of them, on grids h × w with C channels,
it takes 4·N·Σ h·w·C bytes of host memory; scoring takes 4·(K + 1)·Σ h·w·C more on the device for a picture at
a time, twice that where they are centred, and what `correspondence.distances` says. A picture costs
2·K·H·W·Σ (h·w·C·w/W) operations: with K = 50 on KolektorSDD's 176 × 64 grid 1.1 · 10¹², of which F = 448
numbers a pair would be 5.7 · 10¹².
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.algebra.distance import SIGMA
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.fitting import NO_PICTURES, FeatureMaps, extract_
from jaxsode.peers.correspondence import distances, nearest_pictures
from jaxsode.peers.protocol import Bar, of_size
from jaxsode.pictures import padded
from jaxsode.scoring import anomaly_maps


@dataclass(frozen=True)
class Spade:
    """SPADE's settings.

    Attributes:
        neighbours: K ≥ 1, pictures that one is compared to; the paper uses 50.
        nearest: κ ≥ 1, of their locations, whose distances are averaged.
        sigma: ≥ 0, of the anomaly map's Gaussian filter, in pixels.

    Raises:
        ArgumentError: a value out of its range.
    """

    neighbours: int = 50
    nearest: int = 1
    sigma: float = SIGMA

    def __post_init__(self) -> None:
        for name in ("neighbours", "nearest"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ArgumentError(f"{name} = {value!r}: give a whole number, at least 1")
        if not isinstance(self.sigma, Real) or not 0 <= self.sigma < np.inf:
            raise ArgumentError(f"sigma = {self.sigma!r}: give a number, at least 0")

    def __str__(self) -> str:
        return f"spade-K{self.neighbours}" + ("" if self.nearest == 1 else f"-nearest{self.nearest}")

    def page(self) -> dict[str, Any]:
        """The settings, as JSON holds them."""
        return {"method": "spade", **asdict(self)}

    def keeps(self, pictures: int, *, numbers: int, pixels: int) -> int:
        """See `Peer.keeps`: the features of all, in float32."""
        return 4 * pictures * numbers

    def fit(self, batches: Iterable[Any], backbone: Backbone, /, *, bar: Bar | None = None) -> "SpadeModel":
        """Keep the features of good pictures, in one pass.

        Args:
            batches, backbone: see `Peer.fit`.
            bar: stays closed: nothing is done but to go through the pictures.

        Returns:
            The model.

        Raises:
            ArgumentError: fewer pictures than `neighbours`, locations than `nearest`, or of different sizes.
            DataError: no pictures.
            NumericalError: a picture whose features are not finite.
        """
        gallery: list[tuple[np.ndarray, ...]] = []
        pooled: list[np.ndarray] = []
        size = None
        for pixels, valid in padded(batches):
            size = (pixels.shape[1], pixels.shape[2])
            maps = extract_(backbone, pixels)
            pooled.append(np.asarray(_pooled(maps))[:valid])
            kept = [np.asarray(m) for m in maps]
            gallery += [tuple(m[row] for m in kept) for row in range(valid)]
        if size is None or not gallery:
            raise DataError(NO_PICTURES)
        of_all = np.concatenate(pooled)
        if (broken := ~np.isfinite(of_all).all(axis=1)).any():
            raise NumericalError(
                f"the features of good picture {broken.argmax()} are not finite: check it and the weights"
            )
        if self.neighbours > len(gallery):
            raise ArgumentError(
                f"neighbours = {self.neighbours} with {len(gallery)} good pictures: give at most as many"
            )
        H, W = gallery[0][0].shape[:2]
        if self.nearest > self.neighbours * H * W:
            raise ArgumentError(
                f"nearest = {self.nearest} of {self.neighbours} pictures' {H} × {W} locations: give fewer"
            )
        return SpadeModel(backbone, self, tuple(gallery), of_all, size)


@dataclass(frozen=True)
class SpadeModel:
    """The features of good pictures.

    Attributes:
        backbone: pictures → feature maps.
        settings: K, κ and σ.
        gallery: for each good picture a (h, w, C) array for each scale, in host memory.
        pooled: (N, F) their means over each scale's grid.
        size: (height, width) of the pictures.
    """

    backbone: Backbone
    settings: Spade
    gallery: tuple[tuple[np.ndarray, ...], ...]
    pooled: np.ndarray
    size: tuple[int, int]

    def anomaly_map(self, pictures: Any, /) -> jax.Array:
        """(N, height, width), see `Model.anomaly_map`; distances, ≥ 0."""
        maps = extract_(self.backbone, of_size(pictures, self.size))
        neighbours = np.asarray(nearest_pictures(_pooled(maps), self.pooled, self.settings.neighbours))
        found = []
        for row, near in enumerate(neighbours):
            gallery = tuple(np.stack(scale) for scale in zip(*(self.gallery[n] for n in near), strict=True))
            found.append(distances(tuple(m[row] for m in maps), gallery, self.settings.nearest))
        return anomaly_maps(jnp.stack(found), self.size, float(self.settings.sigma))

    def page(self) -> dict[str, Any]:
        """See `Model.page`: K, κ, σ, how many good pictures, and the grid."""
        return self.settings.page() | {
            "pictures": len(self.gallery),
            "grid": list(self.gallery[0][0].shape[:2]),
        }


@jax.jit
def _pooled(maps: FeatureMaps) -> jax.Array:
    """Means over each scale's grid, (N, F)."""
    return jnp.concatenate([jnp.mean(m, axis=(1, 2)) for m in maps], axis=1)
