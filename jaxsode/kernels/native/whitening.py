"""Distances in machine code, and their call."""

from jaxsode._typing import Array, Float
from jaxsode.kernels.native import code

LOCATIONS = 64
"""Of a task, at most."""


def measures(z: Float[Array, "N H W k"], panels: tuple[Array, ...]) -> bool:
    """Whether the code takes such vectors and panels: some, of a known number of pictures, and whole ones.

    Args:
        z: (N, H, W, k).
        panels: see `jaxsode.kernels.squared_distances`.
    """
    if not isinstance(z.shape[0], int) or min(z.shape) == 0 or (machine := code.ready()) is None:
        return False
    k, width = z.shape[-1], panels[-1].shape[-1]
    whole = all(panel.shape[-2:] == (k - i * width, width) for i, panel in enumerate(reversed(panels)))
    return whole and width % machine.target.panel == 0


def squared_distances(
    z: Float[Array, "N H W k"], mean: Float[Array, "H W k"], panels: tuple[Array, ...]
) -> Float[Array, "N H W"]:
    """As `jaxsode.kernels.squared_distances`, on a CPU.

    Args:
        z, mean: see there.
        panels: see there, (H, W, rows, columns) each.
    """
    from jaxsode.kernels.native import distances

    N, H, W, k = z.shape
    locations = max(1, min(LOCATIONS, H * W // 16))
    numbers = {
        "tasks": -(-H * W // locations),
        "k": k,
        "pictures": N,
        "locations": locations,
        "count": H * W,
        "panels": len(panels),
        "width": panels[-1].shape[-1],
        "working": distances.working(k, N, code.ready().target),
    }
    return code.call("distances", numbers, (z, mean, *panels), [(N, H, W)])[0]
