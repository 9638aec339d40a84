"""Half a matrix and back, whatever its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.algebra.packing import (
    diagonal_of,
    of_panels,
    pack_lower,
    pack_symmetric,
    panels_of,
    shapes_of,
    unpack_lower,
    unpack_symmetric,
)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7, 100, 101])
def test_there_and_back(k):
    A = np.random.default_rng(0).standard_normal((2, 3, k, k)).astype(np.float32)
    S, L = A + A.swapaxes(-1, -2), np.tril(A)
    for matrix, pack, unpack in ((S, pack_symmetric, unpack_symmetric), (L, pack_lower, unpack_lower)):
        packed = jax.jit(pack)(jnp.asarray(matrix))
        assert packed[0, 0].size == k * (k + 1) // 2
        np.testing.assert_array_equal(jax.jit(unpack)(packed), matrix)
        # every number once
        assert sorted(np.asarray(packed[1, 2]).ravel()) == sorted(matrix[1, 2][np.tril_indices(k)])


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7, 100, 101])
def test_the_diagonal_without_the_rest(k):
    A = np.random.default_rng(0).standard_normal((2, 3, k, k)).astype(np.float32)
    packed = pack_symmetric(jnp.asarray(A + A.swapaxes(-1, -2)))
    np.testing.assert_array_equal(diagonal_of(packed), 2 * np.diagonal(A, axis1=-2, axis2=-1))


@pytest.mark.parametrize("k", [1, 31, 32, 33, 50, 100, 513])
def test_panels_are_half_and_some_zeros(k):
    A = np.random.default_rng(0).standard_normal((1, 2, k, k)).astype(np.float32)
    U, panels = np.triu(A), jax.jit(panels_of)(jnp.asarray(A))
    assert [panel.shape for panel in panels] == [(1, 2, *shape) for shape in shapes_of(k)]
    np.testing.assert_array_equal(jax.jit(of_panels)(panels), U)
    # column by column what is above the diagonal, or zeros
    for panel, (rows, width) in zip(panels, shapes_of(k), strict=True):
        for column in range(width):
            place = rows - width + column
            wanted = U[0, 0, :rows, place] if place >= 0 else np.zeros(rows)
            np.testing.assert_array_equal(panel[0, 0, :, column], wanted)


def test_few_panels_of_few_numbers():
    for k in (1, 10, 32, 33, 100, 448, 512, 513, 1792):
        shapes = shapes_of(k)
        width = shapes[0][1]
        assert len(shapes) <= 16
        assert shapes[-1][0] == k
        assert width == k or width % 32 == 0
        assert sum(rows * width for rows, width in shapes) <= k * (k + width) / 2 + width**2 / 8
