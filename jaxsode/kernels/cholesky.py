"""A = LLᵀ → L⁻¹ of a batch: blocked, on a CPU in machine code or several streams; or by a library."""

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels import native
from jaxsode.kernels.blocked_cholesky import blocked_inverse_cholesky
from jaxsode.kernels.streams import in_streams
from jaxsode.kernels.switch import choose

# Compiled once for each size, however many streams call it.
_blocked = jax.jit(blocked_inverse_cholesky, static_argnames=("leaf", "leaf_size"))


def inverse_cholesky(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    """L⁻¹ of B matrices A = LLᵀ.

    Args:
        A: (B, k, k) symmetric positive definite.

    Returns:
        (B, k, k) lower triangular; NaN, on the diagonal at least, of a matrix that is not positive definite.
    """
    return choose(A, plain=plain_inverse_cholesky, cpu=_on_cpu, elsewhere=_blocked)


def plain_inverse_cholesky(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    """The plain twin: a library call for L and another for its inverse.

    Args:
        A: (B, k, k) symmetric positive definite.

    Returns:
        (B, k, k) lower triangular.
    """
    L = jnp.linalg.cholesky(A, symmetrize_input=False)
    identity = jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)
    return jax.lax.linalg.triangular_solve(L, identity, left_side=True, lower=True)


def _on_cpu(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    here = A.dtype == jnp.float32 and isinstance(A.shape[0], int) and not native.varies(A)
    return native.inverse_cholesky(A) if here and native.ready() is not None else _in_words(A)


def _in_words(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    # Measured on two cores of a Zen 3. Small matrices are vectorised across the batch, so many go together;
    # large ones along their own columns, and a few of them are enough. A matrix has at most eight leaves,
    # however large it is, for each leaf is compiled by itself.
    k = A.shape[-1]
    if k <= 128:
        return in_streams(_blocked, A, chunk=max(48, min(256, 50_000 // k**2)), least=40)
    leaf_size = max(68, -(-k // 32) * 4)
    chunk = max(1, min(16, 2_000_000 // k**2))
    return in_streams(lambda matrices: _blocked(matrices, leaf_size=leaf_size), A, chunk=chunk)
