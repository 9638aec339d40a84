"""Feature maps of several scales → one embedded vector at each location of the finest grid.

W's rows split by scale, and upsampling acts on every channel alike. So each scale can be projected on its own
small grid, and only its k numbers a location are upsampled:

    Wᵀ · concat(up(x₁), up(x₂), up(x₃)) = up(W₁ᵀx₁) + up(W₂ᵀx₂) + up(W₃ᵀx₃)

No H × W × F tensor is ever formed. A mean over neighbours is linear too, and is taken of each scale on its
own grid.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode._typing import Array, Float
from jaxsode.errors import ArgumentError

ALIGN = ("nearest", "bilinear")
"""How a coarse scale comes onto the finest grid; the paper's is "nearest"."""


def project_then_align(
    feature_maps: Sequence[Float[Array, "... _ _ _"]],
    W: Float[Array, "F k"],
    *,
    pooling: int | tuple[int, ...] = 1,
    method: str = "nearest",
) -> Float[Array, "... H W k"]:
    """z = Wᵀx at each location of the finest grid (Eq. 2), x being all scales concatenated.

    Args:
        feature_maps: a (…, h, w, C) array for each scale, finest first; the channels add up to F.
        W: (F, k), the embedding.
        pooling: the side of the window that each scale is averaged over, see `pool`; one for all, or one for
            each. 1, as in the paper, averages nothing.
        method: how the coarse scales are upsampled, see `align`.

    Returns:
        (…, H, W, k) on the grid of the first scale.

    Raises:
        ArgumentError: the channels don't add up to F, a later scale is finer than the first, or there are
            more or fewer windows than scales.
    """
    channels = [x.shape[-1] for x in feature_maps]
    if sum(channels) != W.shape[0]:
        raise ArgumentError(
            f"W has {W.shape[0]} rows and the feature maps {sum(channels)} channels: they must agree"
        )
    H, width = feature_maps[0].shape[-3:-1]
    ends = np.cumsum(channels)
    scales = [W[end - c : end] for end, c in zip(ends, channels, strict=True)]
    windows = (pooling,) * len(channels) if isinstance(pooling, int) else pooling
    if len(windows) != len(channels):
        raise ArgumentError(
            f"pooling {windows} for {len(channels)} feature maps: give one window, or one for each"
        )
    z = [_embedded(*scale) for scale in zip(feature_maps, scales, windows, strict=True)]
    return sum((align(part, (H, width), method=method) for part in z[1:]), start=z[0])


def pool(x: Float[Array, "... h w c"], window: int) -> Float[Array, "... h w c"]:
    """The mean over a window × window neighbourhood of each location; at the edges of those that there are.

    Args:
        x: (…, h, w, c).
        window: its side, odd, ≥ 1.

    Returns:
        (…, h, w, c).

    Raises:
        ArgumentError: the window is even, or below 1.
    """
    _check(window)
    return _mean(_mean(x, window, x.ndim - 3), window, x.ndim - 2)


def align(
    x: Float[Array, "... h w c"], grid: tuple[int, int], *, method: str = "nearest"
) -> Float[Array, "... H W c"]:
    """Upsampling onto any finer grid.

    Args:
        x: (…, h, w, c).
        grid: (H, W), at least (h, w).
        method: "nearest": location i of the grid takes source ⌊i · h / H⌋. "bilinear": half-pixel centres,
            edges clamped.

    Returns:
        (…, H, W, c).

    Raises:
        ArgumentError: the grid is smaller than x, or there is no such method.
    """
    if method not in ALIGN:
        raise ArgumentError(f"align {method!r} is unknown: choose one of {', '.join(ALIGN)}")
    for axis, size in zip((x.ndim - 3, x.ndim - 2), grid, strict=True):
        if size < x.shape[axis]:
            raise ArgumentError(
                f"a feature map of {x.shape[axis]} along axis {axis} is finer than the first scale's {size}"
            )
        x = (_repeat if method == "nearest" else _between)(x, size, axis)
    return x


def _embedded(x: Float[Array, "... h w C"], W: Float[Array, "C k"], window: int) -> Float[Array, "... h w k"]:
    """One scale, averaged over rows, projected, and averaged over columns.

    Mean and product commute, so any order would do. One mean right after the other is a single loop to XLA,
    which it doesn't vectorise on a CPU; with the product between them each is a loop of its own.
    """
    _check(window)
    return _mean(_project(_mean(x, window, x.ndim - 3), W), window, x.ndim - 2)


def _project(x: Float[Array, "... h w C"], W: Float[Array, "C k"]) -> Float[Array, "... h w k"]:
    return jnp.einsum("...c,ck->...k", x, W, precision=jax.lax.Precision.HIGHEST)


def _check(window: int) -> None:
    if window < 1 or window % 2 == 0:
        raise ArgumentError(f"a window of {window} locations has no middle: choose an odd number, 1 or 3")


def _mean(x: Array, window: int, axis: int) -> Array:
    if window == 1:
        return x
    reach, size = window // 2, x.shape[axis]

    def of(start: int, stop: int) -> Array:
        return jax.lax.slice_in_dim(x, max(start, 0), min(stop, size), axis=axis)

    # The edges apart: padded, each number would be asked whether it is one.
    parts = [jnp.mean(of(0, i + reach + 1), axis, keepdims=True) for i in range(min(reach, size))]
    if (inner := size - 2 * reach) > 0:
        parts.append(sum((of(i, i + inner) for i in range(1, window)), start=of(0, inner)) / window)
    last = range(max(size - reach, reach), size)
    parts += [jnp.mean(of(i - reach, size), axis, keepdims=True) for i in last]
    return jnp.concatenate(parts, axis)


def _repeat(x: Array, size: int, axis: int) -> Array:
    source = x.shape[axis]
    if size % source == 0:
        return jnp.repeat(x, size // source, axis=axis)
    return jnp.take(x, np.arange(size) * source // size, axis=axis)


def _between(x: Array, size: int, axis: int) -> Array:
    source = x.shape[axis]
    position = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)
    below = np.minimum(np.floor(position).astype(int), max(source - 2, 0))
    above = np.minimum(below + 1, source - 1)
    share = _along(position - below, x, axis)
    return jnp.take(x, below, axis=axis) * (1 - share) + jnp.take(x, above, axis=axis) * share


def _along(values: np.ndarray, x: Array, axis: int) -> Array:
    """A number for each index of an axis, in x's rank and type."""
    return jnp.asarray(values, x.dtype).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
