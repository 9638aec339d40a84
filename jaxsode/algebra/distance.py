"""The Mahalanobis distance at one location, and the anomaly map made of all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode._typing import Array, Bool, Float

SIGMA = 4.0
"""Standard deviation of the Gaussian filter, in pixels (§4)."""


def mahalanobis(
    z: Float[Array, " k"], mean: Float[Array, " k"], whitener: Float[Array, "m k"]
) -> Float[Array, ""]:
    """d = √((z − μ)ᵀ(C + εI)⁻¹(z − μ)) = ‖M(z − μ)‖ (Eq. 2).

    Args:
        z: (k,) the embedded feature vector.
        mean: (k,) μ.
        whitener: (m, k) M: of C + εI, m = k; or of m eigenvectors.

    Returns:
        () d ≥ 0; NaN where anything that it is made of is NaN. Its gradient at z = μ is 0.
    """
    white = jnp.einsum("ij,j->i", whitener, z - mean, precision=jax.lax.Precision.HIGHEST)
    return root(jnp.sum(white * white))


def root(squared: Float[Array, "..."]) -> Float[Array, "..."]:
    """√ of squared distances.

    Args:
        squared: (…) ≥ 0, or NaN.

    Returns:
        (…) NaN stays NaN. Its gradient at 0 is 0.
    """
    # √ has no derivative at 0; the inner `where` keeps its infinity out of the gradient. What is compared is
    # zero, so that NaN, which is neither zero nor above it, stays what it is.
    zero = squared == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


def anomaly_map(
    distance: Float[Array, "H W"], size: tuple[int, int], *, sigma: float = SIGMA
) -> Float[Array, "height width"]:
    """The distances at the picture's resolution: bilinear, then a Gaussian filter (§4).

    Both are linear and separable, so each axis is one matrix: rows · distance · columnsᵀ.

    Args:
        distance: (H, W).
        size: (height, width) of the picture, at least (H, W).
        sigma: standard deviation of the filter in pixels of the picture, ≥ 0; 0 leaves the filter out.

    Returns:
        (height, width), within the range of the distances.
    """
    rows = jnp.asarray(resampling(distance.shape[0], size[0], sigma), distance.dtype)
    columns = jnp.asarray(resampling(distance.shape[1], size[1], sigma), distance.dtype)
    return jnp.einsum("hi,ij,wj->hw", rows, distance, columns, precision=jax.lax.Precision.HIGHEST)


def anomaly_map_without(
    distance: Float[Array, "H W"],
    ignored: Bool[Array, "height width"],
    *,
    sigma: float = SIGMA,
) -> Float[Array, "height width"]:
    """`anomaly_map` to which what is ignored adds nothing, neither by the upsampling nor by the filter.

    A location counts where the pixel at its centre does. With w its weight, 1 or 0, the map is that of w·d
    over that of w: a normalised convolution (Knutsson and Westin 1993).

    Args:
        distance: (H, W).
        ignored: (height, width), True where the picture doesn't matter.
        sigma: see `anomaly_map`.

    Returns:
        (height, width), within the range of the distances that count; NaN where it is ignored, and where no
        location within reach counts.
    """
    size = (ignored.shape[0], ignored.shape[1])
    rows, columns = (
        ((2 * np.arange(n) + 1) * s) // (2 * n) for n, s in zip(distance.shape, size, strict=True)
    )
    counts = ~ignored[rows][:, columns]
    weight = anomaly_map(counts.astype(distance.dtype), size, sigma=sigma)
    weighted = anomaly_map(jnp.where(counts, distance, 0), size, sigma=sigma)
    judged = ~ignored & (weight > 0)
    return jnp.where(judged, weighted / jnp.where(judged, weight, 1), jnp.nan)


@functools.lru_cache(maxsize=4)  # the two of a size, and of another: of a large picture one has 34 MB
def resampling(source: int, target: int, sigma: float) -> np.ndarray:
    """The (target, source) matrix of bilinear upsampling and Gaussian filtering along one axis, float64.

    Half-pixel centres; the filter is truncated at 4σ, its edges mirrored with the edge pixel repeated.

    Args:
        source: number of locations.
        target: number of pixels.
        sigma: of the filter, in pixels, ≥ 0.

    Returns:
        (target, source) float64; every row sums to 1.
    """
    return _gaussian(target, sigma) @ _bilinear(source, target)


def _bilinear(source: int, target: int) -> np.ndarray:
    position = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
    below = np.floor(position).astype(int)
    fraction = position - below
    matrix = np.zeros((target, source))
    np.add.at(matrix, (np.arange(target), below), 1 - fraction)
    np.add.at(matrix, (np.arange(target), np.minimum(below + 1, source - 1)), fraction)
    return matrix


def _gaussian(size: int, sigma: float) -> np.ndarray:
    if sigma == 0:
        return np.eye(size)
    radius = int(4 * sigma + 0.5)
    shifts = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (shifts / sigma) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((size, size))
    for shift, weight in zip(shifts, kernel, strict=True):
        # Mirroring repeats with period 2 · size: size pixels forth, size back.
        pixel = (np.arange(size) + shift) % (2 * size)
        pixel = np.where(pixel < size, pixel, 2 * size - 1 - pixel)
        np.add.at(matrix, (np.arange(size), pixel), weight)
    return matrix
