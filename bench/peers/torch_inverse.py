"""The ways PyTorch offers to factorise or invert a batch of matrices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from bench.inverse import Method, of_inverse, of_svd, of_whitener

CUDA = torch.cuda.is_available()
CHUNK = 256
"""Matrices a call of `inv` on a CPU: MKL fails on very large batches with more than one thread."""


def methods() -> list[Method]:
    """All that `torch.linalg` has for it."""

    def inverted(A: torch.Tensor) -> torch.Tensor:
        if CUDA or len(A) <= CHUNK:
            return torch.linalg.inv(A)
        return torch.cat([torch.linalg.inv(part) for part in A.split(CHUNK)])

    def cholesky_inverse(A: torch.Tensor) -> torch.Tensor:
        return torch.cholesky_inverse(torch.linalg.cholesky_ex(A).L)

    def cholesky_solve(A: torch.Tensor) -> torch.Tensor:
        L = torch.linalg.cholesky_ex(A).L
        identity = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        return torch.linalg.solve_triangular(L, identity.expand_as(A), upper=False)

    def method(name: str, call: Any, of: Callable[[Any], np.ndarray] | None, note: str) -> Method:
        precision = None if of is None else lambda made: of(on_host(made))
        return Method(name, tensor, call, precision, wait, note)

    chunks = "" if CUDA else f", {CHUNK} matrices a call"
    return [
        method("torch inv", inverted, of_inverse, f"P{chunks}"),
        method("torch cholesky_ex", torch.linalg.cholesky_ex, None, "L: only half the way"),
        method("torch cholesky_ex + cholesky_inverse", cholesky_inverse, of_inverse, "P"),
        method("torch cholesky_ex + solve_triangular", cholesky_solve, of_whitener, "L⁻¹"),
        method("torch svd", torch.linalg.svd, of_svd, "U, s, V: what the paper timed"),
    ]


def tensor(A: jax.Array) -> torch.Tensor:
    """The same matrices in PyTorch, on its device."""
    return torch.tensor(np.asarray(A), device="cuda" if CUDA else "cpu")


def on_host(made: Any) -> Any:
    """Tensors, or a tuple of them, as NumPy arrays."""
    if isinstance(made, torch.Tensor):
        return made.cpu().numpy()
    return tuple(part.cpu().numpy() for part in made)


def wait(_: Any) -> None:
    if CUDA:
        torch.cuda.synchronize()
