"""Half of a matrix is enough: symmetric and triangular ones in k(k + 1)/2 numbers, or a few more.

To be kept: the lower triangle is cut into three: of k = 2h rows the upper triangle A₁₁ and the lower one A₂₂,
which together fill a rectangle, and the square A₂₁ below (LAPACK's rectangular full packed format, TF of LAWN
199). Slices and one choice by place are all that it takes, so it runs at the memory's speed.

To be multiplied by vectors: panels of a few columns, half of the numbers and some zeros, as plain matrices.
"""

import jax.numpy as jnp

from jaxsode._typing import Array, Float

WIDTH = 32
"""Columns of a panel, or a multiple of it; every processor's vectors divide it."""
PANELS = 16
"""At most."""


def pack_symmetric(S: Float[Array, "... k k"]) -> Float[Array, "... r h"]:
    """The lower half of a symmetric matrix.

    Args:
        S: (…, k, k), symmetric.

    Returns:
        (…, 2⌊k/2⌋ + 1, ⌈k/2⌉), of S's dtype.
    """
    h = -(-S.shape[-1] // 2)
    return _fold(S[..., :h, :h], S[..., h:, :h], S[..., h:, h:])


def pack_lower(L: Float[Array, "... k k"]) -> Float[Array, "... r h"]:
    """The lower half of a triangular matrix.

    Args:
        L: (…, k, k), lower triangular.

    Returns:
        (…, 2⌊k/2⌋ + 1, ⌈k/2⌉), of L's dtype.
    """
    h = -(-L.shape[-1] // 2)
    return _fold(L[..., :h, :h], L[..., h:, :h], jnp.swapaxes(L[..., h:, h:], -1, -2))


def unpack_lower(packed: Float[Array, "... r h"]) -> Float[Array, "... k k"]:
    """The lower triangular matrix of `pack_lower`.

    Args:
        packed: (…, 2⌊k/2⌋ + 1, ⌈k/2⌉); k follows from its shape.

    Returns:
        (…, k, k), zero above the diagonal.
    """
    return jnp.tril(unpack_symmetric(packed))


def unpack_symmetric(packed: Float[Array, "... r h"]) -> Float[Array, "... k k"]:
    """The symmetric matrix of `pack_symmetric`.

    Args:
        packed: (…, 2⌊k/2⌋ + 1, ⌈k/2⌉); k follows from its shape.

    Returns:
        (…, k, k), exactly symmetric.
    """
    lower, upper = _triangles(packed)
    A11, A22 = _mirrored(lower, lower=True), _mirrored(upper, lower=False)
    A21 = packed[..., packed.shape[-2] - A22.shape[-1] :, :]
    above = jnp.concatenate([A11, jnp.swapaxes(A21, -1, -2)], axis=-1)
    return jnp.concatenate([above, jnp.concatenate([A21, A22], axis=-1)], axis=-2)


def diagonal_of(packed: Float[Array, "... r h"]) -> Float[Array, "... k"]:
    """The diagonal of the matrix that `pack_symmetric` or `pack_lower` packed.

    Args:
        packed: (…, 2⌊k/2⌋ + 1, ⌈k/2⌉).

    Returns:
        (…, k).
    """
    return jnp.concatenate([jnp.diagonal(A, axis1=-2, axis2=-1) for A in _triangles(packed)], axis=-1)


def _triangles(packed: Float[Array, "... r h"]) -> tuple[Array, Array]:
    """Where A₁₁ has its lower triangle, and A₂₂ its upper one."""
    rows, h = packed.shape[-2:]
    even = int(rows == 2 * h + 1)
    return packed[..., even : h + even, :], packed[..., :h, :] if even else packed[..., : h - 1, 1:]


def _fold(
    A11: Float[Array, "... h h"], A21: Float[Array, "... m h"], upper: Float[Array, "... m m"]
) -> Float[Array, "... r h"]:
    """A₁₁'s lower triangle and the upper one of A₂₂ᵀ side by side, with A₂₁ below."""
    h, m = A11.shape[-1], upper.shape[-1]
    even = int(h == m)
    rows = h + even
    aside = [(0, 0)] * (A11.ndim - 2)
    left = jnp.pad(A11, [*aside, (even, 0), (0, 0)])
    right = jnp.pad(upper, [*aside, (0, rows - m), (h - m, 0)])
    lower = jnp.arange(h)[None, :] <= jnp.arange(rows)[:, None] - even
    folded = jnp.where(jnp.broadcast_to(lower, left.shape), left, right)
    return jnp.concatenate([folded, A21], axis=-2)


def _mirrored(A: Float[Array, "... m m"], *, lower: bool) -> Float[Array, "... m m"]:
    """One triangle, the diagonal with it, on both sides."""
    if lower:
        return jnp.tril(A) + jnp.swapaxes(jnp.tril(A, -1), -1, -2)
    return jnp.triu(A) + jnp.swapaxes(jnp.triu(A, 1), -1, -2)


def panels_of(U: Float[Array, "... k k"]) -> tuple[Array, ...]:
    """An upper triangular matrix by columns, and of them only what is above the diagonal of the last.

    Args:
        U: (…, k, k), of which what is below the diagonal is not looked at; k > 0.

    Returns:
        Panels of equally many columns, of U's dtype, see `shapes_of`. Columns that U lacks come first: zeros.
    """
    k = U.shape[-1]
    made = []
    for rows, width in shapes_of(k):
        first = max(0, rows - width)
        around = [(0, 0)] * (U.ndim - 1) + [(width - (rows - first), 0)]
        made.append(jnp.pad(jnp.triu(U[..., :rows, first:rows], -first), around))
    return tuple(made)


def shapes_of(k: int) -> list[tuple[int, int]]:
    """Rows and columns of the panels of a (k, k) matrix: 32 columns, a multiple above k = 512, k up to 16.

    Together they have about k(k + 32)/2 numbers: of k = 100 two thirds of the matrix.

    Args:
        k: > 0.

    Returns:
        In order; the last one's rows are k.
    """
    width = k if k <= WIDTH // 2 else WIDTH * -(-k // (WIDTH * PANELS))
    return [(rows, width) for rows in range(k - (-(-k // width) - 1) * width, k + 1, width)]


def of_panels(panels: tuple[Array, ...]) -> Float[Array, "... k k"]:
    """The upper triangular matrix of `panels_of`.

    Args:
        panels: by `panels_of`, each (…, rows, columns).

    Returns:
        (…, k, k), zero below the diagonal.
    """
    k = panels[-1].shape[-2]
    around = [(0, 0)] * (panels[0].ndim - 2)
    columns = [jnp.pad(panel, [*around, (0, k - panel.shape[-2]), (0, 0)]) for panel in panels]
    return jnp.concatenate(columns, axis=-1)[..., -k:]
