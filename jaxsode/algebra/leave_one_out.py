"""What a fitted picture's distance would be had it not been fitted on: exactly, without a refit.

Taking one of N pictures out of the moments is a change of rank one, so Sherman and Morrison's formula gives
the distance to the model of the others. With δ = z − μ, of all N, and g = δᵀ(C + ε(1 − 1/N)I)⁻¹δ,

    d² = N/(N−1) · g / (1 − g/(N−1))
    log det(C₋ + εI) = log det(C + ε(1 − 1/N)I) + k log(N/(N−1)) + log(1 − g/(N−1))

C₋ being the covariance of the others, divided by N − 1. The ε in g is not the detector's: scores of its own
pictures as if unseen take one more factorisation, and one more pass over them.
"""

import jax.numpy as jnp

from jaxsode._typing import Array, Float, Int
from jaxsode.algebra import precision
from jaxsode.algebra.distance import mahalanobis

TRUSTED = 512
"""1 − g/(N−1) = 1/(1 + d²/N) is a difference, and one below so many units of rounding is NaN.

The error of d was measured in float32 against refits in float64, over 40,000 pictures left out: N of 10 to
230, k of 10 to 300, ε of 1e-4 to 0.3, one picture up to 1000 standard deviations away. It is 1 to 6 units of
rounding over the difference, so 1e-2 here at the most, as long as λ_max/ε is at most 1e6. Beyond that the
moments' own rounding spoils every distance, left out or not. In float32 what is lost is d > 128 √N.
"""


def whitener(
    covariance: Float[Array, "k k"],
    count: int | float | Int[Array, ""] | Float[Array, ""],
    epsilon: float | Float[Array, ""],
) -> Float[Array, "k k"]:
    """M = L⁻¹ of C + ε(1 − 1/N)I = LLᵀ, the whitener of the functions below.

    Args:
        covariance: (k, k), C of all N pictures, divided by N.
        count: N.
        epsilon: ε > 0, the detector's.

    Returns:
        M, (k, k) lower triangular. NaN where N < 2.
    """
    return precision.whitener(covariance, jnp.asarray(shrunk(epsilon, count), covariance.dtype))


def shrunk(
    epsilon: float | Float[Array, ""], count: int | float | Int[Array, ""] | Float[Array, ""]
) -> Float[Array, ""]:
    """ε(1 − 1/N): with it C + εI is the covariance of the others, C₋ + εI, up to a scale and a rank-one term.

    Args:
        epsilon: ε > 0, the detector's.
        count: N.

    Returns:
        () NaN where N < 2.
    """
    N = jnp.asarray(count, jnp.result_type(float))
    return epsilon * (1 - 1 / jnp.where(N < 2, jnp.nan, N))


def distance(
    z: Float[Array, " k"],
    mean: Float[Array, " k"],
    count: int | float | Int[Array, ""] | Float[Array, ""],
    whitener: Float[Array, "k k"],
) -> Float[Array, ""]:
    """The Mahalanobis distance of one of the N pictures to the model of the other N − 1.

    Args:
        z: (k,) the embedded feature vector of a picture that was fitted on.
        mean: (k,) μ, of all N.
        count: N.
        whitener: (k, k) M, of this page's `whitener`.

    Returns:
        () d ≥ 0. NaN where N < 2, where z is too far to have been among the N, and where float rounding
        leaves nothing of it, see `TRUSTED`. Its gradient at z = μ is 0.
    """
    return corrected(mahalanobis(z, mean, whitener), count)


def log_likelihood(
    z: Float[Array, " k"],
    mean: Float[Array, " k"],
    count: int | float | Int[Array, ""] | Float[Array, ""],
    whitener: Float[Array, "k k"],
) -> Float[Array, ""]:
    """The log-density of one of the N pictures under the Gaussian N(μ₋, C₋ + εI) of the other N − 1.

    −(d² + log det(C₋ + εI) + k log 2π) / 2, with d as of `distance`.

    Args:
        z: (k,) the embedded feature vector of a picture that was fitted on.
        mean: (k,) μ, of all N.
        count: N.
        whitener: (k, k) M, of this page's `whitener`.

    Returns:
        () NaN where the distance is.
    """
    g = mahalanobis(z, mean, whitener) ** 2
    k = z.shape[0]
    others = _others(count, g)
    rest = _rest(g, others)
    d2 = (others + 1) / others * g / rest
    of_all = -2 * jnp.sum(jnp.log(jnp.diagonal(whitener)))
    log_det = of_all + k * jnp.log1p(1 / others) + jnp.log(rest)
    return -(d2 + log_det + k * jnp.log(jnp.asarray(2 * jnp.pi, z.dtype))) / 2


def corrected(
    inside: Float[Array, ""], count: int | float | Int[Array, ""] | Float[Array, ""]
) -> Float[Array, ""]:
    """√g → d: from any precision's distance that was made with ε(1 − 1/N), the dual's for one.

    Args:
        inside: () √g ≥ 0, the distance of one of the N pictures to the model of all.
        count: N.

    Returns:
        () d, see `distance`.
    """
    others = _others(count, inside)
    return inside * jnp.sqrt((others + 1) / (others * _rest(inside**2, others)))


def _others(
    count: int | float | Int[Array, ""] | Float[Array, ""], like: Float[Array, ""]
) -> Float[Array, ""]:
    N = jnp.asarray(count, like.dtype)
    return jnp.where(N < 2, jnp.nan, N - 1)


def _rest(g: Float[Array, ""], others: Float[Array, ""]) -> Float[Array, ""]:
    """1 − g/(N−1), or NaN: never clamped, for what is clamped would be the distance of no picture."""
    rest = 1 - g / others
    return jnp.where(rest > TRUSTED * jnp.finfo(g.dtype).eps, rest, jnp.nan)
