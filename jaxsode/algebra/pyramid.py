"""Feature maps of several scales → one embedded vector at each location of the finest grid.

W's rows split by scale, and nearest-neighbour upsampling acts on every channel alike. So each scale can be
projected on its own small grid, and only its k numbers a location are upsampled:

    Wᵀ · concat(up(x₁), up(x₂), up(x₃)) = up(W₁ᵀx₁) + up(W₂ᵀx₂) + up(W₃ᵀx₃)

No H × W × F tensor is ever formed.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode._typing import Array, Float
from jaxsode.errors import ArgumentError


def project_then_align(
    feature_maps: Sequence[Float[Array, "... _ _ _"]], W: Float[Array, "F k"]
) -> Float[Array, "... H W k"]:
    """z = Wᵀx at each location of the finest grid (Eq. 2), x being all scales concatenated.

    Args:
        feature_maps: a (…, h, w, C) array for each scale, finest first; the channels add up to F.
        W: (F, k), the embedding.

    Returns:
        (…, H, W, k) on the grid of the first scale.

    Raises:
        ArgumentError: the channels don't add up to F, or a later scale is finer than the first.
    """
    channels = [x.shape[-1] for x in feature_maps]
    if sum(channels) != W.shape[0]:
        raise ArgumentError(
            f"W has {W.shape[0]} rows and the feature maps {sum(channels)} channels: they must agree"
        )
    H, width = feature_maps[0].shape[-3:-1]
    ends = np.cumsum(channels)
    scales = [W[end - c : end] for end, c in zip(ends, channels, strict=True)]
    return sum(
        (
            align(_project(x, W_scale), (H, width))
            for x, W_scale in zip(feature_maps[1:], scales[1:], strict=True)
        ),
        start=_project(feature_maps[0], scales[0]),
    )


def align(x: Float[Array, "... h w c"], grid: tuple[int, int]) -> Float[Array, "... H W c"]:
    """Nearest-neighbour upsampling: location i of the grid takes source ⌊i · h / H⌋, for any two grids.

    Args:
        x: (…, h, w, c).
        grid: (H, W), at least (h, w).

    Returns:
        (…, H, W, c).

    Raises:
        ArgumentError: the grid is smaller than x.
    """
    return _repeat(_repeat(x, grid[0], x.ndim - 3), grid[1], x.ndim - 2)


def _project(x: Float[Array, "... h w C"], W: Float[Array, "C k"]) -> Float[Array, "... h w k"]:
    return jnp.einsum("...c,ck->...k", x, W, precision=jax.lax.Precision.HIGHEST)


def _repeat(x: Array, size: int, axis: int) -> Array:
    source = x.shape[axis]
    if size < source:
        raise ArgumentError(
            f"a feature map of {source} along axis {axis} is finer than the first scale's {size}"
        )
    if size % source == 0:
        return jnp.repeat(x, size // source, axis=axis)
    return jnp.take(x, np.arange(size) * source // size, axis=axis)
