"""Feature maps of a data set's pictures: extracted once for all folds, k and seeds, where memory allows."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np
import psutil

from jaxsode.backbones.protocol import Backbone
from jaxsode.datasets import Batch, Dataset
from jaxsode.experiment.decoded import Decoded
from jaxsode.experiment.padding import repeated
from jaxsode.fitting import FeatureMaps, extract, grid_of

_SHARE = 0.4


def free_memory() -> int:
    """Bytes that one kind of kept data may take: a share of what is free, so that two kinds fit."""
    return int(_SHARE * psutil.virtual_memory().available)


def free_device_memory() -> int:
    """The same of the device that computes; where its allocator doesn't tell, it has the host's memory."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return free_memory()
    return int(_SHARE * (stats["bytes_limit"] - stats["bytes_in_use"]))


class Features:
    """Batches of feature maps by the pictures' indices.

    If any picture is asked for more than once, all are extracted once, by `prepare`, and kept in host memory
    if they fit; else every call extracts again, and nothing is kept but the decoded pictures, in a file.

    Args:
        backbone: extracts them.
        dataset: decodes the pictures; padded ones are cut to what counts, see `experiment.padding`.
        size: (height, width) they are resized to.
        batch_size: pictures in each batch; the last is padded.
        workers: threads that decode.
    """

    def __init__(
        self, backbone: Backbone, dataset: Dataset, *, size: tuple[int, int], batch_size: int, workers: int
    ):
        self.backbone = backbone
        self.dataset = dataset
        self.size = size
        self.batch_size = batch_size
        self.workers = workers
        self._decoded = Decoded(dataset, size=size, batch_size=batch_size, workers=workers)
        self._kept: list[np.ndarray] = []
        self._row: dict[int, int] = {}

    def grid(self) -> tuple[int, int]:
        """(H, W) of the finest feature map."""
        return grid_of(self.backbone, self.size)

    def numbers_per_picture(self) -> int:
        """Σ h·w·C over the layers in use."""
        return sum(math.prod(m.shape) for m in self._shapes())

    def bytes_per_picture(self) -> int:
        """What the feature maps of one picture take."""
        return sum(math.prod(m.shape) * m.dtype.itemsize for m in self._shapes())

    def prepare(
        self,
        uses: Iterable[int],
        *,
        tested: Iterable[int] = (),
        apart: Iterable[int] = (),
        progress: Callable[[int], None],
        memory: int | None = None,
    ) -> int:
        """Extract all that is used and keep it, if anything is used more than once.

        Args:
            uses: an index for every time that a picture's features will be asked for.
            tested: indices of those that `tests` or `pictures` will be asked for, too.
            apart: an index for every time that `pictures` will be, beside the features.
            progress: called with the number of pictures just done.
            memory: bytes that may be taken; a share of what is free by default.

        Returns:
            How many pictures are kept.
        """
        times = Counter(uses)
        used = sorted(times)
        memory = free_memory() if memory is None else memory
        if max(times.values(), default=0) < 2 or len(used) * self.bytes_per_picture() > memory:
            times.update(apart)
            self._decoded.expect([index for index, n in times.items() if n > 1])
            return 0
        self._decoded.expect(set(tested))
        for batch, maps in self._extracted(used):
            if not self._kept:
                self._kept = [np.empty((len(used), *m.shape[1:]), m.dtype) for m in maps]
            start = len(self._row)
            for kept, m in zip(self._kept, maps, strict=True):
                kept[start : start + batch.valid] = np.asarray(m)[: batch.valid]
            self._row.update((int(index), start + i) for i, index in enumerate(batch.indices[: batch.valid]))
            progress(batch.valid)
        return len(used)

    def batches(self, indices: Sequence[int]) -> Iterator[tuple[FeatureMaps, int]]:
        """Feature maps of these pictures, in order, and how many of each batch's rows count.

        Args:
            indices: of the data set's examples.

        Yields:
            Maps (batch_size, h, w, C) for each scale, and the number of real rows.
        """
        if not self._all_kept(indices):
            for batch, maps in self._extracted(indices):
                yield maps, batch.valid
            return
        for start in range(0, len(indices), self.batch_size):
            part = list(indices[start : start + self.batch_size])
            rows = [self._row[index] for index in part]
            rows += [rows[-1]] * (self.batch_size - len(rows))
            yield tuple(jax.device_put([kept[rows] for kept in self._kept])), len(part)

    def tests(self, indices: Sequence[int]) -> Iterator[tuple[FeatureMaps, Batch]]:
        """`batches`, each with its pictures and masks.

        Args:
            indices: of the data set's examples.

        Yields:
            Maps (batch_size, h, w, C) for each scale, and the batch that they are of.
        """
        if not self._all_kept(indices):
            for batch, maps in self._extracted(indices):
                yield maps, batch
            return
        for (maps, _), batch in zip(self.batches(indices), self.pictures(indices), strict=True):
            yield maps, batch

    def pictures(self, indices: Sequence[int]) -> Iterator[Batch]:
        """These pictures and their masks, in order.

        Args:
            indices: of the data set's examples.
        """
        return self._decoded.batches(indices)

    def _all_kept(self, indices: Sequence[int]) -> bool:
        return all(index in self._row for index in indices)

    def _shapes(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        picture = jax.ShapeDtypeStruct((1, *self.size, 3), np.uint8)
        return jax.eval_shape(extract, self.backbone, picture)

    def _extracted(self, indices: Sequence[int]) -> Iterator[tuple[Batch, FeatureMaps]]:
        for batch in self._decoded.batches(indices):
            maps = extract(self.backbone, batch.pictures)
            yield batch, maps if batch.judged is None else repeated(maps, batch.judged, self.size)
