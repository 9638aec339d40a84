"""--ignore-mask: regions that don't matter, from a picture to the detector's size."""

from pathlib import Path

import numpy as np

from jaxsode.datasets.decode import open_picture
from jaxsode.datasets.listing import read_file
from jaxsode.errors import DataError
from jaxsode.home import expanded, readable
from jaxsode.preparation import Preparation


def ignored(path: Path | None, size: tuple[int, int], preparation: Preparation | None) -> np.ndarray | None:
    """What a mask says is to be ignored.

    Args:
        path: a picture, white where nothing matters, drawn on one of the pictures; None for none.
        size: (height, width) of the detector.
        preparation: the detector's: the mask is resized or cropped as the pictures are.

    Returns:
        (height, width) bool; None without a path.

    Raises:
        DataError: it can't be read, or marks nothing or everything.
    """
    if path is None:
        return None
    file = expanded(path)
    preparation = preparation or Preparation()
    plain = Preparation(preparation.resize, 65535, upright=preparation.upright)
    image = open_picture(read_file(file), channels=1, where=readable(file), preparation=plain)
    marked = plain.resized(image, size) > 127
    if not marked.any() or marked.all():
        what = "nothing" if not marked.any() else "everything"
        raise DataError(
            f"--ignore-mask {readable(file)} marks {what} at {size[0]} × {size[1]}: paint white what doesn't "
            "matter, and the rest black"
        )
    return marked
