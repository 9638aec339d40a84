"""Pictures as the detector takes them: of a folder, batch by batch; in memory checked, of one size, its own.

On a CPU JAX may alias NumPy's memory, and it computes while the caller goes on. So whatever a caller may
still write to, a camera's buffer or shared memory, is copied before the call returns.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsode.errors import ArgumentError, DataError
from jaxsode.home import expanded

if TYPE_CHECKING:
    from PIL.Image import Image

    from jaxsode.preparation import Preparation


def own(array: Any) -> Any:
    """An array that nobody else can write to: a NumPy array is copied, one of JAX's is immutable."""
    return array if isinstance(array, jax.Array) else np.array(array, copy=True)


SLACK = 1e-3
"""How far outside [0, 1] a float may lie: what resizing by float arithmetic leaves."""
_OVERSHOOT = 0.1  # below black, of resizing by a bicubic or a Lanczos filter


def checked(pictures: Any, *, wait: bool = False) -> np.ndarray | jax.Array:
    """Pictures that a detector can take, in memory of their own.

    Args:
        pictures: (N, height, width, 3 or 1), uint8 or float in [0, 1].
        wait: whether to wait for an array of JAX's, to check its range. Without, it isn't waited for, and
            what lies outside gives NaN (`fitting.extract_` sees to that).

    Returns:
        The same, uint8 or float32.

    Raises:
        ArgumentError: another shape, type or range.
    """
    array = pictures if isinstance(pictures, jax.Array) else _array(pictures)
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or array.shape[0] == 0:
        first = array.ndim == 4 and array.shape[1] in (1, 3)
        remedy = ": move the channels from the second axis to the last" if first else ""
        raise ArgumentError(
            f"pictures have shape {array.shape}: it must be (N, height, width, 3 or 1){remedy}"
        )
    if array.dtype == np.uint8:
        return own(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ArgumentError(f"pictures are {array.dtype}: give uint8, or floats in [0, 1]")
    array = own(array).astype(np.float32)
    if isinstance(array, np.ndarray) or (wait and not isinstance(array, Tracer)):
        _check_range(array)
    return array


def _array(pictures: Any) -> np.ndarray:
    """Not JAX's: of NumPy, of PyTorch on the CPU, a list of pictures of one size."""
    remedy = "give its pictures alone, (N, height, width, 3 or 1)"
    if isinstance(pictures, dict):
        raise ArgumentError(f"a batch is a dict of {', '.join(map(str, pictures))}: {remedy}")
    try:
        array = np.asarray(pictures)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(pictures).__name__
        what = f"a {kind} of {len(pictures)}" if isinstance(pictures, tuple | list) else f"a {kind}"
        reason = str(error).partition("\n")[0]
        raise ArgumentError(f"a batch is {what} and no one array: {remedy} ({reason})") from error
    if array.dtype == object:
        raise ArgumentError(f"a batch is a {type(pictures).__name__} and no array: {remedy}")
    return array


def _check_range(array: np.ndarray | jax.Array) -> None:
    """What is not finite may pass: it comes out as NaN."""
    xp = np if isinstance(array, np.ndarray) else jnp
    lowest, highest = float(xp.min(array)), float(xp.max(array))
    if not np.isfinite(lowest + highest):
        finite = xp.where(xp.isfinite(array), array, np.float32(0))
        lowest, highest = float(xp.min(finite)), float(xp.max(finite))
    if lowest < -SLACK or highest > 1 + SLACK:
        if lowest >= -_OVERSHOOT and highest <= 2:
            # Nothing that has 255 for white is so dark: divided by that, it would pass as black.
            remedy = "clip them to [0, 1], as after resizing"
        elif lowest >= 0 and highest <= 255:
            remedy = "divide them by 255, or give uint8"
        else:
            remedy = "don't normalise them, the backbone does"
        raise ArgumentError(f"pictures are floats in {lowest:.4g} … {highest:.4g}, not in [0, 1]: {remedy}")


def counted(batches: Iterable[Any]) -> int | None:
    """How many pictures there are, where that is known before any is read.

    Args:
        batches: a sequence of them, or `FolderBatches`; as `padded` takes them.
    """
    if isinstance(batches, FolderBatches):
        return batches.total
    if not isinstance(batches, Sequence):
        return None
    return sum(getattr(batch, "valid", len(batch) if hasattr(batch, "__len__") else 0) for batch in batches)


_PADDING = (
    "the pictures are padded, and padding would be taken for a part of them: squeeze or crop them, or use "
    "jaxsode run --resize pad, which judges what all of them show"
)


def padded(batches: Iterable[Any]) -> Iterator[tuple[np.ndarray | jax.Array, int]]:
    """Pictures and how many of them count, every batch as large as the first.

    Args:
        batches: of pictures (N, height, width, C), or of objects with `pictures` and `valid`; none larger
            than the first.

    Raises:
        ArgumentError: a batch of another size, or larger than the first; or padded pictures.
    """
    rows = shape = None
    if isinstance(batches, FolderBatches) and batches.preparation.resize == "pad":
        raise ArgumentError(_PADDING)
    for batch in batches:
        if getattr(batch, "judged", None) is not None:
            raise ArgumentError(_PADDING)
        # Only the first is waited for: who mistakes the range mistakes it in each.
        pictures = checked(getattr(batch, "pictures", batch), wait=rows is None)
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
    folder: str | Path,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 8,
    resize: Literal["squeeze", "crop", "pad"] = "squeeze",
    range: int | None = None,
    max_pixels: int | None = None,
) -> "FolderBatches":
    """The pictures of a folder and of the folders in it, a batch at a time: for `Detector.fit`, or to score.

    Every file counts whose suffix is that of a picture, as far as Pillow knows it, in the order of their
    paths; hidden ones and what operating systems leave are skipped, links to folders not followed. They are
    read by the rules of the data set `folder`: turned upright, nothing clipped.

    Args:
        folder: where they lie; `~` is the home folder. Nothing is written there.
        size: (height, width) they are resized to; None takes them as they are, all of the first one's size.
        batch_size: pictures in each batch; the last has what is left.
        resize: what becomes of another aspect, see `jaxsode.preparation.Preparation`.
        range: what is white in files of 16 bits: 255, 1023, 4095, 16383 or 65535, the same for all that one
            detector sees. None refuses such files.
        max_pixels: a file of more is refused; by default 178,956,970.

    Returns:
        An iterable that reads the files anew each time, see `FolderBatches`.

    Raises:
        ArgumentError: a number out of its range, or no path.
        DataError: no such folder, one that can't be listed, or one without pictures.
    """
    from jaxsode.datasets.listing import listed  # late: the rest of this page needs no Pillow
    from jaxsode.datasets.reading import suffixes
    from jaxsode.preparation import MAX_PIXELS, Preparation

    if batch_size < 1:
        raise ArgumentError(f"batch_size is {batch_size}: it must be at least 1")
    if size is not None and min(size) < 1:
        raise ArgumentError(f"size is {size[0]} × {size[1]}: height and width must be at least 1")
    preparation = Preparation(
        resize, range, upright=True, max_pixels=MAX_PIXELS if max_pixels is None else max_pixels
    )
    known = suffixes()
    folder = expanded(folder)
    paths = (folder / name for name in listed(folder).names)
    files = tuple(path for path in paths if path.suffix.lower() in known)
    if not files:
        raise DataError(f"{folder} has no pictures: name a folder that has, .png or .jpg for example")
    return FolderBatches(files, size, batch_size, preparation)


