"""The batched factorisation: A = LLᵀ → L⁻¹.

Written for one matrix. `jax.vmap` over it takes the batched algorithm, so a caller who maps over a grid of
locations gets the fast path without asking. Which algorithm that is depends on the platform it is compiled
for; the referee for all of them is the plain one, a library call for L and another for its inverse.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.algebra.blocked_cholesky import blocked_inverse_cholesky
from jaxsode.algebra.streams import in_streams

# Compiled once for each size, however many streams call it.
_blocked = jax.jit(blocked_inverse_cholesky, static_argnames=("leaf", "leaf_size"))


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
    return jax.lax.platform_dependent(A, cpu=_on_cpu, default=_blocked)


@batched_inverse_cholesky.def_vmap
def _flatten_axes(size: int, batched: Sequence[bool], A: Float[Array, "S B k k"]) -> tuple[Array, bool]:
    # However many axes are mapped over, the algorithm sees one batch.
    del size, batched
    return batched_inverse_cholesky(A.reshape(-1, *A.shape[2:])).reshape(A.shape), True


def plain_inverse_cholesky(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    """`batched_inverse_cholesky` by the platform's library: the referee.

    Args:
        A: (B, k, k) symmetric positive definite.

    Returns:
        (B, k, k) lower triangular.
    """
    L = jnp.linalg.cholesky(A, symmetrize_input=False)
    identity = jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)
    return jax.lax.linalg.triangular_solve(L, identity, left_side=True, lower=True)


def _on_cpu(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    # Measured on two cores of a Zen 3. Small matrices are vectorised across the batch, so many go together;
    # large ones along their own columns, and a few of them are enough. A matrix has at most eight leaves,
    # however large it is, for each leaf is compiled by itself.
    k = A.shape[-1]
    if k <= 128:
        return in_streams(_blocked, A, chunk=max(48, min(256, 50_000 // k**2)), least=40)
    leaf_size = max(68, -(-k // 32) * 4)
    chunk = max(1, min(16, 2_000_000 // k**2))
    return in_streams(lambda matrices: _blocked(matrices, leaf_size=leaf_size), A, chunk=chunk)
