"""Distances in machine code, and their call."""

from jaxsode._typing import Array, Float
from jaxsode.kernels.native import code

LOCATIONS = 64
"""Of a task, at most."""


def measures(z: Float[Array, "N H W k"]) -> bool:
    """Whether the code takes such vectors: some, of a known number of pictures, that fill a panel.

    Args:
        z: (N, H, W, k).
    """
    known = isinstance(z.shape[0], int) and min(z.shape) > 0
    return known and (machine := code.ready()) is not None and z.shape[3] >= machine.target.panel


def squared_distances(
    z: Float[Array, "N H W k"], mean: Float[Array, "H W k"], transposed: Float[Array, "H W k k"]
) -> Float[Array, "N H W"]:
    """As `jaxsode.kernels.squared_distances`, on a CPU."""
    from jaxsode.kernels.native import distances

    N, H, W, k = z.shape
    locations = max(1, min(LOCATIONS, H * W // 16))
    numbers = {
        "tasks": -(-H * W // locations),
        "k": k,
        "pictures": N,
        "locations": locations,
        "count": H * W,
        "working": distances.working(k, N, code.ready().target),
    }
    return code.call("distances", numbers, (z, mean, transposed), [(N, H, W)])[0]
