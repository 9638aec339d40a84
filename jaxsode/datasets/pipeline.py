"""The one input pipeline: batches of decoded pictures, always of the same shape."""

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from jaxsode.errors import ArgumentError
from jaxsode.preparation import Placing

from .dataset import Dataset, Progress
from .workers import in_order

WORKERS = min(os.cpu_count() or 1, 8)

_Decoded = tuple[np.ndarray, Placing, np.ndarray | None]  # a picture, where it lies, and its mask


@dataclass(frozen=True, eq=False)
class Batch:
    """B pictures, of which the first `valid` are real and the rest repeat the last of them.

    Attributes:
        pictures: uint8 (B, height, width, C).
        valid: how many rows are real, 1 … B.
        indices: of the real rows, into `Dataset.examples`.
        masks: uint8 (B, height, width), or None where they weren't asked for.
        masked: bool (B,), False where a defective picture has no mask and its row of `masks` is 0; or None.
        placings: of the real rows, where the originals lie; None where nobody says, and all of them count.
    """

    pictures: np.ndarray
    valid: int
    indices: tuple[int, ...]
    masks: np.ndarray | None = None
    masked: np.ndarray | None = None
    placings: tuple[Placing, ...] | None = None

    @property
    def judged(self) -> np.ndarray | None:
        """int32 (B, 4), top, left, bottom, right of what counts of each row; the rest is to be neither
        fitted, scored nor evaluated. None where all of every row counts."""
        if self.placings is None:
            return None
        parts = [placing.judged for placing in self.placings]
        if all(part == (0, 0, *self.pictures.shape[1:3]) for part in parts):
            return None
        return np.array(parts + [parts[-1]] * (len(self.pictures) - len(parts)), np.int32)


def batches(
    dataset: Dataset,
    indices: Sequence[int],
    *,
    batch_size: int,
    size: tuple[int, int] | None = None,
    workers: int = WORKERS,
    prefetch: int = 2,
    with_masks: bool = False,
    progress: Progress | None = None,
) -> Generator[Batch, None, None]:
    """The pictures `indices` of a data set, in that order, B at a time.

    The last batch is padded to B too, so that whatever is compiled for the batch's shape is compiled once.
    Threads decode up to `prefetch` batches ahead while the caller computes; close the iterator (or drop it)
    to stop them early.

    Args:
        dataset: where the pictures are.
        indices: which, and in which order; into `dataset.examples`.
        batch_size: B ≥ 1.
        size: (height, width), by default the data set's own.
        workers: threads that decode, ≥ 1.
        prefetch: batches decoded ahead, ≥ 1. The pipeline holds up to (prefetch + 1) · B pictures.
        with_masks: whether to decode the masks as well.
        progress: called with (pictures done, pictures in all) each time a batch has been used.

    Raises:
        ArgumentError: a number below its range, or an index that isn't the data set's.
        DataError: (while iterating) a picture that can't be decoded.
    """
    for name, value in (("batch_size", batch_size), ("workers", workers), ("prefetch", prefetch)):
        if value < 1:
            raise ArgumentError(f"{name} is {value}: it must be at least 1")
    if size is not None and min(size) < 1:
        raise ArgumentError(f"size is {size[0]} × {size[1]}: height and width must be at least 1")
    for index in indices:
        if not 0 <= index < len(dataset.examples):
            last = len(dataset.examples) - 1
            raise ArgumentError(f"{dataset.name} has no picture {index}: indices go from 0 to {last}")

    def decode(index: int) -> _Decoded:
        mask = dataset.mask(index, size=size) if with_masks else None
        return *dataset.placed(index, size=size), mask

    def generate() -> Generator[Batch, None, None]:
        decoded = in_order(decode, indices, workers=workers, ahead=batch_size * prefetch)
        try:
            for start in range(0, len(indices), batch_size):
                taken = tuple(int(index) for index in indices[start : start + batch_size])
                yield _collate(list(islice(decoded, batch_size)), taken, batch_size, with_masks)
                if progress is not None:
                    progress(start + len(taken), len(indices))
        finally:
            decoded.close()

    return generate()


def _collate(decoded: list[_Decoded], indices: tuple[int, ...], batch_size: int, with_masks: bool) -> Batch:
    rows = [*decoded, *[decoded[-1]] * (batch_size - len(decoded))]
    pictures = np.stack([picture for picture, _, _ in rows])
    masks = masked = None
    if with_masks:
        masks = np.zeros(pictures.shape[:3], np.uint8)
        masked = np.array([mask is not None for *_, mask in rows])
        for row, (*_, mask) in zip(masks, rows, strict=True):
            if mask is not None:
                row[:] = mask
    placings = tuple(placing for _, placing, _ in decoded)
    return Batch(pictures, len(decoded), indices, masks, masked, placings)
