"""What the backbones are built of: convolution with bias, max-pooling, normalisation of the pictures.

Everything is NHWC. Batch norm does not appear: it is folded into kernel and bias when weights are converted.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxsode import kernels
from jaxsode.backbones.protocol import Normalisation

Padding = int | Literal["SAME"]
"""Zeros on every side (PyTorch's way; incomplete windows at the far edges are dropped), or "SAME":
TensorFlow's way, ⌈H / stride⌉ rows, padded by the lesser half before and the greater after."""


def _zeros_around(
    size: tuple[int, ...], window: tuple[int, ...], stride: int, padding: Padding
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(before, after) of rows, then of columns."""
    if not isinstance(padding, str):
        return (padding, padding), (padding, padding)
    rows, columns = jax.lax.padtype_to_pads(size, window, (stride, stride), padding)
    return rows, columns


class Conv(nnx.Module):
    """A convolution with bias: float32 parameters, computed in `dtype`."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        size: int,
        *,
        stride: int = 1,
        padding: Padding | None = None,
        groups: int = 1,
        gain: float = 2.0,
        dtype: DTypeLike,
        rng: np.random.Generator,
    ):
        """Draws normal kernels of variance gain / fan-in and small biases.

        Args:
            channels, out_channels: C and C'.
            size: rows and columns of the kernel.
            stride: of rows and columns alike, ≥ 1.
            padding: see `Padding`; None is size // 2.
            groups: number of groups of channels; C makes it depthwise.
            gain: 2 (He et al. 2015) keeps the power of features through a ReLU, 1 where none follows; less at
                the end of a residual branch, or the power doubles with every block.
            dtype: of the computation.
            rng: a NumPy generator: hundreds of shapes would each cost a compilation with JAX's.
        """
        shape = (size, size, channels // groups, out_channels)
        std = np.float32(np.sqrt(gain / np.prod(shape[:3])))
        kernel = std * rng.standard_normal(shape, dtype=np.float32)
        bias = np.float32(0.02) * rng.standard_normal(out_channels, dtype=np.float32)
        self.kernel = nnx.Param(jax.device_put(kernel))
        self.bias = nnx.Param(jax.device_put(bias))
        self.stride = stride
        self.padding: Padding = size // 2 if padding is None else padding
        self.groups = groups
        self.dtype = jnp.dtype(dtype)
        self.packed: kernels.Packed | None = nnx.data(None)

    def __call__(self, x: jax.Array, *, shortcut: jax.Array | None = None, relu: bool = False) -> jax.Array:
        """x (N, H, W, C) → (N, H', W', C') in the compute dtype; plus a shortcut, then a ReLU, if asked."""
        return kernels.conv2d(
            *self._operands(x), shortcut, groups=self.groups, relu=relu, **self._options(x.shape[1:3])
        )

    def pooled(self, x: jax.Array) -> jax.Array:
        """Largest of 3 × 3 at stride 2 after a ReLU; no groups. (N, H, W, C) → (N, ⌈H'/2⌉, ⌈W'/2⌉, C')."""
        return kernels.conv2d_max_pool3x3(*self._operands(x), **self._options(x.shape[1:3]))

    def _operands(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        kernel, bias = (parameter[...].astype(self.dtype) for parameter in (self.kernel, self.bias))
        return x.astype(self.dtype), kernel, bias

    def _options(self, size: tuple[int, ...]) -> dict[str, Any]:
        return {
            "stride": self.stride,
            "padding": _zeros_around(size, self.kernel.shape[:2], self.stride, self.padding),
            "packed": self.packed,
            "precision": _precision(self.dtype),
        }

    def pack(self) -> kernels.Packed | None:
        """The kernel as machine code reads it; None where there is none for it."""
        if self.dtype != jnp.float32 or isinstance(self.padding, str):
            return None
        padding = _zeros_around((0, 0), (), self.stride, self.padding)
        return kernels.pack(
            np.asarray(self.kernel[...]), stride=self.stride, padding=padding, groups=self.groups
        )


def _precision(dtype: np.dtype) -> jax.lax.PrecisionLike:
    """float32 in full, unless `jax.default_matmul_precision` is set: accelerators would cut it short."""
    given = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return None if given or dtype != jnp.float32 else jax.lax.Precision.HIGHEST


def normalise(pictures: jax.Array, normalisation: Normalisation) -> jax.Array:
    """(x − mean) / std of pictures (N, height, width, 3) in [0, 1], in float32."""
    mean = jnp.array(normalisation.mean, jnp.float32).reshape(1, 1, 1, 3)
    std = jnp.array(normalisation.std, jnp.float32).reshape(1, 1, 1, 3)
    return (pictures.astype(jnp.float32) - mean) / std
