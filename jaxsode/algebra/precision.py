"""C + εI → whitener.

The precision P = (C + εI)⁻¹ is never formed: with C + εI = LLᵀ and M = L⁻¹, (z−μ)ᵀP(z−μ) = ‖M(z−μ)‖². M is
half the numbers of P, and the distance can't come out imaginary.
"""

import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.algebra.cholesky import inverse_cholesky


def whitener(covariance: Float[Array, "k k"], epsilon: float | Float[Array, ""]) -> Float[Array, "k k"]:
    """M = L⁻¹ of C + εI = LLᵀ (§2.2): it turns z − μ into a vector of unit covariance.

    Args:
        covariance: (k, k), C.
        epsilon: ε > 0; the paper uses 0.01 (0.3 for mSTC).

    Returns:
        M, (k, k) lower triangular, with MᵀM = (C + εI)⁻¹. NaN where C + εI is not positive definite.
    """
    k = covariance.shape[-1]
    return inverse_cholesky(covariance + epsilon * jnp.eye(k, dtype=covariance.dtype))
