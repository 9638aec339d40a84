"""Pictures whose state of H·W·k² numbers does not fit into memory: block by block of the grid's rows.

Locations know nothing of each other until the anomaly map. So each block of rows is fitted and scored in
turn, its state replaces that of the block before, and only the distances stay, H·W numbers a picture. The
embedded features, H·W·k a picture, are kept where they fit; else they are computed anew for every block.
"""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from jaxsode.errors import ArgumentError, DataError
from jaxsode.fitting import GROUP, NO_PICTURES, FeatureMaps, accumulate, check_range, embed, factorise
from jaxsode.scoring import anomaly_maps, distances

Batches = Callable[[], Iterable[tuple[FeatureMaps, int]]]


def state_bytes(grid: tuple[int, int], k: int) -> int:
    """What fitting holds for a grid: scatter, and a group of embedded pictures (float32)."""
    return 4 * grid[0] * grid[1] * (k * k + (GROUP + 2) * k)


def rows_per_block(grid: tuple[int, int], k: int, memory: int) -> int:
    """How many of the grid's rows to do at once: of the fewest blocks that fit, all about alike.

    Args:
        grid: (H, W).
        k: the embedding size.
        memory: bytes for the state of a block.

    Returns:
        From 1 to H.

    Raises:
        ArgumentError: not even one row fits.
    """
    one = state_bytes((1, grid[1]), k)
    if memory < one:
        raise ArgumentError(
            f"{memory / 1e9:.3g} GB can't hold one row of the grid, {one / 1e9:.3g} GB: "
            "give more memory or a smaller k"
        )
    blocks = -(-grid[0] // (memory // one))
    return -(-grid[0] // blocks)


def fit_and_score(
    train: Batches,
    test: Batches,
    W: jax.Array,
    *,
    size: tuple[int, int],
    rows: int,
    epsilon: float = 0.01,
    sigma: float = 4.0,
    keep: bool = True,
) -> np.ndarray:
    """Anomaly maps of test pictures by a detector that never exists as a whole.

    Args:
        train: called for batches of good pictures' feature maps, each with how many of its rows count.
        test: the same of the test pictures.
        W: (F, k) the embedding.
        size: (height, width) of the pictures.
        rows: of the grid, in each block; `rows_per_block` tells how many fit.
        epsilon: ε > 0.
        sigma: of the Gaussian filter, in pixels.
        keep: whether all pictures' embedded features are kept in host memory, 4 · H·W·k bytes each. If not,
            `train` and `test` are called once for every block.

    Returns:
        (N, height, width) float32.

    Raises:
        ArgumentError: epsilon or sigma out of range.
        DataError: no pictures to fit on.
        NumericalError: see `factorise`.
    """
    check_range(epsilon, sigma)
    good, tested = _Embedded(train, W, keep), _Embedded(test, W, keep)
    found: list[np.ndarray] = []
    height = good.height()
    for start in range(0, height, rows):
        # The last block reaches back, so that all have one shape and nothing is compiled again.
        block = slice(max(0, min(start, height - rows)), min(start + rows, height))
        moments = accumulate(good.rows(block))
        mean = moments.mean
        whitener = factorise(moments, epsilon)
        for number, (z, valid) in enumerate(tested.rows(block)):
            if number == len(found):
                found.append(np.zeros((valid, height, z.shape[2]), np.float32))
            found[number][:, block] = np.asarray(distances(z, mean, whitener))[:valid]
        del whitener
    maps = [np.asarray(anomaly_maps(one[None], size, sigma))[0] for batch in found for one in batch]
    return np.stack(maps)


class _Embedded:
    """Embedded features of a set of pictures, asked for by rows of the grid."""

    def __init__(self, maps: Batches, W: jax.Array, keep: bool):
        self._maps = maps
        self._W = W
        self._keep = keep
        self._kept: list[tuple[np.ndarray, int]] | None = None

    def height(self) -> int:
        """H; computes the first batch."""
        for z, _ in self._all():
            return z.shape[1]
        raise DataError(NO_PICTURES)

    def rows(self, block: slice) -> Iterator[tuple[np.ndarray, int]]:
        for z, valid in self._all():
            yield np.ascontiguousarray(z[:, block]), valid

    def _all(self) -> Iterable[tuple[np.ndarray, int]]:
        if not self._keep:
            return self._computed()
        if self._kept is None:
            self._kept = list(self._computed())
        return self._kept

    def _computed(self) -> Iterator[tuple[np.ndarray, int]]:
        for maps, valid in self._maps():
            yield np.asarray(embed(self._W, maps)), valid
