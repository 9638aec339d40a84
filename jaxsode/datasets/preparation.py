"""From a picture's own pixels to those that are computed on, and back: the rules, stored with the results."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from jaxsode.errors import ArgumentError

RANGES = (255, 1023, 4095, 16383, 65535)
"""What white may be in a file of 16 bits: cameras give 8, 10, 12, 14 or 16 of them."""

MAX_PIXELS = 178_956_970
"""A picture of more is refused unless told otherwise; in colour it takes 0.7 GB while it is decoded."""

Resize = Literal["squeeze", "crop", "pad"]
RESIZES: tuple[Resize, ...] = ("squeeze", "crop", "pad")

Rows = tuple[int, int, int, int]
"""top, left, bottom, right, the last two exclusive."""


@dataclass(frozen=True)
class Placing:
    """Where a picture's pixels lie once it is resized.

    Attributes:
        original: its height and width, turned upright where that was asked for.
        box: top, left, bottom, right of the part of the original that is kept, in its pixels.
        inside: the rows and columns of the result that show it; what lies outside them is padding, and
            neither fitted, scored nor evaluated.
    """

    original: tuple[int, int]
    box: Rows
    inside: Rows


@dataclass(frozen=True)
class Preparation:
    """How files become arrays of 8 bits. A detector is right only for pictures prepared as its own were.

    Attributes:
        resize: "squeeze" to the size, whatever the aspect; "crop" what exceeds its aspect, half on either
            side; "pad" what lacks, half on either side, by repeating the edge.
        range: what is white in a file of 16 bits, one of RANGES; a value above it is an error. None refuses
            such files.
        upright: whether a picture is turned as its EXIF orientation says. If so, one that would be turned is
            refused beside a mask, which may be drawn on either. If not, pixels are taken as they are stored.
        marked: whether all of a mask that is not black counts as 255. If not, its grey is taken as it is.
        max_pixels: a file of more is refused.

    Raises:
        ArgumentError: a value that is none of these.
    """

    resize: Resize = "squeeze"
    range: int | None = 65535
    upright: bool = False
    marked: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ArgumentError(f"resize is {self.resize!r}: choose one of {', '.join(RESIZES)}")
        if self.range is not None and self.range not in RANGES:
            raise ArgumentError(f"range is {self.range}: choose one of {', '.join(map(str, RANGES))}")
        if self.max_pixels < 1:
            raise ArgumentError(f"max_pixels is {self.max_pixels}: it must be at least 1")

    def placing(self, original: tuple[int, int], size: tuple[int, int]) -> Placing:
        """Where a picture's pixels come to lie.

        Args:
            original: (height, width) of the picture, turned upright where that is asked for.
            size: (height, width) that it is resized to.
        """
        whole = Placing(original, (0, 0, *original), (0, 0, *size))
        scales = size[0] / original[0], size[1] / original[1]
        if self.resize == "squeeze":
            return whole
        if self.resize == "crop":
            kept = tuple(side / max(scales) for side in size)
            return Placing(original, _middle(kept, original), whole.inside)
        return Placing(original, whole.box, _middle(tuple(side * min(scales) for side in original), size))

    def resized(self, image: Image.Image, size: tuple[int, int], *, edge: bool = True) -> np.ndarray:
        """A picture at a size, by Pillow's bilinear filter (antialiased).

        Args:
            image: of mode "L" or "RGB".
            size: (height, width).
            edge: whether padding repeats the edge; if not, it is 0.

        Returns:
            (height, width) or (height, width, 3) uint8.
        """
        placing = self.placing((image.height, image.width), size)
        top, left, bottom, right = placing.box
        if (bottom - top, right - left) != placing.original:
            image = image.crop((left, top, right, bottom))
        top, left, bottom, right = placing.inside
        inner = (right - left, bottom - top)
        pixels = np.asarray(image.resize(inner, Image.Resampling.BILINEAR))
        if inner == (size[1], size[0]):
            return pixels
        around = [(top, size[0] - bottom), (left, size[1] - right)] + [(0, 0)] * (pixels.ndim - 2)
        return np.pad(pixels, around, mode="edge" if edge else "constant")

    def restored(self, anomaly_map: np.ndarray, original: tuple[int, int]) -> np.ndarray:
        """An anomaly map at the size of the original picture.

        Args:
            anomaly_map: (height, width) of a picture that was prepared so.
            original: (height, width) of that picture.

        Returns:
            (height, width) of the original, float32; bilinear, NaN where the picture was cropped away.
        """
        placing = self.placing(original, (anomaly_map.shape[0], anomaly_map.shape[1]))
        top, left, bottom, right = placing.inside
        inner = np.ascontiguousarray(anomaly_map[top:bottom, left:right], np.float32)
        out = np.full(original, np.nan, np.float32)
        y, x, y_end, x_end = placing.box
        grown = Image.fromarray(inner).resize((x_end - x, y_end - y), Image.Resampling.BILINEAR)
        out[y:y_end, x:x_end] = np.asarray(grown)
        return out


def _middle(sides: tuple[float, ...], of: tuple[int, int]) -> Rows:
    """The middle of a picture of this size, its sides rounded to whole pixels, at least one."""
    height, width = (min(max(round(side), 1), whole) for side, whole in zip(sides, of, strict=True))
    top, left = (of[0] - height) // 2, (of[1] - width) // 2
    return top, left, top + height, left + width
