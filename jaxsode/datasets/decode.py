"""Encoded pictures → arrays of 8 bits, grey or RGB, resized by Pillow's bilinear filter (antialiased).

Pixels are taken as they are stored: an EXIF orientation is not applied, because the masks are drawn on the
stored pixels.
"""

import io
import struct

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from jaxsode.errors import DataError

_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error)
_REMEDY = "save it as grey or RGB, with 8 or 16 bits"


def decode_picture(encoded: bytes, *, size: tuple[int, int], channels: int, where: str) -> np.ndarray:
    """A picture file as uint8 (height, width, C).

    Args:
        encoded: the bytes of a file in any format that Pillow reads.
        size: (height, width) of the result.
        channels: C, 1 or 3. Colour becomes grey by ITU-R 601 luma; grey is repeated to three channels;
            16-bit grey is scaled (65535 → 255); what is transparent is laid on black.
        where: names the picture in messages.

    Raises:
        DataError: the file is cut short, not a picture or too large, or its pixels are of a kind that
            can't be read or has no known range.
    """
    resized = _resize(open_picture(encoded, channels=channels, where=where), size)
    return resized if channels == 3 else resized[..., None]


def decode_mask(encoded: bytes, *, size: tuple[int, int], where: str) -> np.ndarray:
    """A mask file as uint8 (height, width): 255 is defective, 0 is good. Otherwise as `decode_picture`."""
    return _resize(open_picture(encoded, channels=1, where=where), size)


def check_pair(picture: bytes, mask: bytes, *, channels: int, where: tuple[str, str]) -> bool:
    """Whether a picture is defective, once it and its mask have been decoded and found to fit.

    Args:
        picture, mask: the files' bytes.
        channels: C of the picture.
        where: names the picture and the mask in messages.

    Raises:
        DataError: either is unreadable, their sizes differ, or the mask isn't one of 0 and 255.
    """
    picture_name, mask_name = where
    size = open_picture(picture, channels=channels, where=picture_name).size
    image = open_picture(mask, channels=1, where=mask_name)
    if image.size != size:
        raise DataError(
            f"{mask_name} is {image.height} × {image.width}, its picture {size[1]} × {size[0]} "
            "(height × width): draw the mask on the picture's own pixels"
        )
    highest = int(np.asarray(image).max())
    if 0 < highest < 255:
        raise DataError(f"{mask_name} has no value above {highest}: mark what is defective by 255")
    return highest == 255


def open_picture(encoded: bytes, *, channels: int, where: str) -> Image.Image:
    """A picture file as a decoded Pillow image of 8 bits, mode "L" (C = 1) or "RGB" (C = 3)."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
    except UnidentifiedImageError as error:
        if _is_tiff_of_unknown_pixels(encoded):
            raise DataError(f"{where} is a TIFF of a kind that can't be read: {_REMEDY}") from error
        raise DataError(f"{where} is not a picture, or only the start: get the file again") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{where} is too large: make it smaller, or cut it in tiles ({error})") from error
    except _UNREADABLE as error:
        raise DataError(f"{where} is cut short or damaged: get the file again ({error})") from error
    try:
        return _convert(image, "L" if channels == 1 else "RGB", where)
    except ValueError as error:
        raise DataError(f"{where} has pixels of mode {image.mode}: {_REMEDY}") from error


def _is_tiff_of_unknown_pixels(encoded: bytes) -> bool:
    """Whether the header is whole, and only says what Pillow has no mode for (64-bit numbers, say)."""
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(encoded))
    except SyntaxError as error:
        return "unknown pixel mode" in str(error)
    except _UNREADABLE:
        pass
    return False


def _convert(image: Image.Image, mode: str, where: str) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow's own conversion clips at 255: nearly everything would come out white
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise DataError(f"{where} has 32 bits a pixel, of no known range: save it with 8 or 16 bits")
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    elif image.mode == "P":
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _resize(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
