"""Pictures that were padded to one size: only what all fitted ones show is fitted, scored and evaluated.

So each location has as many pictures as any other. The rest of the grid repeats the nearest location that
counts, in every picture: nothing of the padding's own features goes on to what all locations share, or
through the anomaly map's filter into what is judged.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.datasets import Dataset, batches
from jaxsode.fitting import FeatureMaps
from jaxsode.preparation import common


def narrowed(dataset: Dataset, fitted: Sequence[int], *, size: tuple[int, int], workers: int) -> Dataset:
    """The data set, of which only what the fitted pictures have in common is judged.

    Args:
        dataset: whose pictures are padded; another stays as it is.
        fitted: indices of all pictures that are fitted on, in any split.
        size: (height, width) that they are resized to.
        workers: threads that decode.

    Raises:
        DataError: a picture that can't be decoded.
    """
    if dataset.preparation.resize != "pad":
        return dataset
    decoded = batches(dataset, fitted, batch_size=1, size=size, workers=workers)
    shown = common(placing.inside for batch in decoded for placing in batch.placings or ())
    top, left, bottom, right = shown
    note = (
        f"padded: of {size[0]} × {size[1]} the {bottom - top} × {right - left} that all fitted pictures show "
        "are judged, of a picture of another aspect what it shows of those"
    )
    preparation = dataclasses.replace(dataset.preparation, shown=shown)
    return dataclasses.replace(dataset, preparation=preparation, notes=(*dataset.notes, note))


def repeated(maps: FeatureMaps, judged: np.ndarray, size: tuple[int, int]) -> FeatureMaps:
    """Feature maps in which each location outside of what is judged has the features of the nearest inside.

    Args:
        maps: (B, h, w, C) for each scale.
        judged: int32 (B, 4), see `jaxsode.datasets.Batch`.
        size: (height, width) of the pictures.

    Returns:
        The same shapes. A location is inside where its centre is; where none is, the one at the middle is.
    """
    return tuple(_repeated(m, jnp.asarray(judged), size) for m in maps)


@jax.jit(static_argnums=2)
def _repeated(m: jax.Array, judged: jax.Array, size: tuple[int, int]) -> jax.Array:
    rows = _nearest(judged[:, 0], judged[:, 2], m.shape[1], size[0])
    columns = _nearest(judged[:, 1], judged[:, 3], m.shape[2], size[1])
    m = jnp.take_along_axis(m, rows[:, :, None, None], axis=1)
    return jnp.take_along_axis(m, columns[:, None, :, None], axis=2)


def _nearest(start: jax.Array, stop: jax.Array, n: int, length: int) -> jax.Array:
    """(B, n) for each of n locations along `length` pixels the nearest whose centre, (i + ½)·length/n, lies
    in [start, stop). In whole numbers: 2·length·i + length against 2·n·start."""
    first = (2 * n * start - length + 2 * length - 1) // (2 * length)
    last = (2 * n * stop - length + 2 * length - 1) // (2 * length) - 1
    middle = (n * (start + stop)) // (2 * length)
    none = first > last
    first, last = jnp.where(none, middle, first), jnp.where(none, middle, last)
    return jnp.clip(jnp.arange(n, dtype=start.dtype)[None], first[:, None], last[:, None])
