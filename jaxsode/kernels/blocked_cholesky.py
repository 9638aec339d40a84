"""A = LLᵀ → L⁻¹ of many matrices, with nearly all of the work in batched matrix products.

Libraries factorise a batch of small matrices one by one. Here the batch goes through every step at once: a
matrix is halved until its diagonal blocks are small, and those are eliminated column by column with the batch
along the vector lanes. Plain JAX: it runs on a CPU, a GPU and a TPU alike.

About 4/3·k³ operations a matrix against the 2/3·k³ that are needed: products of triangles are not cut short.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float

LEAF_SIZE = 32
"""Diagonal blocks up to this size are eliminated column by column."""

# XLA unrolls loops up to this length on a CPU instead of vectorising them, which is ten times slower.
_SHORT = 32


def eliminate_columns(A: Float[Array, "B m m"]) -> Float[Array, "B m m"]:
    """L⁻¹ of B small matrices, one column after the other: Gaussian elimination of A | I in place.

    Dividing every pivot row by the root of its pivot makes the left half Lᵀ and the right half L⁻¹. Column j
    of the right half comes to be when column j of the left half has become zero, so one array holds both.

    Args:
        A: (B, m, m) symmetric positive definite.

    Returns:
        (B, m, m) lower triangular; NaN from the first pivot on that is not positive.
    """
    m = A.shape[-1]
    # The innermost axis is the one that is vectorised, if it is long enough: the columns or the batch.
    by_rows = m > _SHORT
    X = A[:, :, :, None] if by_rows else jnp.transpose(A, (1, 2, 0))[None]
    row = jnp.arange(m)[None, :, None, None]
    column = jnp.arange(m)[None, None, :, None]

    def step(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        # Subtracts the pivot row j − 1, then reads and scales row j: few, simple parts, each of which the
        # compiler vectorises. With the pivot row read in the step that subtracts it, it doesn't.
        X, pivot_row = state
        previous = j - 1
        # By symmetry the pivot row is the pivot column, too.
        pivot_column = jnp.swapaxes(pivot_row, 1, 2)
        rest = jnp.where(column == previous, 0, X) - pivot_column * pivot_row
        X = jnp.where(row > previous, rest, jnp.where(row == previous, pivot_row, X))
        next_row = jax.lax.dynamic_slice_in_dim(X, j, 1, axis=1)
        pivot = jax.lax.dynamic_slice_in_dim(next_row, j, 1, axis=2)
        scale = jnp.where(pivot > 0, jax.lax.rsqrt(pivot), jnp.nan)
        return X, jnp.where(column == j, 1, next_row) * scale

    # One step more than columns: the first has nothing to subtract, what the last one reads is not used.
    X, _ = jax.lax.fori_loop(0, m + 1, step, (X, jnp.zeros_like(X[:, :1])))
    return jnp.tril(X[..., 0] if by_rows else jnp.transpose(X[0], (2, 0, 1)))


def blocked_inverse_cholesky(
    A: Float[Array, "B k k"],
    *,
    leaf: Callable[[Array], Array] = eliminate_columns,
    leaf_size: int = LEAF_SIZE,
) -> Float[Array, "B k k"]:
    """L⁻¹ of B matrices by halving: with M₁ of A₁₁ and M₂ of A₂₂ − L₂₁L₂₁ᵀ, L₂₁ᵀ = M₁A₁₂, M₂₁ = −M₂L₂₁M₁.

    Args:
        A: (B, k, k) symmetric positive definite.
        leaf: L⁻¹ of matrices up to the leaf size.
        leaf_size: halve what is larger, ≥ 4.

    Returns:
        (B, k, k) lower triangular; NaN from the first pivot on that is not positive.
    """
    k = A.shape[-1]
    if k <= leaf_size:
        return leaf(A)
    half = -(-k // 8) * 4  # a multiple of 4, for the vector lanes
    M1 = blocked_inverse_cholesky(A[:, :half, :half], leaf=leaf, leaf_size=leaf_size)
    upper = _product(M1, A[:, :half, half:])
    # The barrier has the transpose written out: merged into the products it slows them down on a CPU.
    negative = jax.lax.optimization_barrier(-jnp.swapaxes(upper, 1, 2))
    rest = A[:, half:, half:] + _product(negative, upper)
    M2 = blocked_inverse_cholesky(rest, leaf=leaf, leaf_size=leaf_size)
    M21 = _product(M2, _product(negative, M1))
    return jnp.concatenate(
        [jnp.concatenate([M1, jnp.zeros_like(upper)], axis=2), jnp.concatenate([M21, M2], axis=2)], axis=1
    )


def _product(a: Float[Array, "B i j"], b: Float[Array, "B j l"]) -> Float[Array, "B i l"]:
    return jnp.einsum("bij,bjl->bil", a, b, precision=jax.lax.Precision.HIGHEST)
