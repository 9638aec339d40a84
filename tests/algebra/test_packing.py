"""Half a matrix and back, whatever its size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.algebra.packing import pack_lower, pack_symmetric, unpack_lower, unpack_symmetric


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
