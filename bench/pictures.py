"""Pictures to measure on: generated ones, or those of a data set. Times don't depend on what they show."""

from pathlib import Path

import numpy as np


def generated(count: int, size: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """Squares of random shades that all share, and noise that each has of its own; made in little memory.

    Args:
        count: N.
        size: (height, width).
        seed: of both.

    Returns:
        (N, height, width, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    shades = rng.integers(40, 190, (-(-size[0] // 32), -(-size[1] // 32), 3), np.uint8)
    scene = shades.repeat(32, axis=0)[: size[0]].repeat(32, axis=1)[:, : size[1]]
    made = rng.integers(0, 60, (count, *size, 3), np.uint8)
    made += scene[None]
    return made


def of_kolektor(count: int, size: tuple[int, int], data_dir: Path) -> np.ndarray:
    """Good pictures of KolektorSDD, as many as it takes, again from the first where there are too few.

    Args:
        count: N.
        size: (height, width) they are resized to.
        data_dir: where the data set lies.

    Returns:
        (N, height, width, 3) uint8.
    """
    from jaxsode import datasets  # needs Pillow and tensorflow-datasets

    dataset = datasets.load("kolektor", data_dir=data_dir)
    good = [i for i, example in enumerate(dataset.examples) if not example.defective]
    grey = np.stack([dataset.picture(good[i % len(good)], size=size) for i in range(count)])
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:3], 3)))
