"""Embedded features of test pictures → distances → anomaly maps, for a batch at once."""

from functools import partial

import jax

from jaxsode import algebra
from jaxsode.algebra import over_grid


@jax.jit
def distances(z: jax.Array, mean: jax.Array, whitener: jax.Array) -> jax.Array:
    """The Mahalanobis distance at each location of each picture.

    Args:
        z: (N, H, W, k) embedded features.
        mean: (H, W, k).
        whitener: (H, W, k, k).

    Returns:
        (N, H, W).
    """
    return jax.vmap(over_grid(algebra.mahalanobis), in_axes=(0, None, None))(z, mean, whitener)


@partial(jax.jit, static_argnums=(1, 2))
def anomaly_maps(distance: jax.Array, size: tuple[int, int], sigma: float) -> jax.Array:
    """`algebra.anomaly_map` of each picture.

    Args:
        distance: (N, H, W).
        size: (height, width) of the pictures.
        sigma: of the Gaussian filter, in pixels.

    Returns:
        (N, height, width).
    """
    return jax.vmap(lambda d: algebra.anomaly_map(d, size, sigma=sigma))(distance)
