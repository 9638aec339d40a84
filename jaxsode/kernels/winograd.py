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

_TAPS = 3
# m, outputs of a tile along either axis: 6 would save a fifth of the products, at three times the error
_TILE = 4
_WINDOW = _TILE + _TAPS - 1
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
    A, G, B = _matrices((0.0, 1 / 2, -1 / 2, 3 / 2, -3 / 2))
    rows, columns = -(-H // _TILE), -(-W // _TILE)
    bands, band = _bands(N, rows, _WINDOW**2 * columns * (C + out_channels))

    # of columns (q) and rows (p) at once, the kernel's taps being rows by columns
    both = np.einsum("qj,pi->qpij", G, G).reshape(_WINDOW**2, _TAPS**2)
    kernel = jnp.matmul(both.astype(np.float32), kernel.reshape(_TAPS**2, -1), precision="highest")
    kernel = kernel.reshape(_WINDOW, _WINDOW, C, out_channels)

    def convolved(x: Array) -> Array:
        """A band of all pictures, p and q being points of rows and columns, i and j places in a tile."""
        y = _combine(B, [_every(x, i, axis=1) for i in range(_WINDOW)], axis=0)  # p N rows W C
        y = _combine(B, [_every(y, j, axis=3) for j in range(_WINDOW)], axis=0)  # q p N rows columns C
        z = jnp.einsum("qp...c,qpcd->qp...d", y, kernel, precision=precision)
        z = _combine(A, [z[:, p] for p in range(_WINDOW)], axis=3)  # q N rows i columns C'
        z = _combine(A, [z[q] for q in range(_WINDOW)], axis=4)  # N rows i columns j C'
        return z.reshape(N, band * _TILE, columns * _TILE, out_channels)

    x = jnp.pad(x, ((0, 0), (1, _TILE * bands * band + 1 - H), (1, _TILE * columns + 1 - W), (0, 0)))
    if bands == 1:
        return convolved(x)[:, :H, :W]

    def update(i: Array, y: Array) -> Array:
        first = _TILE * band * i
        window = lax.dynamic_slice_in_dim(x, first, _TILE * (band - 1) + _WINDOW, axis=1)
        return lax.dynamic_update_slice_in_dim(y, convolved(window), first, axis=1)

    # Every number of the initial value is replaced. It is one of x's because XLA begins with all that depends
    # on nothing: zeros would be held for every layer at once (lax.map's are).
    y = jnp.broadcast_to(x[0, 1, 1, 0], (N, _TILE * bands * band, _TILE * columns, out_channels))
    return lax.fori_loop(0, bands, update, y)[:, :H, :W]


def _bands(N: Any, rows: int, numbers: int) -> tuple[int, int]:
    """How many bands of how many rows of tiles, where a row of one picture takes so many numbers."""
    if not isinstance(N, int):  # the symbolic batch of an exported program
        return 1, rows
    bands = -(-rows // max(_NUMBERS // max(N * numbers, 1), 1))
    return bands, -(-rows // bands)


def _matrices(points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aᵀ (m, n), G (n, r), Bᵀ (n, n) from n − 1 points, and infinity as the last (Toom 1963; Cook 1966).

    The product of two polynomials, evaluated at the points and interpolated, is a full convolution; its
    transpose with respect to one factor is the filter. Points small and symmetric about 0 round least
    (Barabasz et al. 2020); sums of powers of two make A and B exact.
    """
    others = [[q for q in points if q != p] for p in points]
    scale = [np.prod(np.subtract(p, rest)) for p, rest in zip(points, others, strict=True)]
    A = [[p**i for p in points] + [float(i == _TILE - 1)] for i in range(_TILE)]
    G = [[p**i / s for i in range(_TAPS)] for p, s in zip(points, scale, strict=True)]
    B = [[*np.poly(rest)[::-1], 0.0] for rest in others]
    return np.array(A), np.array([*G, np.eye(_TAPS)[-1]]), np.array([*B, np.poly(points)[::-1]])


def _every(x: Array, first: int, *, axis: int) -> Array:
    """The numbers at one place of all the windows along an axis."""
    return lax.slice_in_dim(x, first, x.shape[axis] - _WINDOW + first + 1, _TILE, axis)


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
