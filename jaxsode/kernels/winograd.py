"""3 × 3 convolution with a quarter of the products, for CPUs (Winograd 1980; Lavin and Gray 2016).

In one dimension, m neighbouring outputs of a filter with r taps depend on m + r − 1 inputs, and so many
products are enough, not m · r: y = Aᵀ ((G k) ⊙ (Bᵀ x)). In two dimensions this is done along rows and along
columns; each of the (m + r − 1)² products, taken over channels, is a matrix product of tiles × C by C × C'.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxsode._typing import Array, Float
from jaxsode.kernels.toom_cook import TAPS, TILE, WINDOW, A, B, G

# transformed inputs and products held at once, 32 MB of them: more falls out of the caches, and less spends
# its time on storing the bands, which XLA does on one thread
_NUMBERS = 2**23


def winograd_conv3x3(
    x: Float[Array, "N H W C"], kernel: Float[Array, "3 3 C out"], *, precision: lax.PrecisionLike = None
) -> Float[Array, "N H W out"]:
    """Cross-correlation with a 3 × 3 kernel, zeros around; within 10⁻⁵ (relative) of the direct sum.

    Args:
        x: (N, H, W, C) float32.
        kernel: (3, 3, C, C') float32.
        precision: of the products.

    Returns:
        (N, H, W, C').
    """
    N, H, W, C = x.shape
    out_channels = kernel.shape[3]
    rows, columns = -(-H // TILE), -(-W // TILE)
    bands, band = _bands(N, rows, WINDOW**2 * columns * (C + out_channels))

    # of columns (q) and rows (p) at once, the kernel's taps being rows by columns
    both = np.einsum("qj,pi->qpij", G, G).reshape(WINDOW**2, TAPS**2)
    kernel = jnp.matmul(both.astype(np.float32), kernel.reshape(TAPS**2, -1), precision="highest")
    kernel = kernel.reshape(WINDOW, WINDOW, C, out_channels)

    def convolved(x: Array) -> Array:
        """A band of all pictures, p and q being points of rows and columns, i and j places in a tile."""
        y = _combine(B, [_every(x, i, axis=1) for i in range(WINDOW)], axis=0)  # p N rows W C
        y = _combine(B, [_every(y, j, axis=3) for j in range(WINDOW)], axis=0)  # q p N rows columns C
        z = jnp.einsum("qp...c,qpcd->qp...d", y, kernel, precision=precision)
        z = _combine(A, [z[:, p] for p in range(WINDOW)], axis=3)  # q N rows i columns C'
        z = _combine(A, [z[q] for q in range(WINDOW)], axis=4)  # N rows i columns j C'
        return z.reshape(N, band * TILE, columns * TILE, out_channels)

    x = jnp.pad(x, ((0, 0), (1, TILE * bands * band + 1 - H), (1, TILE * columns + 1 - W), (0, 0)))
    if bands == 1:
        return convolved(x)[:, :H, :W]

    def update(i: Array, y: Array) -> Array:
        first = TILE * band * i
        window = lax.dynamic_slice_in_dim(x, first, TILE * (band - 1) + WINDOW, axis=1)
        return lax.dynamic_update_slice_in_dim(y, convolved(window), first, axis=1)

    # Every number of the initial value is replaced. It is one of x's because XLA begins with all that depends
    # on nothing: zeros would be held for every layer at once (lax.map's are).
    y = jnp.broadcast_to(x[0, 1, 1, 0], (N, TILE * bands * band, TILE * columns, out_channels))
    return lax.fori_loop(0, bands, update, y)[:, :H, :W]


def _bands(N: Any, rows: int, numbers: int) -> tuple[int, int]:
    """How many bands of how many rows of tiles, where a row of one picture takes so many numbers."""
    if not isinstance(N, int):  # the symbolic batch of an exported program
        return 1, rows
    bands = -(-rows // max(_NUMBERS // max(N * numbers, 1), 1))
    return bands, -(-rows // bands)


def _every(x: Array, first: int, *, axis: int) -> Array:
    """The numbers at one place of all the windows along an axis."""
    return lax.slice_in_dim(x, first, x.shape[axis] - WINDOW + first + 1, TILE, axis)


def _combine(matrix: np.ndarray, parts: Sequence[Array], *, axis: int) -> Array:
    """Σⱼ matrix[i, j] · parts[j], stacked over i.

    Written out: XLA makes of it one loop, vectorised over channels. A product with so small a matrix is
    slower than all the rest.
    """
    sums = []
    for row in matrix.tolist():
        terms = [part if c == 1 else c * part for c, part in zip(row, parts, strict=True) if c]
        sums.append(reduce(jnp.add, terms))
    return jnp.stack(sums, axis)
