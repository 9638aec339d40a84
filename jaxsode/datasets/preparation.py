"""From a picture's own pixels to those that are computed on, and back: the rules, stored with the results."""

import math
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
    box: tuple[float, float, float, float]
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
        (height, width), (to_height, to_width) = original, size
        whole = Placing(original, (0.0, 0.0, float(height), float(width)), (0, 0, to_height, to_width))
        scales = to_height / height, to_width / width
        if self.resize == "squeeze" or math.isclose(*scales, rel_tol=1e-9):
            return whole
        if self.resize == "crop":
            scale = max(scales)
            top, left = (height - to_height / scale) / 2, (width - to_width / scale) / 2
            top, left = max(top, 0.0), max(left, 0.0)
            return Placing(original, (top, left, height - top, width - left), whole.inside)
        scale = min(scales)
        inner = (
            min(max(round(height * scale), 1), to_height),
            min(max(round(width * scale), 1), to_width),
        )
        top, left = (to_height - inner[0]) // 2, (to_width - inner[1]) // 2
        return Placing(original, whole.box, (top, left, top + inner[0], left + inner[1]))

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
        top, left, bottom, right = placing.inside
        inner = (right - left, bottom - top)
        if placing.box == (0, 0, image.height, image.width):
            pixels = np.asarray(image.resize(inner, Image.Resampling.BILINEAR))
        else:
            y, x, y_end, x_end = placing.box
            pixels = np.asarray(image.resize(inner, Image.Resampling.BILINEAR, box=(x, y, x_end, y_end)))
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
        y, x, y_end, x_end = placing.box
        first, last = (math.ceil(y), math.ceil(x)), (math.floor(y_end), math.floor(x_end))
        scale = inner.shape[0] / (y_end - y), inner.shape[1] / (x_end - x)
        box = (
            (first[1] - x) * scale[1],
            (first[0] - y) * scale[0],
            min((last[1] - x) * scale[1], inner.shape[1]),
            min((last[0] - y) * scale[0], inner.shape[0]),
        )
        out = np.full(original, np.nan, np.float32)
        grown = Image.fromarray(inner).resize(
            (last[1] - first[1], last[0] - first[0]), Image.Resampling.BILINEAR, box=box
        )
        out[first[0] : last[0], first[1] : last[1]] = np.asarray(grown)
        return out
