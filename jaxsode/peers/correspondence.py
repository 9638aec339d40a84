"""Nearest neighbours of pictures and of their locations: the two searches of SPADE.

The squared distance of two locations, features of all scales concatenated, is a sum over scales, and a coarse
scale's part is the same for all locations of the finest grid that share it:

    |x − g|² = |x₁ − g₁|² + up(|x₂ − g₂|²) + up(|x₃ − g₃|²)

So each scale's products are taken on its own small grids and only sums are upsampled: for ResNet-18's layers
1 to 3 of H × W locations a sixth of the work of F = 448 numbers a pair, and no H × W × F tensor.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.algebra.pyramid import align

FeatureMaps = tuple[jax.Array, ...]


@partial(jax.jit, static_argnums=2)
def nearest_pictures(pooled: jax.Array, gallery: jax.Array, neighbours: int) -> jax.Array:
    """The pictures whose pooled features are nearest.

    Args:
        pooled: (B, F) of the pictures that are looked at.
        gallery: (N, F), N ≥ `neighbours`.
        neighbours: K, how many are wanted.

    Returns:
        (B, K) int32, nearest first.
    """
    squared = jax.lax.map(lambda x: jnp.sum((gallery - x[None]) ** 2, axis=1), pooled)
    return jax.lax.top_k(-squared, neighbours)[1]


@partial(jax.jit, static_argnums=2)
def distances(picture: FeatureMaps, gallery: FeatureMaps, nearest: int) -> jax.Array:
    """The mean distance of each location to the nearest ones among all locations of other pictures.

    A row of locations at a time, against one picture after the other: beside the features it holds a few
    times 4·W·H·W bytes. Which are nearest is found with products of centred features; how far they are is
    then computed from differences, of which no digits cancel.

    Args:
        picture: a (h, w, C) array for each scale, finest first, H × W.
        gallery: a (K, h, w, C) array for each scale, of K other pictures.
        nearest: κ ≤ K·H·W, how many distances are averaged.

    Returns:
        (H, W) float32, ≥ 0; NaN where a feature of the location is NaN.
    """
    H, W = picture[0].shape[:2]
    centre = [jnp.mean(g, axis=(0, 1, 2)) for g in gallery]
    centred = [g - c[None, None, None] for g, c in zip(gallery, centre, strict=True)]
    squares = [jnp.sum(g * g, axis=3) for g in centred]
    columns = [np.arange(W) * x.shape[1] // W for x in picture]

    def row(i: jax.Array) -> jax.Array:
        of_row = [x[i * x.shape[0] // H] for x in picture]
        queries = [x - c[None] for x, c in zip(of_row, centre, strict=True)]

        def one_picture(
            best: tuple[jax.Array, jax.Array], other: tuple[jax.Array, list[jax.Array], list[jax.Array]]
        ) -> tuple[tuple[jax.Array, jax.Array], None]:
            number, features, norms = other
            # |x|² is the same for all that a location is compared to.
            far = jnp.zeros((W, H, W, 1), gallery[0].dtype)
            for x, g, n, at in zip(queries, features, norms, columns, strict=True):
                far = far + align(_cross(x, g, n), (H, W))[at]
            near, where = jax.lax.top_k(-far.reshape(W, H * W), min(nearest, H * W))
            near = jnp.concatenate([best[0], near], axis=1)
            where = jnp.concatenate([best[1], where + number * (H * W)], axis=1)
            near, kept = jax.lax.top_k(near, nearest)
            return (near, jnp.take_along_axis(where, kept, axis=1)), None

        none = jnp.full((W, nearest), -jnp.inf, gallery[0].dtype), jnp.zeros((W, nearest), jnp.int32)
        numbers = jnp.arange(gallery[0].shape[0], dtype=jnp.int32)
        (_, where), _ = jax.lax.scan(one_picture, none, (numbers, centred, squares))
        return jnp.mean(_apart(of_row, columns, gallery, where), axis=1)

    return jax.lax.map(row, jnp.arange(H))


def _cross(x: jax.Array, g: jax.Array, squares: jax.Array) -> jax.Array:
    """|g|² − 2 x·g of (w, C) and (h, w', C): (w, h, w', 1)."""
    products = jnp.einsum("qc,hwc->qhw", x, g, precision=jax.lax.Precision.HIGHEST)
    return (squares[None] - 2 * products)[..., None]


def _apart(
    row: list[jax.Array], columns: list[np.ndarray], gallery: FeatureMaps, where: jax.Array
) -> jax.Array:
    """(W, κ) distances of a row's locations to places (W, κ) among the gallery's K·H·W."""
    H, W = gallery[0].shape[1:3]
    number, i, j = where // (H * W), where // W % H, where % W
    squared = jnp.zeros(where.shape, gallery[0].dtype)
    for x, at, g in zip(row, columns, gallery, strict=True):
        there = g[number, i * g.shape[1] // H, j * g.shape[2] // W]
        squared = squared + jnp.sum((x[at][:, None] - there) ** 2, axis=2)
    return jnp.sqrt(squared)
