"""Batch norm folded into the convolution before it, and PyTorch's layout turned into JAX's."""

import einops
import numpy as np


def fold_batch_norm(
    weight: np.ndarray,
    bias: np.ndarray | None,
    *,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    epsilon: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The convolution that does what a convolution and its batch norm with fixed statistics do.

    kernel · γ / √(σ² + ε) and (b − μ) γ / √(σ² + ε) + β, computed in float64.

    Args:
        weight: (C', …), output channels first.
        bias: (C',), or None for 0.
        gamma, beta, mean, variance: (C',) of the batch norm.
        epsilon: added to the variance.

    Returns:
        weight and bias, float64, of the shapes given.
    """
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    shift = -mean.astype(np.float64) if bias is None else bias.astype(np.float64) - mean.astype(np.float64)
    kernel = weight.astype(np.float64) * scale.reshape(-1, *[1] * (weight.ndim - 1))
    return kernel, shift * scale + beta.astype(np.float64)


def source_shapes(kernel: tuple[int, ...]) -> set[tuple[int, ...]]:
    """PyTorch's shapes that become a kernel (rows, columns, C, C') or (C, C'): a 1 × 1 convolution may come
    from a linear layer, and a linear layer from a 1 × 1 convolution."""
    if len(kernel) == 2:
        channels, out_channels = kernel
        return {(out_channels, channels), (out_channels, channels, 1, 1)}
    rows, columns, channels, out_channels = kernel
    shapes: set[tuple[int, ...]] = {(out_channels, channels, rows, columns)}
    if rows == columns == 1:
        shapes.add((out_channels, channels))
    return shapes


def to_kernel(weight: np.ndarray, kernel: tuple[int, ...]) -> np.ndarray:
    """PyTorch's weight, of one of `source_shapes(kernel)`, as a kernel of that shape (HWIO, or C × C')."""
    if len(kernel) == 2:
        return einops.rearrange(weight.reshape(weight.shape[:2]), "o i -> i o")
    rows, columns, channels, out_channels = kernel
    return einops.rearrange(weight.reshape(out_channels, channels, rows, columns), "o i h w -> h w i o")
