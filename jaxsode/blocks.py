"""Pictures whose state of H·W·k² numbers does not fit into memory: block by block of the grid's rows.

Locations know nothing of each other until the anomaly map. So each block of rows is fitted and scored in
turn, its state replaces that of the block before, and only the distances stay, H·W numbers a picture. A block
is written to the detector's folder as soon as it is done, and such a detector scores by reading one block
after the other. The embedded features, H·W·k a picture, are kept where they fit; else they are computed anew
for every block.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsode import checkpoint, kernels
from jaxsode.algebra.packing import shapes_of
from jaxsode.algebra.precision import EIGENVECTORS
from jaxsode.backbones.protocol import Backbone
from jaxsode.choice import Choice, Sample, choose
from jaxsode.errors import ArgumentError, DataError
from jaxsode.fitting import (
    GROUP,
    FeatureMaps,
    accumulate,
    collect,
    embed,
    grid_of,
    of_backbone,
    precision_of,
    resolved,
    scaled,
)
from jaxsode.layout import row_blocks
from jaxsode.method import Method
from jaxsode.overall import Overall, of_embedded
from jaxsode.preparation import Preparation
from jaxsode.saving import Saved, network_arrays, overall_arrays, page_of
from jaxsode.scoring import anomaly_maps, distances
from jaxsode.statistics import named, of_named, pack_up, pictures_of

_ONE_FOR_ALL = "precision {precision!r} is one for all locations and can't be done in blocks"

Batches = Callable[[], Iterable[tuple[FeatureMaps, int]]]


def state_bytes(grid: tuple[int, int], method: Method, features: int, pictures: int | None = None) -> int:
    """What fitting holds of a grid at most: the state, and a group of pictures or what is made of it.

    Args:
        grid: (H, W).
        method: see `Method`.
        features: F of the backbone.
        pictures: N, where it is known.

    Returns:
        Bytes, float32: about 6·H·W·k·(k + 12) for the paper's method, whether its moments are kept or not.
    """
    method, needs = resolved(method, features, pictures)
    k = method.size(features)
    made = (method.k or 0) * k if method.precision in EIGENVECTORS else 0
    if needs == "pictures":
        N = pictures or 0
        # The features twice, as they are put together; the basis of the dual form, or the eigenvectors.
        one = 2 * N * k + (made or N * k) + N * N
    elif needs == "moments":
        # Pictures embedded before an update; then, beside the scatter, its half, or what is made of it. Of
        # moments that are kept that is made beside the half, which is less.
        made = made or sum(rows * width for rows, width in shapes_of(k))
        one = k * k + max(GROUP * k, made, k * (k + 1) // 2) + 2 * k
    else:
        one = (GROUP + 4) * k
    return 4 * grid[0] * grid[1] * one


def rows_per_block(
    grid: tuple[int, int],
    method: Method,
    features: int,
    memory: int,
    pictures: int | None = None,
) -> int:
    """How many of the grid's rows to do at once: of the fewest blocks that fit, all about alike.

    Args:
        grid, method, features, pictures: as for `state_bytes`.
        memory: bytes for the state of a block.

    Returns:
        From 1 to H.

    Raises:
        ArgumentError: not even one row fits, or one precision for all locations, which can't be cut.
    """
    one = state_bytes((1, grid[1]), method, features, pictures)
    if memory >= one * grid[0]:
        return grid[0]
    if resolved(method, features, pictures)[1] in ("pooled", "one set"):
        raise ArgumentError(
            _ONE_FOR_ALL.format(precision=method.precision)
            + f"; its state takes {one * grid[0] / 1e9:.3g} GB: give more memory or a smaller k"
        )
    if memory < one:
        raise ArgumentError(
            f"{memory / 1e9:.3g} GB can't hold one row of the grid, {one / 1e9:.3g} GB: "
            "give more memory or a smaller k"
        )
    blocks = -(-grid[0] // (memory // one))
    return -(-grid[0] // blocks)


def fit_and_score(
    train: Batches,
    test: Batches | None,
    backbone: Backbone,
    method: Method,
    *,
    size: tuple[int, int],
    rows: int,
    pictures: int | None = None,
    keep: bool = True,
    path: str | Path | None = None,
    keep_moments: bool = True,
    preparation: Preparation | None = None,
) -> "Scored":
    """Anomaly maps of test pictures by a detector that never exists as a whole.

    Args:
        train: called for batches of good pictures' feature maps, each with how many of its rows count.
        test: the same of the test pictures; None to fit and save alone.
        backbone: that made them.
        method: see `Method`; of a precision of each location.
        size: (height, width) of the pictures.
        rows: of the grid, in each block; `rows_per_block` tells how many fit.
        pictures: N, where it is known, see `Detector.fit`.
        keep: whether all pictures' embedded features are kept in host memory, 4 · H·W·k bytes each. If not,
            `train` and `test` are called once for every block. `train` is called once more for the scale of
            the layers, and where not all is kept once more for what all locations share: a mean variance
            that ε is a share of, or a mean covariance.
        path: a new folder that the detector is saved in, or None.
        keep_moments: whether it is saved with its moments.
        preparation: see `Detector`; it is saved too.

    Returns:
        When all blocks are done and saved: an iterator of (B, height, width) float32 of each test batch, and
        how many of its rows count; and the method as it was fitted.

    Raises:
        ArgumentError: k exceeds F, the backbone's layers aren't the method's, or its precision is one for
            all locations.
        DataError: no pictures to fit on, or none to score.
        NumericalError: see `jaxsode.fitting.precision_of`.
        CheckpointError: the folder exists or can't be written.
    """
    method = of_backbone(method, backbone)
    F = sum(backbone.channels)
    W = method.matrix(F)
    method, needs = resolved(method, F, pictures)
    if needs in ("pooled", "one set"):
        raise ArgumentError(_ONE_FOR_ALL.format(precision=method.precision))
    if method.scale != "none":
        W, _ = scaled(W, train(), method)
    good = _Embedded(train, W, method, keep)
    tested = None if test is None else _Embedded(test, W, method, keep)
    found: list[tuple[np.ndarray, int]] = []
    H, _ = grid_of(backbone, size)
    method, overall, choice = _chosen(good, method)

    def fitted(start: int, block: slice, writer: checkpoint.Writer | None) -> dict[str, Any]:
        """One block; when it returns, nothing of its state is left."""
        state = collect(good.rows(block)) if needs == "pictures" else accumulate(good.rows(block))
        count = pictures_of(state)
        statistics = None
        if keep_moments and writer is not None:
            statistics, state = pack_up(state)
        mean, precision = precision_of(state, method, overall)
        del state
        if tested is not None:
            _score_block(tested, block, H, mean, precision, found)
        if writer is None:
            return {}
        kind, arrays, _ = named(precision if statistics is None else statistics)
        if statistics is None:
            arrays = arrays | {"mean": mean}
        for at, part in row_blocks({n: a[start - block.start :] for n, a in arrays.items()}):
            writer.rows(start + at, part)
        rows_of = {n: ((H, *a.shape[1:]), str(a.dtype)) for n, a in arrays.items()}
        return {"kind": kind, "moments": statistics is not None, "rows": rows_of, "count": count}

    def blocks(writer: checkpoint.Writer | None) -> dict[str, Any]:
        page: dict[str, Any] = {}
        for start, block in _blocks(H, rows):
            page = fitted(start, block, writer)
        return page

    if path is None:
        blocks(None)
    else:
        with checkpoint.Writer(path) as writer:
            page = blocks(writer)
            writer.whole(network_arrays(backbone, W) | overall_arrays(overall))
            of_all = {"overall": overall, "choice": choice, "preparation": preparation}
            writer.finish(page_of(backbone, method.recorded(), size=size, **page, **of_all))
    return Scored(_maps(found, size, method.sigma), method.recorded(), choice)


@dataclass(frozen=True)
class Scored:
    """Anomaly maps of test pictures, and what they were made by.

    Attributes:
        maps: (B, height, width) of each batch, and how many of its rows count; to be gone through once.
        method, choice: see `Detector`.
    """

    maps: Iterator[tuple[np.ndarray, int]]
    method: Method
    choice: Choice | None

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        return self.maps


def score(
    path: str | Path,
    test: Batches,
    *,
    memory: int,
    backbone: Backbone | None = None,
    keep: bool = True,
) -> Iterator[tuple[np.ndarray, int]]:
    """Anomaly maps by a saved detector, of which one block of rows at a time is read.

    It holds `memory` bytes for the state, and while it reads two blocks of the file, of 256 MB each (or of a
    row, if that is more); besides, H·W numbers a picture, and the embedded pictures as `keep` has it.

    Args:
        path: the detector's folder; `~` is the home folder.
        test: called for batches of feature maps of the saved backbone, each with how many of its rows count.
        memory: bytes for the state of a block.
        backbone: as for `Detector.load`.
        keep: as for `fit_and_score`.

    Returns:
        An iterator of (B, height, width) float32 of each batch, and how many of its rows count.

    Raises:
        CheckpointError: see `Detector.load`.
        ArgumentError: not even one row fits into the memory.
        DataError: no pictures to score.
    """
    saved = Saved.open(checkpoint.folder_at(path), backbone)
    F = sum(saved.backbone.channels)
    grid = grid_of(saved.backbone, saved.size)
    rows = rows_per_block(grid, saved.method, F, memory, saved.count)
    tested = _Embedded(test, saved.W, saved.method, keep)
    found: list[tuple[np.ndarray, int]] = []
    for _, block in _blocks(grid[0], rows):
        _score_block(tested, block, grid[0], *_read(saved, block), found)
    return _maps(found, saved.size, saved.method.sigma)


def _read(saved: Saved, block: slice) -> tuple[Any, Any]:
    """Mean and precision of a block of a saved detector."""
    arrays: dict[str, Any] = saved.rows(block.start, block.stop)
    mean = arrays.pop("mean", None)
    state = of_named(saved.kind, arrays)
    return precision_of(state, saved.method, saved.overall) if saved.moments else (mean, state)


def _chosen(good: "_Embedded", method: Method) -> tuple[Method, Overall | None, Choice | None]:
    """What all locations must share before the first block is factorised: one more pass, if it takes any."""
    sample = Sample(0 if method.seed is None else int(method.seed)) if method.automatic else None
    overall = of_embedded(good.all() if sample is None else sample.watched(good.all()), method)
    if sample is None or overall is None:
        return method, overall, None
    method, choice = choose(sample, method)
    return method, overall, choice


def _blocks(height: int, rows: int) -> Iterator[tuple[int, slice]]:
    """The first row that is new, and the block: the last one reaches back, so that all have one shape and
    nothing is compiled again."""
    for start in range(0, height, rows):
        yield start, slice(max(0, min(start, height - rows)), min(start + rows, height))


def _maps(
    found: list[tuple[np.ndarray, int]], size: tuple[int, int], sigma: float
) -> Iterator[tuple[np.ndarray, int]]:
    """The maps of all distances, a batch at a time: they are larger than the distances."""
    for distance, valid in found:
        yield np.asarray(anomaly_maps(distance, size, sigma)), valid


def _score_block(
    tested: "_Embedded",
    block: slice,
    height: int,
    mean: Any,
    precision: Any,
    found: list[tuple[np.ndarray, int]],
) -> None:
    """The distances of one block, put where they belong."""
    for number, (z, valid) in enumerate(tested.rows(block)):
        if number == len(found):
            found.append((np.zeros((z.shape[0], height, z.shape[2]), np.float32), valid))
        with kernels.evaluated(kernels.is_here(z, mean, precision)):
            found[number][0][:, block] = np.asarray(distances(z, mean, precision))
    if not found:
        raise DataError("there are no pictures to score: give at least one")


class _Embedded:
    """Embedded features of a set of pictures, asked for by rows of the grid."""

    def __init__(self, maps: Batches, W: jax.Array, method: Method, keep: bool):
        self._maps = maps
        self._W = W
        self._options = {"pooling": method.pooling, "align": method.align}
        self._keep = keep
        self._kept: list[tuple[np.ndarray, int]] | None = None

    def rows(self, block: slice) -> Iterator[tuple[np.ndarray, int]]:
        for z, valid in self.all():
            yield np.ascontiguousarray(z[:, block]), valid

    def all(self) -> Iterable[tuple[np.ndarray, int]]:
        if not self._keep:
            return self._computed()
        if self._kept is None:
            self._kept = list(self._computed())
        return self._kept

    def _computed(self) -> Iterator[tuple[np.ndarray, int]]:
        for maps, valid in self._maps():
            yield np.asarray(embed(self._W, maps, **self._options)), valid
