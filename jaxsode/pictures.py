"""Pictures as the detector takes them: of a folder, batch by batch; in memory checked, of one size, its own.

On a CPU JAX may alias NumPy's memory, and it computes while the caller goes on. So whatever a caller may
still write to, a camera's buffer or shared memory, is copied before the call returns.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.errors import ArgumentError, DataError


def own(array: Any) -> Any:
    """An array that nobody else can write to: a NumPy array is copied, one of JAX's is immutable."""
    return array if isinstance(array, jax.Array) else np.array(array, copy=True)


def checked(pictures: Any) -> np.ndarray | jax.Array:
    """Pictures that a detector can take, in memory of their own.

    Args:
        pictures: (N, height, width, 3 or 1), uint8 or float in [0, 1].

    Returns:
        The same, uint8 or float32.

    Raises:
        ArgumentError: another shape or type.
    """
    array = pictures if isinstance(pictures, jax.Array) else np.asarray(pictures)
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or array.shape[0] == 0:
        raise ArgumentError(f"pictures have shape {array.shape}: it must be (N, height, width, 3 or 1)")
    if array.dtype == np.uint8:
        return own(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ArgumentError(f"pictures are {array.dtype}: give uint8, or floats in [0, 1]")
    return own(array).astype(np.float32)


def padded(batches: Iterable[Any]) -> Iterator[tuple[np.ndarray | jax.Array, int]]:
    """Pictures and how many of them count, every batch as large as the first.

    Args:
        batches: of pictures (N, height, width, C), or of objects with `pictures` and `valid`; none larger
            than the first.

    Raises:
        ArgumentError: a batch of another size, or larger than the first.
    """
    rows = shape = None
    for batch in batches:
        pictures = checked(getattr(batch, "pictures", batch))
        valid = getattr(batch, "valid", len(pictures))
        if rows is None or shape is None:
            rows, shape = len(pictures), pictures.shape[1:]
        if pictures.shape[1:] != shape or len(pictures) > rows:
            raise ArgumentError(
                f"a batch of shape {pictures.shape} after one of {(rows, *shape)}: "
                "give pictures of one size, in batches no larger than the first"
            )
        if len(pictures) < rows:
            padding = [(0, rows - len(pictures)), (0, 0), (0, 0), (0, 0)]
            pictures = np.pad(np.asarray(pictures), padding)
        yield pictures, valid


def batches(
    folder: str | Path, *, size: tuple[int, int] | None = None, batch_size: int = 8
) -> "FolderBatches":
    """The pictures of a folder and of the folders in it, a batch at a time: for `Detector.fit`, or to score.

    Every file counts whose suffix is that of a picture, as far as Pillow knows it, in the order of their
    paths; hidden ones are skipped, links to folders not followed.

    Args:
        folder: where they lie. Nothing is written there.
        size: (height, width) they are resized to; None takes them as they are, all of the first one's size.
        batch_size: pictures in each batch; the last has what is left.

    Returns:
        An iterable that reads the files anew each time, see `FolderBatches`.

    Raises:
        ArgumentError: a number below its range.
        DataError: no such folder, one that can't be listed, or one without pictures.
    """
    if batch_size < 1:
        raise ArgumentError(f"batch_size is {batch_size}: it must be at least 1")
    if size is not None and min(size) < 1:
        raise ArgumentError(f"size is {size[0]} × {size[1]}: height and width must be at least 1")
    files = _files(Path(folder))
    if not files:
        raise DataError(f"{folder} has no pictures: name a folder that has, .png or .jpg for example")
    return FolderBatches(files, size, batch_size)


class FolderBatches:
    """Batches of pictures, (B, height, width, 3) uint8; decoded while the last batch is computed on.

    It can be iterated over any number of times, and its length is the number of batches. Iterating raises a
    DataError for a file that can't be read, an ArgumentError for one of another size.

    Attributes:
        files: the pictures' paths, in order.
        batch_size: pictures in each batch but the last.
    """

    def __init__(self, files: tuple[Path, ...], size: tuple[int, int] | None, batch_size: int):
        self.files = files
        self.batch_size = batch_size
        self._resized = size

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        from jaxsode.datasets.pipeline import WORKERS  # late: the rest of this page needs no Pillow
        from jaxsode.datasets.workers import in_order

        _ = self.size  # of the first picture, known before the threads ask for it
        decoded = in_order(self._decode, self.files, workers=WORKERS, ahead=self.batch_size)
        try:
            while pictures := list(islice(decoded, self.batch_size)):
                yield np.stack(pictures)
        finally:
            decoded.close()

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of all."""
        return self._resized or self._open(self.files[0]).shape[:2]

    def _decode(self, path: Path) -> np.ndarray:
        if self._resized is not None:
            from jaxsode.datasets.decode import decode_picture

            return decode_picture(_read(path), size=self._resized, channels=3, where=str(path))
        picture = self._open(path)
        if picture.shape[:2] != self.size:
            here, first = (f"{height} × {width}" for height, width in (picture.shape[:2], self.size))
            raise ArgumentError(
                f"{path} is {here} and {self.files[0]} {first} (height × width): give pictures of one size, "
                "or the size that all are resized to"
            )
        return picture

    @staticmethod
    def _open(path: Path) -> np.ndarray:
        from jaxsode.datasets.decode import open_picture

        return np.asarray(open_picture(_read(path), channels=3, where=str(path)))


def _files(folder: Path) -> tuple[Path, ...]:
    from PIL import Image

    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}

    def refuse(error: OSError) -> None:
        raise DataError(
            f"can't list {error.filename}: name a folder of pictures ({error.strerror})"
        ) from error

    found: list[Path] = []
    for here, below, names in os.walk(folder, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(here, name) for name in names if not name.startswith(".")]
    return tuple(sorted(path for path in found if path.suffix.lower() in suffixes))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read {path}: mend or remove it ({error.strerror})") from error
