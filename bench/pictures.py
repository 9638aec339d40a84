"""Pictures to measure on: generated ones, or those of a data set. Times don't depend on what they show."""

from pathlib import Path

import numpy as np


def generated(count: int, size: tuple[int, int], *, seed: int = 0) -> np.ndarray:
    """Smooth random shades that all share, and fine noise that each has of its own.

    Args:
        count: N.
        size: (height, width).
        seed: of both.

    Returns:
        (N, height, width, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 190, (-(-size[0] // 32), -(-size[1] // 32), 3))
    scene = np.kron(coarse, np.ones((32, 32, 1)))[: size[0], : size[1]].astype(np.float32)
    made = np.empty((count, *size, 3), np.uint8)
    for picture in made:
        picture[...] = np.clip(scene + 20 * rng.standard_normal((*size, 3), np.float32), 0, 255)
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
