"""How well a location's Gaussian foretells pictures that it was not fitted on: what ε, and α, are chosen by.

Good pictures alone say which ε is right: too small, and what they didn't happen to show counts as impossible;
too large, and the Gaussian says nothing. The mean leave-one-out log-likelihood is highest between, nearly
where the mean squared leave-one-out distance is k, as it would be of pictures truly drawn from it. Both come
without holding a picture out, see `leave_one_out`.
"""

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.algebra import leave_one_out
from jaxsode.algebra.distance import mahalanobis


def of_pictures(
    deviation: Float[Array, "N k"],
    covariance: Float[Array, "k k"],
    epsilon: float | Float[Array, ""],
    *,
    shrinkage: float | Float[Array, ""] = 0.0,
    shared: Float[Array, "k k"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean leave-one-out log-likelihood a dimension, and mean squared distance over k, of one location.

    Args:
        deviation: (N, k) z − μ of each picture.
        covariance: (k, k) C, their mean outer product.
        epsilon: ε > 0.
        shrinkage: α, from 0 to 1.
        shared: (k, k) C̄, taken as fixed; None where α = 0.

    Returns:
        Two (): Σₙ log p₋ₙ(zₙ) / (N·k) and Σₙ d₋ₙ² / (N·k). NaN where a picture has no leave-one-out distance.
    """
    N, k = deviation.shape
    M = leave_one_out.whitener(covariance, N, epsilon, shrinkage=shrinkage, shared=shared)
    inside = jax.vmap(lambda y: mahalanobis(y, jnp.zeros_like(y), M))(deviation)

    def both(inside: Array) -> tuple[Array, Array]:
        density = leave_one_out.log_density(inside, N, M, shrinkage=shrinkage)
        return density, leave_one_out.corrected(inside, N, shrinkage=shrinkage) ** 2

    density, squared = jax.vmap(both)(inside)
    return jnp.mean(density) / k, jnp.mean(squared) / k
