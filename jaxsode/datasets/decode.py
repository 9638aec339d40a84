"""Encoded pictures → arrays of 8 bits, grey or RGB, resized by Pillow's bilinear filter (antialiased)."""

import numpy as np
from PIL import Image

from jaxsode.errors import DataError
from jaxsode.preparation import RANGES, Preparation

from .reading import REMEDY, Stored, read

AS_STORED = Preparation()
"""Squeezed, pixels as they are stored (masks are drawn on those), 65535 white in 16 bits."""


def decode_picture(
    encoded: bytes,
    *,
    size: tuple[int, int],
    channels: int,
    where: str,
    preparation: Preparation = AS_STORED,
    beside_mask: bool = False,
) -> np.ndarray:
    """A picture file as uint8 (height, width, C).

    Args:
        encoded: the bytes of a file in any format that Pillow reads.
        size: (height, width) of the result.
        channels: C, 1 or 3. Colour becomes grey by ITU-R 601 luma; grey is repeated to three channels;
            16 bits are scaled (the range's end → 255); what is transparent is laid on black.
        where: names the picture in messages.
        preparation: see `Preparation`.
        beside_mask: whether a mask belongs to it.

    Raises:
        DataError: the file is cut short, not a picture or too large, or its pixels are of a kind that
            can't be read, have no known range or exceed it, or would be turned away from its mask.
    """
    image = open_picture(
        encoded, channels=channels, where=where, preparation=preparation, beside_mask=beside_mask
    )
    resized = preparation.resized(image, size)
    return resized if channels == 3 else resized[..., None]


def decode_mask(
    encoded: bytes, *, size: tuple[int, int], where: str, preparation: Preparation = AS_STORED
) -> np.ndarray:
    """A mask file as uint8 (height, width): 255 is defective, 0 is good. Otherwise as `decode_picture`."""
    image = open_mask(encoded, where=where, preparation=preparation)
    return preparation.resized(image, size, edge=False)


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
    shown = open_picture(picture, channels=channels, where=picture_name)
    image = open_picture(mask, channels=1, where=mask_name)
    check_sizes((shown.height, shown.width), (image.height, image.width), mask_name)
    highest = int(np.asarray(image).max())
    if 0 < highest < 255:
        raise DataError(f"{mask_name} has no value above {highest}: mark what is defective by 255")
    return highest == 255


def check_sizes(picture: tuple[int, int], mask: tuple[int, int], where: str) -> None:
    """Refuse a mask of another size, both (height, width), than its picture's."""
    if mask != picture:
        raise DataError(
            f"{where} is {mask[0]} × {mask[1]}, its picture {picture[0]} × {picture[1]} "
            "(height × width): draw the mask on the picture's own pixels"
        )


def open_picture(
    encoded: bytes,
    *,
    channels: int,
    where: str,
    preparation: Preparation = AS_STORED,
    beside_mask: bool = False,
) -> Image.Image:
    """A picture file as a decoded Pillow image of 8 bits, mode "L" (C = 1) or "RGB" (C = 3).

    Args:
        encoded, channels, where, preparation, beside_mask: see `decode_picture`.

    Raises:
        DataError: see `decode_picture`.
    """
    stored = read(encoded, where=where, max_pixels=preparation.max_pixels, oriented=preparation.upright)
    if beside_mask if preparation.upright else stored.is_turned:
        check_not_turned(stored, where)
    image = converted(stored, "L" if channels == 1 else "RGB", where, preparation.range)
    return stored.turned(image) if preparation.upright else image


def open_mask(encoded: bytes, *, where: str, preparation: Preparation = AS_STORED) -> Image.Image:
    """A mask file as a decoded Pillow image of mode "L".

    Args:
        encoded, where, preparation: see `decode_mask`.

    Raises:
        DataError: see `decode_picture`; or all that isn't black counts, and it is a JPEG, which has no black.
    """
    if not preparation.marked:
        return open_picture(encoded, channels=1, where=where, preparation=preparation)
    stored = read(encoded, where=where, max_pixels=preparation.max_pixels)
    if stored.image.format in ("JPEG", "MPO"):
        raise DataError(f"{where} is a JPEG, which blurs a mask's edges: draw the mask as a PNG")
    check_not_turned(stored, where)
    if stored.values is not None:
        shown = stored.values
    elif stored.image.mode == "I":
        shown = np.asarray(stored.image)
    else:
        shown = np.asarray(converted(stored, "RGB", where, None))
    marks = shown != 0
    return Image.fromarray((marks.any(-1) if marks.ndim == 3 else marks).astype(np.uint8) * 255)


def check_not_turned(stored: Stored, where: str) -> None:
    """Refuse a picture or mask that its EXIF orientation would turn away from the other."""
    if stored.orientation != 1:
        raise DataError(
            f"{where} carries an EXIF orientation ({stored.orientation}), and picture and mask may be meant "
            "on either side of it: save the picture as it is seen, without one, and draw the mask on that"
        )


def converted(stored: Stored, mode: str, where: str, white: int | None) -> Image.Image:
    """A decoded picture in 8 bits, not turned.

    Args:
        stored: as it was read.
        mode: "L" or "RGB".
        where: names it in messages.
        white: the range of 16 bits, see `Preparation`.

    Raises:
        DataError: its pixels are of a kind that can't be read, have no known range or exceed it.
    """
    image = stored.image
    if stored.values is not None:
        image = Image.fromarray(_of_8_bits(stored.values, white, where))
    elif image.mode in ("I", "F"):
        raise DataError(
            f"{where} has 32 bits a pixel, or signed ones, of no known range: save it with 8 or 16 bits"
        )
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    elif image.mode == "P":
        image = image.convert("RGB")
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise DataError(f"{where} has pixels of mode {image.mode}: {REMEDY}") from error


def _of_8_bits(values: np.ndarray, white: int | None, where: str) -> np.ndarray:
    """Scaled and rounded. Pillow's own conversion clips at 255: nearly everything would come out white."""
    if white is None:
        raise DataError(
            f"{where} has 16 bits, and cameras fill 10, 12, 14 or all of them: say what white is by range, "
            f"one of {', '.join(map(str, RANGES))}, the same for all that one detector sees"
        )
    check_range(int(values.max()), white, where)
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def check_range(highest: int, white: int, where: str) -> None:
    """Refuse a picture of 16 bits with a value above what is white; nothing is clipped."""
    if highest > white:
        wider = min(end for end in RANGES if end >= highest)
        raise DataError(
            f"{where} has a value of {highest}, above the range that ends at {white}: give range {wider} to "
            "all pictures and fit again, or leave it out"
        )
