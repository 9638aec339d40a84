"""Max-pooling gives what a slow loop gives, in either form, NaN and −∞ included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.kernels.pooling import max_pool3x3, plain_max_pool3x3


def _referee(x):
    N, H, W, C = x.shape
    out = np.empty((N, -(-H // 2), -(-W // 2), C))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            part = x[:, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2]
            out[:, i, j] = part.max((1, 2))
    return out


@pytest.mark.parametrize("pool", [max_pool3x3, plain_max_pool3x3])
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 3), (7, 8), (9, 6)])
def test_any_size(pool, size):
    x = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    x[0, 0, 0, 0], x[1, -1, -1, 1] = np.nan, -np.inf
    np.testing.assert_array_equal(jax.jit(pool)(x), _referee(x).astype(np.float32))


def test_gradients_go_to_the_largest():
    x = jnp.asarray(np.random.default_rng(1).permutation(7 * 6).reshape(1, 7, 6, 1), jnp.float32)
    fast, plain = (
        jax.grad(lambda x, pool=pool: (pool(x) ** 2).sum())(x) for pool in (max_pool3x3, plain_max_pool3x3)
    )
    np.testing.assert_array_equal(fast, plain)