class FolderBatches:
    """Batches of pictures, (B, height, width, 3) uint8; decoded while the last batch is computed on.

    It can be iterated over any number of times, and its length is the number of batches. Iterating raises a
    DataError for a file that can't be read, an ArgumentError for one of another size.

    Attributes:
        files: the pictures' paths, in order.
        batch_size: pictures in each batch but the last.
        preparation: how they become arrays.
    """

    def __init__(
        self,
        files: tuple[Path, ...],
        size: tuple[int, int] | None,
        batch_size: int,
        preparation: "Preparation",
    ):
        self.files = files
        self.batch_size = batch_size
        self.preparation = preparation
        self._resized = size

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        from jaxsode.datasets.pipeline import WORKERS
        from jaxsode.datasets.workers import in_order

        _ = self.size  # of the first picture, known before the threads ask for it
        decoded = in_order(self._decode, self.files, workers=WORKERS, ahead=self.batch_size)
        try:
            while pictures := list(islice(decoded, self.batch_size)):
                yield np.stack(pictures)
        finally:
            decoded.close()

    @property
    def total(self) -> int:
        """N, how many pictures there are in all."""
        return len(self.files)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(height, width) of all."""
        if self._resized is not None:
            return self._resized
        first = self._open(self.files[0])
        return first.height, first.width

    def _decode(self, path: Path) -> np.ndarray:
        image = self._open(path)
        if self._resized is not None:
            return self.preparation.resized(image, self._resized)
        if (image.height, image.width) != self.size:
            first = f"{self.size[0]} × {self.size[1]}"
            raise ArgumentError(
                f"{_shown(path)} is {image.height} × {image.width} and {_shown(self.files[0])} {first} "
                "(height × width): give pictures of one size, or the size that all are resized to"
            )
        return np.asarray(image)

    def _open(self, path: Path) -> "Image":
        from jaxsode.datasets.decode import open_picture
        from jaxsode.datasets.listing import read_file

        return open_picture(read_file(path), channels=3, where=_shown(path), preparation=self.preparation)


def _shown(path: Path) -> str:
    from jaxsode.datasets.listing import shown

    return shown(str(path))
