"""The batched factorisation: A = LLᵀ → L⁻¹.

Written for one matrix. `jax.vmap` over it takes the batched algorithm, so a caller who maps over a grid of
locations gets the fast path without asking.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxsode.algebra._typing import Array, Float


@jax.custom_jvp
def inverse_cholesky(A: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """M = L⁻¹ (lower triangular) of A = LLᵀ, so that MᵀM = A⁻¹.

    Args:
        A: (k, k) symmetric positive definite. Only its lower triangle is read.

    Returns:
        M, (k, k) lower triangular; NaN where A is not positive definite.
    """
    return batched_inverse_cholesky(A[None])[0]


@inverse_cholesky.defjvp
def _inverse_cholesky_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # dL = L Φ(M dA Mᵀ), Φ taking the lower triangle and half the diagonal (Murray, 2016); dM = −M dL M.
    (A,), (dA,) = primals, tangents
    M = inverse_cholesky(A)
    inner = M @ ((dA + dA.T) / 2) @ M.T
    phi = jnp.tril(inner) - jnp.diag(jnp.diagonal(inner)) / 2
    return M, -phi @ M


@jax.custom_batching.custom_vmap
def batched_inverse_cholesky(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    """`inverse_cholesky` of B matrices at once.

    Args:
        A: (B, k, k) symmetric positive definite.

    Returns:
        (B, k, k) lower triangular.
    """
    L = jnp.linalg.cholesky(A, symmetrize_input=False)
    identity = jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)
    return jax.lax.linalg.triangular_solve(L, identity, left_side=True, lower=True)


@batched_inverse_cholesky.def_vmap
def _flatten_axes(size: int, batched: Sequence[bool], A: Float[Array, "S B k k"]) -> tuple[Array, bool]:
    # However many axes are mapped over, the algorithm sees one batch.
    del size, batched
    return batched_inverse_cholesky(A.reshape(-1, *A.shape[2:])).reshape(A.shape), True
