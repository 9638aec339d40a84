"""Pictures in memory as the detector takes them: checked, of one size, and its own.

On a CPU JAX may alias NumPy's memory, and it computes while the caller goes on. So whatever a caller may
still write to, a camera's buffer or shared memory, is copied before the call returns.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.errors import ArgumentError


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
        batches: of pictures, or of objects with `pictures` and `valid`; none larger than the first.

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
