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
    return _inverse_cholesky(A)


@inverse_cholesky.defjvp
def _inverse_cholesky_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # dL = L Φ(M dA Mᵀ), Φ taking the lower triangle and half the diagonal (Murray, 2016); dM = −M dL M.
    (A,), (dA,) = primals, tangents
    M = inverse_cholesky(A)
    inner = M @ ((dA + dA.T) / 2) @ M.T
    phi = jnp.tril(inner) - jnp.diag(jnp.diagonal(inner)) / 2
    return M, -phi @ M


@jax.custom_batching.custom_vmap
def _inverse_cholesky(A: Float[Array, "k k"]) -> Float[Array, "k k"]:
    return batched_inverse_cholesky(A[None])[0]


@_inverse_cholesky.def_vmap
def _inverse_cholesky_vmap(size: int, batched: Sequence[bool], A: Array) -> tuple[Array, bool]:
    del size, batched
    flat = A.reshape(-1, *A.shape[-2:])
    return jax.vmap(_inverse_cholesky_of_batch)(A) if A.ndim > 3 else batched_inverse_cholesky(flat), True


def _inverse_cholesky_of_batch(A: Array) -> Array:
    return batched_inverse_cholesky(A)


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
