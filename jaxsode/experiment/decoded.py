"""A data set's pictures and masks at one size, each decoded once, and none of them held in memory.

What will be asked for again goes to a temporary file: a picture that is trained on in one fold and tested in
another, or whose heat map is drawn for every method of a sweep.
"""

import errno
import tempfile
import weakref
from collections.abc import Collection, Iterator, Sequence
from typing import IO

import numpy as np

from jaxsode.datasets import Batch, Dataset, batches
from jaxsode.errors import OutputError
from jaxsode.preparation import Placing


class Decoded:
    """Batches of pictures with their masks, by the pictures' indices.

    Args:
        dataset: decodes them.
        size: (height, width) they are resized to.
        batch_size: pictures in each batch; the last is padded.
        workers: threads that decode.
    """

    def __init__(self, dataset: Dataset, *, size: tuple[int, int], batch_size: int, workers: int):
        self.dataset = dataset
        self.size = size
        self.batch_size = batch_size
        self.workers = workers
        self._again: frozenset[int] = frozenset()
        self._file: IO[bytes] | None = None
        self._place: dict[int, int] = {}
        self._placing: dict[int, Placing] = {}

    def expect(self, again: Collection[int]) -> None:
        """Keep these, once they are decoded, for the next time.

        Args:
            again: indices of pictures that will be asked for more than once.
        """
        self._again = frozenset(again)

    def batches(self, indices: Sequence[int]) -> Iterator[Batch]:
        """These pictures and their masks, in order.

        Args:
            indices: of the data set's examples.

        Yields:
            Batches of `batch_size`, the last padded.

        Raises:
            DataError: a picture that can't be decoded.
            OutputError: the temporary folder is full.
        """
        known = [index in self._place for index in indices]
        if not any(known):
            yield from self._fresh(indices)
            return
        if not all(known):
            missing = [index for index, there in zip(indices, known, strict=True) if not there]
            self._again |= frozenset(missing)
            for _ in self._fresh(missing):
                pass
        for start in range(0, len(indices), self.batch_size):
            yield self._read(tuple(indices[start : start + self.batch_size]))

    def _fresh(self, indices: Sequence[int]) -> Iterator[Batch]:
        options = {"size": self.size, "batch_size": self.batch_size, "workers": self.workers}
        for batch in batches(self.dataset, indices, with_masks=True, **options):
            self._write(batch)
            yield batch

    def _write(self, batch: Batch) -> None:
        assert batch.masks is not None
        assert batch.masked is not None
        assert batch.placings is not None
        for row, index in enumerate(batch.indices[: batch.valid]):
            if index not in self._again or index in self._place:
                continue
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="jaxsode-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            record = (
                batch.pictures[row].tobytes() + batch.masks[row].tobytes() + bytes([int(batch.masked[row])])
            )
            try:
                self._file.seek(len(self._place) * len(record))
                self._file.write(record)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise OutputError(
                    f"the temporary folder {tempfile.gettempdir()} is full: make room there, or set TMPDIR "
                    "to another"
                ) from error
            self._place[index] = len(self._place)
            self._placing[index] = batch.placings[row]

    def _read(self, indices: tuple[int, ...]) -> Batch:
        assert self._file is not None
        height, width = self.size
        pixels = height * width
        length = pixels * (self.dataset.channels + 1) + 1
        rows = np.empty((self.batch_size, length), np.uint8)
        for row, index in enumerate(indices):
            self._file.seek(self._place[index] * length)
            rows[row] = np.frombuffer(self._file.read(length), np.uint8)
        rows[len(indices) :] = rows[len(indices) - 1]
        return Batch(
            pictures=rows[:, : -pixels - 1].reshape(self.batch_size, height, width, -1).copy(),
            valid=len(indices),
            indices=indices,
            masks=rows[:, -pixels - 1 : -1].reshape(self.batch_size, height, width).copy(),
            masked=rows[:, -1].astype(bool),
            placings=tuple(self._placing[index] for index in indices),
        )
