"""A = LLᵀ → L⁻¹ as a Pallas kernel for NVIDIA GPUs (Triton): one matrix a program, in registers throughout.

Each number of a matrix goes through memory once. Callable by name; `inverse_cholesky` does not choose it,
for no GPU was at hand to measure it on. In interpret mode it runs anywhere, slowly.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.kernels.blocked_cholesky import blocked_inverse_cholesky

LARGEST = 128
"""Up to this size a matrix is one program's; 128² numbers are 64 registers for each of 256 threads."""


def pallas_inverse_cholesky(A: Float[Array, "B k k"], *, interpret: bool = False) -> Float[Array, "B k k"]:
    """L⁻¹ of B matrices. Those of more than 128 rows are halved until the kernel takes them.

    Args:
        A: (B, k, k) symmetric positive definite, float32.
        interpret: run the kernel as plain JAX, on any device.

    Returns:
        (B, k, k) lower triangular; NaN from the first pivot on that is not positive.

    Raises:
        ImportError: this jax comes without Pallas.
    """
    kernel = functools.partial(_kernel_call, interpret=interpret)
    return blocked_inverse_cholesky(A, leaf=kernel, leaf_size=LARGEST)


def _kernel_call(A: Float[Array, "B k k"], *, interpret: bool) -> Float[Array, "B k k"]:
    # Imported here, so that a jax without Pallas has all the rest.
    from jax.experimental import pallas
    from jax.experimental.pallas import triton

    k = A.shape[-1]
    size = 1 << (k - 1).bit_length()  # Triton's arrays have powers of two
    matrix = pallas.BlockSpec((None, size, size), lambda b: (b, 0, 0))
    return pallas.pallas_call(
        functools.partial(_kernel, k, triton),
        out_shape=jax.ShapeDtypeStruct(A.shape, A.dtype),
        grid=(A.shape[0],),
        in_specs=[matrix],
        out_specs=matrix,
        compiler_params=triton.CompilerParams(num_warps=max(1, min(8, size * size // 2048)), num_stages=1),
        interpret=interpret,
        name="inverse_cholesky",
    )(A)


def _kernel(k: int, triton: Any, A: Any, M: Any) -> None:
    """`eliminate_columns` of one matrix. Registers can't be indexed: rows and columns are masked sums."""
    size = A.shape[-1]
    row = jax.lax.broadcasted_iota(jnp.int32, (size, size), 0)
    column = jax.lax.broadcasted_iota(jnp.int32, (size, size), 1)
    inside = (row < k) & (column < k)
    # Beyond the matrix stands an identity, which elimination leaves alone.
    X = jnp.where(inside, triton.load(A, mask=inside, other=0.0), jnp.where(row == column, 1.0, 0.0))

    def step(j: Array, X: Array) -> Array:
        pivot_row = jnp.sum(jnp.where(row == j, X, 0.0), axis=0)
        pivot_column = jnp.sum(jnp.where(column == j, X, 0.0), axis=1)
        pivot = jnp.sum(jnp.where((row == j) & (column == j), X, 0.0))
        scale = jnp.where(pivot > 0, jax.lax.rsqrt(pivot), jnp.nan)
        scaled_row = jnp.where(column == j, 1.0, pivot_row[None, :]) * scale
        scaled_column = pivot_column[:, None] * scale
        rest = jnp.where(column == j, 0.0, X) - scaled_column * scaled_row
        return jnp.where(row > j, rest, jnp.where(row == j, scaled_row, X))

    X = jax.lax.fori_loop(0, k, step, X.astype(A.dtype))
    triton.store(M, jnp.where(row >= column, X, 0.0).astype(A.dtype), mask=inside)
