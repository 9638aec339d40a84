import jax.numpy as jnp

from jaxsode.algebra.distance import mahalanobis


def distance(z, mean, count, whitener):
    g = mahalanobis(z, mean, whitener) ** 2
    n = count.astype(g.dtype)
    t = 1 - g / (n - 1)
    return jnp.where(t > 1e-4, jnp.sqrt(n / (n - 1) * g / t), jnp.nan)
