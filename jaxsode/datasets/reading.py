"""A picture's file → its pixels as they were stored, by Pillow, and what it says of itself.

Pillow is asked for more than its defaults give: 16 bits in colour (it keeps the higher 8), files beyond its
own limit without its warning, and which files it only pretends to read.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from jaxsode.errors import DataError

REMEDY = "save it as grey or RGB, with 8 or 16 bits"

# These it recognises, and reads with another program or not at all.
_NO_PICTURES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
# More than one image each, of which the first is the picture: a phone's photo, layers.
_FIRST_COUNTS = frozenset({"MPO", "PSD"})
_NOT_THIS = (
    SyntaxError,
    IndexError,
    TypeError,
    struct.error,
)  # by which a format says that it isn't its file
_UNREADABLE = (OSError, ValueError, EOFError, *_NOT_THIS)
_ORIENTATION = 0x0112

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What gives the lower 8 bits of each channel, where this gives the higher.
_OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if struct.pack("=H", 1) == b"\1\0" else "RGB;16L",
    "RGBX;16B": "RGBX;16L",
    "RGBX;16L": "RGBX;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
}


@dataclass(frozen=True)
class Stored:
    """A picture as it was stored.

    Attributes:
        image: decoded; of 16 bits in colour only its size and mode mean anything.
        values: uint16 (height, width) or (height, width, 3) where it has 16 bits, else None.
        orientation: the EXIF orientation that the file carries, 1 … 8; 1 turns nothing.
        is_turned: whether it has been applied already.
    """

    image: Image.Image
    values: np.ndarray | None
    orientation: int
    is_turned: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) once it is upright."""
        sides = self.image.height, self.image.width
        return (sides[1], sides[0]) if self.orientation >= 5 and not self.is_turned else sides

    def turned(self, image: Image.Image) -> Image.Image:
        """An image of these pixels, upright."""
        return image if self.is_turned or self.orientation == 1 else image.transpose(_TURNS[self.orientation])


def suffixes() -> frozenset[str]:
    """Of files that may be pictures, in lower case, with the dot."""
    readable = Image.registered_extensions().items()
    return frozenset(s for s, kind in readable if kind in Image.OPEN and kind not in _NO_PICTURES)


def read(encoded: bytes, *, where: str, max_pixels: int, oriented: bool = True) -> Stored:
    """Decode a file.

    Args:
        encoded: its bytes.
        where: names it in messages.
        max_pixels: refused if it has more.
        oriented: whether its EXIF data are looked at; if not, and it is no TIFF, its orientation is 1.

    Raises:
        DataError: it is empty, cut short, no picture, several pictures or too large, or its pixels are of a
            kind that can't be read.
    """
    try:
        image = _opened(encoded, where, max_pixels)
        if (frames := getattr(image, "n_frames", 1)) > 1 and image.format not in _FIRST_COUNTS:
            raise DataError(f"{where} holds {frames} pictures: save the one that counts in a file of its own")
        # Pillow turns a TIFF itself as it loads it, and forgets the tag
        tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else None
        orientation = None if tags is None else tags.get(_ORIENTATION, 1)
        values = _of_16_bits(image, encoded, where)
        image.load()
        if orientation is None:
            orientation = image.getexif().get(_ORIENTATION, 1) if oriented else 1
    except _UNREADABLE as error:
        raise DataError(f"{where} is cut short or damaged: get the file again ({error})") from error
    return Stored(image, values, orientation if orientation in _TURNS else 1, is_turned=tags is not None)


def _opened(encoded: bytes, where: str, max_pixels: int) -> ImageFile.ImageFile:
    """What `Image.open` does, but for its limit, which is one for the whole process."""
    if not encoded:
        raise DataError(f"{where} is empty: get the file again")
    tried = set(_NO_PICTURES)
    for known in (Image.preinit, Image.init):
        known()
        for kind in [kind for kind in Image.ID if kind not in tried]:
            tried.add(kind)
            factory, accept = Image.OPEN[kind]
            if accept is not None and accept(encoded[:16]) in (False, None, ""):
                continue
            try:
                image = factory(io.BytesIO(encoded), "")
            except Image.DecompressionBombError as error:
                raise DataError(f"{where} is too large: cut it in tiles ({error})") from error
            except _NOT_THIS:
                continue
            if image.width * image.height > max_pixels:
                raise DataError(
                    f"{where} has {image.height} × {image.width} pixels (height × width), more than "
                    f"max_pixels, {max_pixels}: raise it, or cut the picture in tiles"
                )
            return image
    if _is_tiff_of_unknown_pixels(encoded):
        raise DataError(f"{where} is a TIFF of a kind that can't be read: {REMEDY}")
    raise DataError(f"{where} is not a picture, or only the start: get the file again")


def _is_tiff_of_unknown_pixels(encoded: bytes) -> bool:
    """Whether the header is whole, and only says what Pillow has no mode for (64-bit numbers, say)."""
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(encoded))
    except SyntaxError as error:
        return "unknown pixel mode" in str(error)
    except _UNREADABLE:
        pass
    return False


def _of_16_bits(image: ImageFile.ImageFile, encoded: bytes, where: str) -> np.ndarray | None:
    """uint16 (height, width) or (height, width, 3), None if it has no 16 bits."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        image.load()
        return np.asarray(image).astype(np.uint16)
    args = image.tile[0].args if image.tile else None
    if _are_cut(image, encoded, args):
        raise DataError(f"{where} has 16 bits in a form that can't be read: {REMEDY}")
    raw = args[0] if isinstance(args, tuple) and args else args
    if not isinstance(raw, str) or ";16" not in raw:
        return None

    def decoded(raw: str) -> np.ndarray:
        again = type(image)(io.BytesIO(encoded), "")
        again.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw)
            for tile in again.tile
        ]
        again.load()
        return np.asarray(again).astype(np.uint16)

    if raw == "LA;16B":
        four = decoded("RGBA")  # its four bytes, as they are
        values = four[..., 0::2] << 8 | four[..., 1::2]
    elif raw in _OTHER_BYTE:
        values = decoded(raw) << 8 | decoded(_OTHER_BYTE[raw])
    else:
        raise DataError(f"{where} has 16 bits in a form that can't be read: {REMEDY}")
    if values.shape[-1] in (2, 4) and (values[..., -1] < 65535).any():
        raise DataError(f"{where} has 16 bits and is partly transparent: save it without transparency")
    return values[..., 0] if values.shape[-1] == 2 else values[..., :3]


def _are_cut(image: ImageFile.ImageFile, encoded: bytes, args: object) -> bool:
    """Whether Pillow would give the higher 8 bits of what the file has more of, in formats of few cameras."""
    if image.format == "PPM" and isinstance(args, tuple):
        return isinstance(args[-1], int) and args[-1] > 255
    if image.format == "SGI":
        return encoded[3] == 2  # bytes a channel
    if image.format == "JPEG2000":
        start = encoded.find(b"\xff\x4f\xff\x51")  # of the codestream, whose 42nd byte has the bits, less one
        return start >= 0 and any(bits & 0x7F > 7 for bits in encoded[start + 42 : start + 43])
    return False
