"""KolektorSDD in miniature: the published layout, three units (one a fold), a few small grey pictures.

The loader refuses what isn't the whole data set, so each test has to say that for it this is the whole.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxsode.datasets import kolektor as loader

SMALL = [
    "--dataset",
    "kolektor",
    "--size",
    "64",
    "32",
    "--weights",
    "random",
    "--k",
    "8",
    "--batch-size",
    "4",
]

UNITS = {"kos02": "1", "kos01": "2", "kos05": "3"}
PARTS = 6


def is_complete(patch: pytest.MonkeyPatch, *, parts: int = PARTS) -> None:
    """From here on the miniature is all that there is of KolektorSDD."""
    patch.setattr(loader, "COMPLETE", dict.fromkeys(UNITS, parts))


def kolektor(folder: Path, *, parts: int = PARTS) -> Path:
    """Write it into folder/KolektorSDD and return that; part 0 of each unit has a dark crack."""
    rng = np.random.default_rng(0)
    root = folder / "KolektorSDD"
    for unit in UNITS:
        (root / unit).mkdir(parents=True)
        for part in range(parts):
            picture = rng.integers(90, 160, (130, 60), dtype=np.uint8)
            mask = np.zeros((130, 60), np.uint8)
            if part == 0:
                mask[60:76, 20:40] = 255
                picture[mask > 0] = 10
            Image.fromarray(picture).save(root / unit / f"Part{part}.jpg", quality=95)
            Image.fromarray(mask).save(root / unit / f"Part{part}_label.bmp")
    return root
