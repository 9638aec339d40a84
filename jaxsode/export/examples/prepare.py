"""A picture's file → the array that the exported detector takes, as model.json beside this file says.

Needs numpy and pillow. `decoding` beside this file is jaxsode's own reading of files, so that the detector
sees what it was fitted on: 8 bits by the range that was stated, transparency on black, grey repeated to RGB,
upright, cut or squeezed, Pillow's bilinear filter.
"""

import json
import sys
from pathlib import Path

from decoding.decode import decode_picture
from decoding.errors import DataError
from decoding.preparation import Preparation

MODEL = json.loads((Path(__file__).parent / "model.json").read_text(encoding="utf-8"))
PREPARATION = Preparation.of_page(MODEL["preparation"])


def prepared(path):
    """(height, width, 3) uint8 of a file; DataError, in a line, where it can't be read as it should."""
    try:
        encoded = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}") from error
    return decode_picture(
        encoded, size=tuple(MODEL["size"]), channels=3, where=str(path), preparation=PREPARATION
    )


def said(path, found):
    """A line of one picture's score, p-value and decision; each has one element for each picture."""
    words = [str(path), f"score {found['score'][0]:.6g}"]
    if "defective" in found:
        words += [f"p {found['p_value'][0]:.3g}", "defective" if found["defective"][0] else "good"]
    return "  ".join(words)


def main(judge):
    """Judge the pictures named on the command line; where one can't be read the exit code is 1."""
    if not sys.argv[1:]:
        sys.exit(f"usage: python {sys.argv[0]} PICTURE …")
    failed = 0
    for path in sys.argv[1:]:
        try:
            picture = prepared(path)
        except DataError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        print(said(path, judge(picture[None])))
    sys.exit(1 if failed else 0)
