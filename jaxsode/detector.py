"""The detector: a backbone and the algebra, joined. Fit on good pictures, then score any picture.

Memory while fitting, whatever the number of pictures: H·W·k² numbers for the scatter, which its factor
replaces in place, H·W·k for each of the `GROUP` pictures embedded before an update, and what the backbone
needs for one batch. Memory while scoring: H·W·k² for the whitener, and one batch.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsode.algebra import Moments
from jaxsode.algebra.distance import SIGMA
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import ArgumentError, DataError
from jaxsode.fitting import (
    NO_PICTURES,
    FeatureMaps,
    accumulate,
    check_range,
    embed,
    embedding_matrix,
    factorise,
    over_rows,
)
from jaxsode.pictures import checked, own, padded
from jaxsode.scoring import anomaly_maps, distances


@dataclass(frozen=True)
class Settings:
    """How a detector was fitted, as far as its arrays don't tell.

    Attributes:
        size: (height, width) of the pictures.
        embedding: its name, or "given" for a W from elsewhere.
        epsilon: ε, added to the diagonal of the covariance.
        sigma: of the Gaussian filter, in pixels.
        seed: of W; None where W was given.
        pictures: N, how many it was fitted on.
    """

    size: tuple[int, int]
    embedding: str
    epsilon: float
    sigma: float
    seed: int | None
    pictures: int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Detector:
    """A fitted detector. A pytree: it goes through jit, sharding and a program of your own as it is.

    Attributes:
        backbone: pictures → feature maps, see `jaxsode.backbones.protocol.Backbone`.
        W: (F, k) the embedding.
        mean: (H, W, k) μ.
        whitener: (H, W, k, k) M, lower triangular.
        settings: how it was fitted.
    """

    backbone: Backbone
    W: jax.Array
    mean: jax.Array
    whitener: jax.Array
    settings: Settings = field(metadata={"static": True})

    @classmethod
    def fit(
        cls,
        batches: Iterable[Any],
        backbone: Backbone,
        *,
        k: int = 100,
        embedding: str = "semi-orthogonal",
        epsilon: float = 0.01,
        seed: int = 0,
        sigma: float = SIGMA,
        W: jax.Array | None = None,
        mesh: Mesh | None = None,
    ) -> Self:
        """Fit on good pictures, in one pass.

        Args:
            batches: of pictures, (N, height, width, 3 or 1), uint8 or float in [0, 1]; or the `Batch`es of
                `jaxsode.datasets`. None may exceed the first in number; smaller ones are padded.
            backbone: see `jaxsode.load_backbone`, or one of your own.
            k: the embedding size.
            embedding: one of `jaxsode.EMBEDDINGS`.
            epsilon: ε > 0.
            seed: of W.
            sigma: of the Gaussian filter of the anomaly map, in pixels.
            W: an (F, k) embedding of your own; k, embedding and seed are then not used.
            mesh: of devices. Its axis `locations` shards the detector over the rows of the grid, its axis
                `pictures` the backbone's work over each batch; either may be missing.

        Returns:
            The fitted detector.

        Raises:
            ArgumentError: a setting out of range, or pictures of different sizes.
            DataError: no pictures.
            NumericalError: the covariance at some location can't be factorised.
        """
        ready = padded(batches)
        first = next(ready, None)
        if first is None:
            raise DataError(NO_PICTURES)
        size = (first[0].shape[1], first[0].shape[2])
        features = (
            (_extract(backbone, _dealt_out(pictures, mesh)), valid)
            for pictures, valid in chain([first], ready)
        )
        return cls.fit_features(
            features,
            backbone,
            size=size,
            k=k,
            embedding=embedding,
            epsilon=epsilon,
            seed=seed,
            sigma=sigma,
            W=W,
            mesh=mesh,
        )

    @classmethod
    def fit_features(
        cls,
        batches: Iterable[tuple[FeatureMaps, int]],
        backbone: Backbone,
        *,
        size: tuple[int, int],
        k: int = 100,
        embedding: str = "semi-orthogonal",
        epsilon: float = 0.01,
        seed: int = 0,
        sigma: float = SIGMA,
        W: jax.Array | None = None,
        mesh: Mesh | None = None,
    ) -> Self:
        """Fit on feature maps that were extracted before, as `fit` does on pictures.

        Args:
            batches: pairs of feature maps, as `extract` gives them, and how many of their first rows count.
                All batches have as many rows.
            backbone: that made them.
            size: (height, width) of the pictures.
            k, embedding, epsilon, seed, sigma, W, mesh: see `fit`.

        Returns:
            The fitted detector.

        Raises:
            ArgumentError, DataError, NumericalError: see `fit`.
        """
        check_range(epsilon, sigma)
        F = sum(backbone.channels)
        if W is None:
            matrix = embedding_matrix(embedding, seed, F, k)
            origin = {"embedding": embedding, "seed": seed}
        else:
            matrix, origin = jnp.asarray(own(W)), {}
            if W.ndim != 2 or W.shape[0] != F:
                raise ArgumentError(f"W has shape {W.shape}: the backbone's {F} features want ({F}, k)")
        sharding = over_rows(mesh) if mesh is not None and "locations" in mesh.axis_names else None
        embedded = ((embed(matrix, tuple(map(own, maps))), valid) for maps, valid in batches)
        moments = accumulate(embedded, sharding=sharding)
        return cls.of_moments(moments, backbone, matrix, size=size, epsilon=epsilon, sigma=sigma, **origin)

    @classmethod
    def of_moments(
        cls,
        moments: Moments,
        backbone: Backbone,
        W: jax.Array,
        *,
        size: tuple[int, int],
        embedding: str = "given",
        epsilon: float = 0.01,
        seed: int | None = None,
        sigma: float = SIGMA,
    ) -> Self:
        """The detector of moments that `accumulate` gathered, here or in parts that were merged.

        Args:
            moments: on the grid, (H, W, …). Their scatter is used up: the whitener takes its memory.
            backbone, W: that the moments were gathered with.
            size: (height, width) of the pictures.
            embedding, seed: what W is, for the record.
            epsilon, sigma: see `fit`.

        Returns:
            The fitted detector.

        Raises:
            ArgumentError: epsilon or sigma out of range.
            NumericalError: the covariance at some location can't be factorised.
        """
        check_range(epsilon, sigma)
        count, mean = int(moments.count[0, 0]), moments.mean
        whitener = factorise(moments, epsilon)
        seed = None if seed is None else int(seed)
        settings = Settings(size, embedding, float(epsilon), float(sigma), seed, count)
        return cls(backbone, W, mean, whitener, settings)

    def anomaly_map(self, pictures: Any) -> jax.Array:
        """The Mahalanobis distance at each pixel, upsampled and smoothed (§4).

        Args:
            pictures: (N, height, width, 3 or 1) of the size that the detector was fitted on, uint8 or float
                in [0, 1]. Each N is compiled once: keep it the same from call to call.

        Returns:
            (N, height, width) float32, ≥ 0; NaN at least where a pixel is not finite.

        Raises:
            ArgumentError: pictures of another shape or type.
        """
        pictures = checked(pictures)
        if pictures.shape[1:3] != self.settings.size:
            raise ArgumentError(
                f"pictures are {_by(pictures.shape[1:3])} and the detector was fitted on "
                f"{_by(self.settings.size)}: resize them"
            )
        return self.anomaly_map_of_features(_extract(self.backbone, pictures))

    def anomaly_map_of_features(self, feature_maps: FeatureMaps) -> jax.Array:
        """`anomaly_map` of feature maps that `extract` gave before.

        Args:
            feature_maps: a (N, h, w, C) array for each scale.

        Returns:
            (N, height, width) float32.
        """
        feature_maps = tuple(map(own, feature_maps))
        return _score(self.W, self.mean, self.whitener, feature_maps, self.settings.size, self.settings.sigma)

    def save(self, path: str | Path) -> None:
        """Write the detector into a new folder, all of it or nothing; see `jaxsode.checkpoint.save`."""
        from jaxsode import checkpoint

        checkpoint.save(self, path)

    @classmethod
    def load(cls, path: str | Path, *, backbone: Backbone | None = None) -> "Detector":
        """Read a detector that `save` wrote; see `jaxsode.checkpoint.load`."""
        from jaxsode import checkpoint

        return checkpoint.load(path, backbone=backbone)


def extract(backbone: Backbone, pictures: np.ndarray | jax.Array) -> FeatureMaps:
    """Feature maps of pictures.

    Args:
        backbone: see `Backbone`.
        pictures: (N, height, width, 3 or 1), uint8 or float in [0, 1]; grey is repeated to three channels.

    Returns:
        A (N, h, w, C) array for each scale, finest first; NaN around a pixel that is not finite.
    """
    return _extract(backbone, own(pictures))


@jax.jit
def _extract(backbone: Backbone, pictures: jax.Array) -> FeatureMaps:
    x = pictures.astype(jnp.float32)
    # An infinite pixel is made NaN: an activation that saturates would make a finite feature of it.
    x = x / 255 if pictures.dtype == jnp.uint8 else jnp.where(jnp.isfinite(x), x, jnp.nan)
    return backbone(jnp.broadcast_to(x, (*x.shape[:3], 3)))


@jax.jit(static_argnums=(4, 5))
def _score(
    W: jax.Array,
    mean: jax.Array,
    whitener: jax.Array,
    maps: FeatureMaps,
    size: tuple[int, int],
    sigma: float,
) -> jax.Array:
    return anomaly_maps(distances(embed(W, maps), mean, whitener), size, sigma)


def _dealt_out(pictures: np.ndarray | jax.Array, mesh: Mesh | None) -> np.ndarray | jax.Array:
    """The batch, spread over the mesh's axis `pictures`; if it has none, whole on every device."""
    if mesh is None:
        return pictures
    axis = "pictures" if "pictures" in mesh.axis_names else None
    if axis is not None and len(pictures) % mesh.shape[axis]:
        raise ArgumentError(
            f"a batch of {len(pictures)} pictures doesn't divide among the {mesh.shape[axis]} devices along "
            "the mesh's axis 'pictures': give batches that do"
        )
    return jax.device_put(pictures, NamedSharding(mesh, PartitionSpec(axis)))


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]} × {size[1]}"
