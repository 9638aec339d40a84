"""From a picture's own pixels to those that are computed on, and back: the rules, stored with the results."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from jaxsode.errors import ArgumentError

if TYPE_CHECKING:
    from PIL import Image

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
        inside: the rows and columns of the result that show it; what lies outside them is padding.
        judged: of those the part that all fitted pictures show; the rest is neither fitted, scored nor
            evaluated.
    """

    original: tuple[int, int]
    box: Rows
    inside: Rows
    judged: Rows

    def masked(self, anomaly_map: np.ndarray) -> np.ndarray:
        """An anomaly map (height, width) of the resized picture, NaN where it isn't judged."""
        top, left, bottom, right = self.judged
        judged = np.full_like(anomaly_map, np.nan)
        judged[top:bottom, left:right] = anomaly_map[top:bottom, left:right]
        return judged


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
        shown: top, left, bottom, right of what all fitted pictures show at the size that they are resized to,
            where that is known; None where nothing is padded.

    Raises:
        ArgumentError: a value that is none of these.
    """

    resize: Resize = "squeeze"
    range: int | None = 65535
    upright: bool = False
    marked: bool = False
    max_pixels: int = MAX_PIXELS
    shown: Rows | None = None

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
        box, inside = (0, 0, *original), (0, 0, *size)
        scales = size[0] / original[0], size[1] / original[1]
        if self.resize == "crop":
            box = _middle(tuple(side / max(scales) for side in size), original)
        if self.resize == "pad":
            inside = _middle(tuple(side * min(scales) for side in original), size)
        return Placing(original, box, inside, inside if self.shown is None else common([inside, self.shown]))

    def page(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def of_page(cls, page: dict[str, Any]) -> Self:
        """What `page` gave."""
        page = dict(page)
        shown = page.pop("shown")
        return cls(**page, shown=None if shown is None else tuple(shown))

    def resized(self, image: "Image.Image", size: tuple[int, int], *, edge: bool = True) -> np.ndarray:
        """A picture at a size, by Pillow's bilinear filter (antialiased).

        Args:
            image: of mode "L" or "RGB".
            size: (height, width).
            edge: whether padding repeats the edge; if not, it is 0.

        Returns:
            (height, width) or (height, width, 3) uint8.
        """
        from PIL import Image

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
            (height, width) of the original, float32; bilinear, NaN where the picture isn't judged.
        """
        from PIL import Image

        placing = self.placing(original, (anomaly_map.shape[0], anomaly_map.shape[1]))
        top, left, bottom, right = placing.inside
        inner = np.ascontiguousarray(anomaly_map[top:bottom, left:right], np.float32)
        out = np.full(original, np.nan, np.float32)
        y, x, y_end, x_end = placing.box
        grown = Image.fromarray(inner).resize((x_end - x, y_end - y), Image.Resampling.BILINEAR)
        out[y:y_end, x:x_end] = np.asarray(grown)
        if placing.judged == placing.inside:
            return out
        down, along = (y_end - y) / inner.shape[0], (x_end - x) / inner.shape[1]
        rows = slice(*(y + round((row - top) * down) for row in placing.judged[::2]))
        columns = slice(*(x + round((column - left) * along) for column in placing.judged[1::2]))
        judged = np.full(original, np.nan, np.float32)
        judged[rows, columns] = out[rows, columns]
        return judged


def common(parts: Iterable[Rows]) -> Rows:
    """Top, left, bottom, right of what several parts of a picture have in common; their middles are one.

    Args:
        parts: at least one.
    """
    top, left, bottom, right = zip(*parts, strict=True)
    return max(top), max(left), min(bottom), min(right)


def _middle(sides: tuple[float, ...], of: tuple[int, int]) -> Rows:
    """The middle of a picture of this size, its sides rounded to whole pixels, at least one."""
    height, width = (min(max(round(side), 1), whole) for side, whole in zip(sides, of, strict=True))
    top, left = (of[0] - height) // 2, (of[1] - width) // 2
    return top, left, top + height, left + width
