"""A small detector with a threshold, as `jaxsode fit` leaves it, and pictures for it."""

import numpy as np
import pytest
from PIL import Image

from jaxsode.cli import main

SIZE = (48, 64)


def draw(folder, n, *, seed, spot=False):
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).integers(60, 180, (*SIZE, 3))
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pixels = np.clip(base + rng.normal(0, 10, base.shape), 0, 255).astype(np.uint8)
        if spot:
            pixels[16:30, 20:40] = 255
        Image.fromarray(pixels).save(folder / f"{'bad' if spot else 'good'}{i}.png")
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """d, the detector; new, pictures of both kinds."""
    root = tmp_path_factory.mktemp("served")
    good = draw(root / "fit", 12, seed=0)
    draw(root / "new", 3, seed=1)
    draw(root / "new", 3, seed=2, spot=True)
    asked = ["--weights=random", "--size", "48", "64", "--k=6", "--preset=recommended"]
    assert main(["fit", str(good), "-o", str(root / "d"), "--false-alarm-rate=0.2", *asked]) == 0
    return root
