"""What a fitted picture's distance would be had it not been fitted on: exactly, without a refit.

Taking one of N pictures out of the moments is a change of rank one, so Sherman and Morrison's formula gives
the distance to the model of the others. With δ = z − μ, of all N, and g = δᵀ(C + ε(1 − 1/N)I)⁻¹δ,

    d² = N/(N−1) · g / (1 − g/(N−1))
    log det(C₋ + εI) = log det(C + ε(1 − 1/N)I) + k log(N/(N−1)) + log(1 − g/(N−1))

C₋ being the covariance of the others, divided by N − 1. The ε in g is not the detector's: scores of its own
pictures as if unseen take one more factorisation, and one more pass over them.

With a covariance that is shrunk towards one that all locations share, (1 − α)C + αC̄, the same holds of

    A = (1 − α)C + (1 − 1/N)(αC̄ + εI),    g = δᵀA⁻¹δ,    d² = N/(N−1) · g / (1 − (1 − α)g/(N−1))

and log det alike. There C̄ is taken as fixed: the picture's own part in it, one of N pictures at one of H·W
locations, stays in. It is exact in all else, and for α = 0 in everything.
"""

import jax
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
    *,
    shrinkage: float | Float[Array, ""] = 0.0,
    shared: Float[Array, "k k"] | None = None,
) -> Float[Array, "k k"]:
    """M = L⁻¹ of (1 − α)C + (1 − 1/N)(αC̄ + εI) = LLᵀ, the whitener of the functions below.

    Args:
        covariance: (k, k), C of all N pictures, divided by N.
        count: N.
        epsilon: ε > 0, the detector's.
        shrinkage: α, from 0 to 1.
        shared: (k, k) C̄; None where α = 0.

    Returns:
        M, (k, k) lower triangular. NaN where N < 2.
    """
    if shared is not None:
        covariance = precision.blended(covariance, shrunk(shared, count), shrinkage)
    return precision.whitener(covariance, jnp.asarray(shrunk(epsilon, count), covariance.dtype))


def shrunk(
    added: float | Float[Array, "*k"], count: int | float | Int[Array, ""] | Float[Array, ""]
) -> Float[Array, "*k"]:
    """ε(1 − 1/N): with it C + εI is the covariance of the others, C₋ + εI, up to a scale and a rank-one term.

    Args:
        added: ε > 0, the detector's; or the C̄ that is added to C.
        count: N.

    Returns:
        As `added`. NaN where N < 2.
    """
    N = jnp.asarray(count, jnp.result_type(float))
    part = 1 - 1 / jnp.where(N < 2, jnp.nan, N)
    return added * (part.astype(added.dtype) if isinstance(added, jax.Array) else part)


def distance(
    z: Float[Array, " k"],
    mean: Float[Array, " k"],
    count: int | float | Int[Array, ""] | Float[Array, ""],
    whitener: Float[Array, "k k"],
    *,
    shrinkage: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """The Mahalanobis distance of one of the N pictures to the model of the other N − 1.

    Args:
        z: (k,) the embedded feature vector of a picture that was fitted on.
        mean: (k,) μ, of all N.
        count: N.
        whitener: (k, k) M, of this page's `whitener`.
        shrinkage: α that it was made with.

    Returns:
        () d ≥ 0. NaN where N < 2, where z is too far to have been among the N, and where float rounding
        leaves nothing of it, see `TRUSTED`. Its gradient at z = μ is 0.
    """
    return corrected(mahalanobis(z, mean, whitener), count, shrinkage=shrinkage)


def log_likelihood(
    z: Float[Array, " k"],
    mean: Float[Array, " k"],
    count: int | float | Int[Array, ""] | Float[Array, ""],
    whitener: Float[Array, "k k"],
    *,
    shrinkage: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """The log-density of one of the N pictures under the Gaussian N(μ₋, C₋ + εI) of the other N − 1.

    −(d² + log det(C₋ + εI) + k log 2π) / 2, with d as of `distance`.

    Args:
        z: (k,) the embedded feature vector of a picture that was fitted on.
        mean: (k,) μ, of all N.
        count: N.
        whitener: (k, k) M, of this page's `whitener`.
        shrinkage: α that it was made with.

    Returns:
        () NaN where the distance is.
    """
    return log_density(mahalanobis(z, mean, whitener), count, whitener, shrinkage=shrinkage)


def log_density(
    inside: Float[Array, ""],
    count: int | float | Int[Array, ""] | Float[Array, ""],
    whitener: Float[Array, "k k"],
    *,
    shrinkage: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """`log_likelihood` from the distance that its whitener gives.

    Args:
        inside: () √g ≥ 0.
        count: N.
        whitener: (k, k) M, of this page's `whitener`.
        shrinkage: α that it was made with.

    Returns:
        () see `log_likelihood`.
    """
    g, k = inside**2, whitener.shape[-1]
    others = _others(count, g)
    rest = _rest(g, others, shrinkage)
    d2 = (others + 1) / others * g / rest
    of_all = -2 * jnp.sum(jnp.log(jnp.diagonal(whitener)))
    log_det = of_all + k * jnp.log1p(1 / others) + jnp.log(rest)
    return -(d2 + log_det + k * jnp.log(jnp.asarray(2 * jnp.pi, g.dtype))) / 2


def corrected(
    inside: Float[Array, ""],
    count: int | float | Int[Array, ""] | Float[Array, ""],
    *,
    shrinkage: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """√g → d: from any precision's distance that was made with ε(1 − 1/N), the dual's for one.

    Args:
        inside: () √g ≥ 0, the distance of one of the N pictures to the model of all.
        count: N.
        shrinkage: α that the precision was made with.

    Returns:
        () d, see `distance`.
    """
    others = _others(count, inside)
    return inside * jnp.sqrt((others + 1) / (others * _rest(inside**2, others, shrinkage)))


def _others(
    count: int | float | Int[Array, ""] | Float[Array, ""], like: Float[Array, ""]
) -> Float[Array, ""]:
    N = jnp.asarray(count, like.dtype)
    return jnp.where(N < 2, jnp.nan, N - 1)


def _rest(
    g: Float[Array, ""], others: Float[Array, ""], shrinkage: float | Float[Array, ""]
) -> Float[Array, ""]:
    """1 − (1 − α)g/(N−1), or NaN: never clamped, for what is clamped would be the distance of no picture."""
    rest = 1 - (1 - shrinkage) * g / others
    return jnp.where(rest > TRUSTED * jnp.finfo(g.dtype).eps, rest, jnp.nan)
