"""The size that a folder's pictures are resized to, where nobody says: their own aspect, small enough."""

import math
from collections.abc import Sequence

import numpy as np

SHORTER = 256
MULTIPLE = 16  # of the backbones' strides
_ALIKE = math.log(1.05)  # of two aspects

Size = tuple[int, int]


def default(sizes: Sequence[Size]) -> Size:
    """The shorter side is 256, the aspect that of most pictures, both sides multiples of 16.

    Aspects within 5 % of each other count as one.

    Args:
        sizes: (height, width) of each picture, at least one.
    """
    aspects = np.sort([_aspect(size) for size in sizes])
    first = np.searchsorted(aspects, aspects - _ALIKE - 1e-9)
    last = np.searchsorted(aspects, aspects + _ALIKE + 1e-9)
    most = int(np.argmax(last - first))
    alike = aspects[first[most] : last[most]]
    ratio = math.exp(float(alike[len(alike) // 2]))  # height / width
    longer = max(round(SHORTER * max(ratio, 1 / ratio) / MULTIPLE), 1) * MULTIPLE
    return (longer, SHORTER) if ratio >= 1 else (SHORTER, longer)


def of_another_aspect(sizes: Sequence[Size], size: Size) -> list[int]:
    """Which pictures don't have the aspect of `size`, by more than 5 % and what rounding to 16 makes."""
    slack = _ALIKE + MULTIPLE / 2 / min(size)
    return [i for i, one in enumerate(sizes) if abs(_aspect(one) - _aspect(size)) > slack]


def _aspect(size: Size) -> float:
    return math.log(size[0] / size[1])
