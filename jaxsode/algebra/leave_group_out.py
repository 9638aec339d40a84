"""What the distances of several fitted pictures would be had none of them been fitted on: exactly, no refit.

Frames of one video, or parts of one unit, tell of each other: leaving out one alone calls unseen what its
neighbours show. Taking m of N pictures out of the moments is a change of rank m. With the deviations
D = (δ₁ … δ_m) from the mean of all, N' = N − m and 1 the vector of m ones,

    the mean of the others     μ − D1/N'
    their covariance           C₋ = (N/N')C − D B Dᵀ,    B = (I + 11ᵀ/N')/N',    B⁻¹ = N'(I − 11ᵀ/N)

so that with M the whitener of (1 − α)C + (N'/N)(αC̄ + εI), K = (N'/N)(MD)ᵀMD and uᵢ = eᵢ + 1/N', Woodbury's
formula gives the squared distance of picture i to the model of the others as the sum of two terms that can't
be negative:

    dᵢ² = uᵢᵀK uᵢ + (1 − α) uᵢᵀK (B⁻¹ − (1 − α)K)⁻¹ K uᵢ

For m = 1 it is `leave_one_out`'s. C̄ is taken as fixed, as there.
"""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from jaxsode._typing import Array, Float, Int
from jaxsode.algebra import precision
from jaxsode.algebra.leave_one_out import TRUSTED


def added(what: float | Float[Array, "*k"], count: int | Int[Array, ""], members: int) -> Float[Array, "*k"]:
    """ε N'/N: what is added to C, so that C + ε(N'/N)I is C₋ + εI up to a scale and a change of rank m.

    Args:
        what: ε > 0, the detector's; or the C̄ that is added to C.
        count: N.
        members: m.

    Returns:
        As `what`. NaN where m ≥ N.
    """
    N = jnp.asarray(count, jnp.result_type(float))
    part = 1 - members / jnp.where(members < N, N, jnp.nan)
    return what * (part.astype(what.dtype) if isinstance(what, jax.Array) else part)


def whitener(
    covariance: Float[Array, "k k"],
    count: int | Int[Array, ""],
    members: int,
    epsilon: float | Float[Array, ""],
    *,
    shrinkage: float | Float[Array, ""] = 0.0,
    shared: Float[Array, "k k"] | None = None,
) -> Float[Array, "k k"]:
    """M = L⁻¹ of (1 − α)C + (N'/N)(αC̄ + εI) = LLᵀ, for `distances`.

    Args:
        covariance: (k, k), C of all N pictures, divided by N.
        count: N.
        members: m, how many are left out together.
        epsilon: ε > 0, the detector's.
        shrinkage: α, from 0 to 1.
        shared: (k, k) C̄; None where α = 0.

    Returns:
        M, (k, k) lower triangular. NaN where m ≥ N.
    """
    if shared is not None:
        covariance = precision.blended(covariance, added(shared, count, members), shrinkage)
    return precision.whitener(covariance, jnp.asarray(added(epsilon, count, members), covariance.dtype))


def distances(
    z: Float[Array, "m k"],
    mean: Float[Array, " k"],
    count: int | Int[Array, ""],
    whitener: Float[Array, "k k"],
    *,
    shrinkage: float | Float[Array, ""] = 0.0,
) -> Float[Array, " m"]:
    """The Mahalanobis distances of m of the N pictures to the model of the other N − m.

    Args:
        z: (m, k) their embedded feature vectors.
        mean: (k,) μ, of all N.
        count: N.
        whitener: (k, k) M, of this page's `whitener` with this m.
        shrinkage: α that it was made with.

    Returns:
        (m,) d ≥ 0. NaN where m ≥ N, where they are too far to have been among the N, and where float rounding
        leaves nothing, see `leave_one_out.TRUSTED`.
    """
    m, dtype = len(z), z.dtype
    N = jnp.asarray(count, dtype)
    others = jnp.where(m < N, N - m, jnp.nan)
    beta = 1 - jnp.asarray(shrinkage, dtype)
    V = jnp.einsum("kl,ml->km", whitener, z - mean[None], precision="highest")
    K = jnp.einsum("ki,kj->ij", V, V, precision="highest") * (others / N)
    U = jnp.eye(m, dtype=dtype) + 1 / others
    S = others * (jnp.eye(m, dtype=dtype) - 1 / N) - beta * K
    L = jnp.linalg.cholesky(S)
    KU = jnp.einsum("ij,jn->in", K, U, precision="highest")
    first = jnp.sum(jnp.einsum("ki,in->kn", V, U, precision="highest") ** 2, axis=0) * (others / N)
    second = beta * jnp.sum(solve_triangular(L, KU, lower=True) ** 2, axis=0)
    trusted = jnp.min(jnp.diagonal(L)) ** 2 > TRUSTED * jnp.finfo(dtype).eps * others
    return jnp.where(trusted, jnp.sqrt(first + second), jnp.nan)
