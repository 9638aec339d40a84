"""A picture's file → the array that the exported detector takes, as model.json beside this file says.

Needs numpy and pillow. Each step is what the detector's own pictures went through: 8 bits by the range that
was stated, transparency on black, grey repeated to RGB, upright, cut or squeezed, Pillow's bilinear filter.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

MODEL = json.loads((Path(__file__).parent / "model.json").read_text(encoding="utf-8"))
RULES = MODEL["preparation"]
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
ORIENTATION = 0x0112  # of EXIF
TURNS = dict(enumerate(Image.Transpose[name] for name in (
    "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"
)))  # fmt: skip
OTHER_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
}  # gives the lower 8 bits where this gives the higher
Image.MAX_IMAGE_PIXELS = None  # the limit is the detector's own


def prepared(path):
    """(height, width, 3) uint8 of a file; ValueError, in a line, where it can't be read as it should."""
    try:
        image, values, orientation = opened(path)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if values is not None:
        image = Image.fromarray(of_8_bits(values, path))
    elif image.mode in ("I", "F"):
        raise ValueError(f"{path} has 32 bits a pixel, of no known range: save it with 8 or 16 bits")
    elif image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    image = image.convert("RGB")
    if orientation - 2 in TURNS:
        image = image.transpose(TURNS[orientation - 2])
    height, width = MODEL["size"]
    if RULES["resize"] == "crop":
        scale = max(height / image.height, width / image.width)
        sides = ((height, image.height), (width, image.width))
        tall, wide = (min(max(round(side / scale), 1), whole) for side, whole in sides)
        top, left = (image.height - tall) // 2, (image.width - wide) // 2
        image = image.crop((left, top, left + wide, top + tall))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def opened(path):
    """The image, its uint16 values where it has 16 bits, the EXIF orientation that is still to be applied."""
    with Image.open(path) as image:
        if image.format not in FORMATS or getattr(image, "n_frames", 1) > 1:
            raise ValueError(f"{path} is {image.format}, or holds several pictures: save it as PNG")
        if image.width * image.height > RULES["max_pixels"]:
            raise ValueError(f"{path} has more than {RULES['max_pixels']} pixels: cut it in tiles")
        # Pillow turns a TIFF itself as it loads it, and forgets the tag.
        tags = getattr(image, "tag_v2", None)
        turned = None if tags is None else tags.get(ORIENTATION, 1)
        if turned not in (None, 1) and not RULES["upright"]:
            raise ValueError(f"{path} is a TIFF with an orientation: save it as it is seen, without one")
        raw = image.tile[0].args if image.tile else None
        raw = raw[0] if isinstance(raw, tuple) and raw else raw
        image.load()
        values = None
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
            values = np.asarray(image).astype(np.uint16)
        elif isinstance(raw, str) and ";16" in raw:
            values = colour_of_16_bits(path, raw)
        if turned is not None or not RULES["upright"]:
            return image, values, 1
        return image, values, image.getexif().get(ORIENTATION, 1)


def colour_of_16_bits(path, raw):
    """(height, width, 3) uint16: Pillow keeps the higher 8 bits alone, so it is asked twice."""
    if raw not in OTHER_BYTE:
        raise ValueError(f"{path} has 16 bits in a form that can't be read: save it as grey or RGB")
    halves = []
    for wanted in (raw, OTHER_BYTE[raw]):
        with Image.open(path) as image:
            image.tile = [
                tile._replace(args=(wanted, *tile.args[1:]) if isinstance(tile.args, tuple) else wanted)
                for tile in image.tile
            ]
            image.load()
            halves.append(np.asarray(image).astype(np.uint16))
    return halves[0] << 8 | halves[1]


def of_8_bits(values, path):
    """Scaled by what is white, and rounded; nothing is clipped."""
    white = RULES["range"]
    if white is None:
        raise ValueError(f"{path} has 16 bits, and the detector was fitted without a range: use 8 bits")
    if values.max() > white:
        raise ValueError(f"{path} has a value of {values.max()}, above the range that ends at {white}")
    return ((values.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def said(path, found):
    """A line of one picture's score, p-value and decision; each has one element for each picture."""
    words = [str(path), f"score {found['score'][0]:.6g}"]
    if "defective" in found:
        words += [f"p {found['p_value'][0]:.3g}", "defective" if found["defective"][0] else "good"]
    return "  ".join(words)


def main(judge):
    """Judge the pictures named on the command line; where one can't be read the exit code is 1."""
    failed = 0
    for path in sys.argv[1:]:
        try:
            picture = prepared(path)
        except ValueError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        print(said(path, judge(picture[None])))
    sys.exit(1 if failed else 0)
