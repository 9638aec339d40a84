"""The factorisation in machine code, and its call."""

from jaxsode._typing import Array, Float
from jaxsode.kernels.native import code

MATRICES = 8
"""Of a task, at most: taking one takes as long as a small matrix does."""


def inverse_cholesky(A: Float[Array, "B k k"]) -> Float[Array, "B k k"]:
    """As `jaxsode.kernels.inverse_cholesky`, on a CPU."""
    from jaxsode.kernels.native import cholesky

    count, k = A.shape[:2]
    target = code.ready().target
    matrices = max(1, min(MATRICES, count // 16))
    numbers = {
        "tasks": -(-count // matrices),
        "k": k,
        "padded": target.padded(k),
        "matrices": matrices,
        "count": count,
        "working": cholesky.working(k, target),
    }
    return code.call("inverse_cholesky", numbers, (A,), [A.shape])[0]
