"""The batched factorisation: A = LLᵀ → L⁻¹.

Written for one matrix. `jax.vmap` over it takes the batched algorithm, so a caller who maps over a grid of
locations gets the fast path without asking. Which algorithm that is, `kernels` says.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxsode import kernels
from jaxsode._typing import Array, Float


@jax.custom_jvp
def inverse_cholesky(A: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """M = L⁻¹ (lower triangular) of A = LLᵀ, so that MᵀM = A⁻¹.

    Args:
        A: (k, k) symmetric positive definite.

    Returns:
        M, (k, k) lower triangular; NaN, on the diagonal at least, where A is not positive definite.
    """
    return batched_inverse_cholesky(A[None])[0]


@inverse_cholesky.defjvp
def _inverse_cholesky_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # dL = L Φ(M dA Mᵀ), Φ taking the lower triangle and half the diagonal (Murray, 2016); dM = −M dL M.
    (A,), (dA,) = primals, tangents
    M = inverse_cholesky(A)
    half = jnp.tril(jnp.ones_like(A)) - jnp.eye(A.shape[0], dtype=A.dtype) / 2
    phi = half * _product(M, _product((dA + dA.T) / 2, M.T))
    return M, -_product(phi, M)


def _product(a: Float[Array, "k k"], b: Float[Array, "k k"]) -> Float[Array, "k k"]:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@jax.custom_batching.custom_vmap
def batched_inverse_cholesky(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    """`inverse_cholesky` of B matrices at once.

    Args:
        A: (B, k, k) symmetric positive definite.

    Returns:
        (B, k, k) lower triangular.
    """
    return kernels.inverse_cholesky(A)


@batched_inverse_cholesky.def_vmap
def _flatten_axes(size: int, batched: Sequence[bool], A: Float[Array, "S B k k"]) -> tuple[Array, bool]:
    # However many axes are mapped over, the algorithm sees one batch.
    del size, batched
    return batched_inverse_cholesky(A.reshape(-1, *A.shape[2:])).reshape(A.shape), True
