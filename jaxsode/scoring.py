"""Embedded features of test pictures → distances → anomaly maps, for a batch at once."""

from functools import partial
from typing import Any

import jax

from jaxsode import algebra, kernels
from jaxsode.algebra import over_grid
from jaxsode.algebra.distance import root
from jaxsode.algebra.precision import Shared, Triangle


@jax.jit
def distances(z: jax.Array, mean: jax.Array, precision: Any) -> jax.Array:
    """The Mahalanobis distance at each location of each picture.

    Args:
        z: (N, H, W, k) embedded features.
        mean: (H, W, k); or (k,), where one set of all locations was fitted.
        precision: of each location, its leaves (H, W, …); or `Shared`, one for all.

    Returns:
        (N, H, W).
    """
    if isinstance(precision, Shared):
        of_one = over_grid(precision.one.distance, in_axes=(0, 0 if mean.ndim == 3 else None))
        return jax.vmap(of_one, in_axes=(0, None))(z, mean)
    if isinstance(precision, Triangle):
        squared = _over_locations(lambda z, mean, some: Triangle(panels=some).squared_distances(z, mean))
        return root(kernels.squared_distances(z, mean, precision.panels, plain=squared))
    return _over_locations(lambda z, mean, precision: precision.distances(z, mean))(z, mean, precision)


_over_locations = partial(over_grid, in_axes=(1, 0, 0), out_axes=1)


@partial(jax.jit, static_argnums=(1, 2))
def anomaly_maps(
    distance: jax.Array, size: tuple[int, int], sigma: float, ignored: jax.Array | None = None
) -> jax.Array:
    """`algebra.distance.anomaly_map` of each picture; or `anomaly_map_without` what is ignored.

    Args:
        distance: (N, H, W).
        size: (height, width) of the pictures.
        sigma: of the Gaussian filter, in pixels.
        ignored: (height, width) bool, True where no picture matters; None where all do.

    Returns:
        (N, height, width); NaN where it is ignored.
    """
    if ignored is not None:
        return jax.vmap(lambda d: algebra.distance.anomaly_map_without(d, ignored, sigma=sigma))(distance)
    return jax.vmap(lambda d: algebra.distance.anomaly_map(d, size, sigma=sigma))(distance)
