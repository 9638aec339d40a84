"""The matrices of Winograd's convolutions with 3 taps (Toom 1963; Cook 1966; Winograd 1980)."""

import numpy as np

TAPS = 3
TILE = 4
"""m, outputs of a tile along either axis: 6 would save a fifth of the products, at three times the error."""
WINDOW = TILE + TAPS - 1


def _matrices(points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Aᵀ (m, n), G (n, r), Bᵀ (n, n) from n − 1 points, and infinity as the last.

    The product of two polynomials, evaluated at the points and interpolated, is a full convolution; its
    transpose with respect to one factor is the filter. Points small and symmetric about 0 round least
    (Barabasz et al. 2020); sums of powers of two make A and B exact.
    """
    others = [[q for q in points if q != p] for p in points]
    scale = [np.prod(np.subtract(p, rest)) for p, rest in zip(points, others, strict=True)]
    A = [[p**i for p in points] + [float(i == TILE - 1)] for i in range(TILE)]
    G = [[p**i / s for i in range(TAPS)] for p, s in zip(points, scale, strict=True)]
    B = [[*np.poly(rest)[::-1], 0.0] for rest in others]
    return np.array(A), np.array([*G, np.eye(TAPS)[-1]]), np.array([*B, np.poly(points)[::-1]])


A, G, B = _matrices((0.0, 1 / 2, -1 / 2, 3 / 2, -3 / 2))
"""Aᵀ (4, 6), G (6, 3) and Bᵀ (6, 6): y = Aᵀ((G k) ⊙ (Bᵀ x))."""
