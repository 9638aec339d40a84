"""How far the low-rank precision W(WᵀCW)⁻¹Wᵀ is from C⁻¹, and what eigenvalues are left in WᵀCW.

The k eigenvectors of the smallest eigenvalues of C are the nearest W (Theorem 1), those of the largest the
farthest of all semi-orthogonal ones (Theorem 2).
"""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.errors import ArgumentError

Norm = Literal["frobenius", "spectral"]


def approximation_error(
    C: Float[Array, "F F"], W: Float[Array, "F k"], *, norm: Norm = "frobenius"
) -> Float[Array, ""]:
    """‖C⁻¹ − W(WᵀCW)⁻¹Wᵀ‖², Theorem 1's objective.

    Args:
        C: (F, F) symmetric positive definite.
        W: (F, k) of rank k; it need not be semi-orthogonal.
        norm: "frobenius" or "spectral".

    Returns:
        () the squared norm; NaN or infinite where C or WᵀCW is singular.

    Raises:
        ArgumentError: no such norm.
    """
    _check(norm)
    embedded = _product(_product(W.T, C), W)
    low_rank = _product(W, jnp.linalg.solve(embedded, W.T))
    apart = jnp.linalg.inv(C) - low_rank
    if norm == "frobenius":
        return jnp.sum(apart * apart)
    return jnp.max(jnp.abs(jnp.linalg.eigvalsh((apart + apart.T) / 2))) ** 2


def error_bounds(
    eigenvalues: Float[Array, " F"], k: int, *, norm: Norm = "frobenius"
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The least and the largest `approximation_error` that a semi-orthogonal W can have (Theorem 2).

    Args:
        eigenvalues: (F,) of C, > 0, in any order.
        k: the embedding size, 1 ≤ k ≤ F.
        norm: "frobenius" or "spectral".

    Returns:
        (), (): Σ 1/λ² over the F − k largest λ, and over the F − k smallest; in the spectral norm the largest
        term of each sum. 0 where k = F.

    Raises:
        ArgumentError: k out of range, or no such norm.
    """
    _check(norm)
    F = eigenvalues.shape[0]
    if not 1 <= k <= F:
        raise ArgumentError(f"k = {k} is out of range: choose 1 ≤ k ≤ {F}")
    squares = 1 / jnp.sort(eigenvalues) ** 2
    left = squares[k:], squares[: F - k]
    if norm == "frobenius":
        return jnp.sum(left[0]), jnp.sum(left[1])
    return jnp.max(left[0], initial=0), jnp.max(left[1], initial=0)


def embedded_eigenvalues(C: Float[Array, "F F"], W: Float[Array, "F k"]) -> Float[Array, " k"]:
    """Eigenvalues of WᵀCW, what the paper's Figure 3 shows.

    By Cauchy's interlacing theorem the i-th smallest lies between the i-th and the (F − k + i)-th smallest of
    C where WᵀW = I.

    Args:
        C: (F, F) symmetric.
        W: (F, k).

    Returns:
        (k,), ascending.
    """
    embedded = _product(_product(W.T, C), W)
    return jnp.linalg.eigvalsh((embedded + embedded.T) / 2)


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _check(norm: str) -> None:
    if norm not in ("frobenius", "spectral"):
        raise ArgumentError(f"norm {norm!r} is unknown: choose frobenius or spectral")
