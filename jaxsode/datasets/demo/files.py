"""The demo's pictures as files in folders, as a camera's would lie: good, later, defective ones, masks."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from jaxsode.datasets.pipeline import WORKERS
from jaxsode.datasets.workers import in_order

from . import dataset
from .dataset import Shot, draw, png

LATER = 60
LIGHT = (1.0, 1.0, 0.94)  # of red, green and blue, by what it was, in the pictures of `warmer`


@dataclass(frozen=True)
class File:
    """One to be written: where, below the folder, and its bytes."""

    name: PurePosixPath
    content: bytes


def total(group: str) -> int:
    """How many pictures `files` draws, masks not counted."""
    return len(_planned(group))


def files(group: str) -> Iterator[list[File]]:
    """All of them, a picture at a time, with its mask where it is defective.

    `good` has those to fit on, `unseen` others of the same light, `warmer` others when the lamp has aged,
    `bad/KIND` defective ones and `masks/KIND` their masks: what `datasets.folder` reads as good/ and bad/.

    Args:
        group: "object" or "texture", see `dataset.shots`.
    """
    return in_order(_drawn, _planned(group), workers=WORKERS, ahead=4 * WORKERS)


def _planned(group: str) -> list[Shot]:
    shots = [shot for shot in dataset.shots() if shot.group == group]
    return shots + [Shot(group, "later", "good", number) for number in range(LATER)]


def _drawn(shot: Shot) -> list[File]:
    picture, mask = draw(shot)
    file = f"{shot.number:03d}.png"
    if shot.kind != "good":
        bad, of_mask = (PurePosixPath(folder, shot.kind, file) for folder in ("bad", "masks"))
        return [File(bad, png(picture)), File(of_mask, png(mask))]
    if shot.part == "later":
        return [File(PurePosixPath("warmer", file), png(np.rint(picture * np.array(LIGHT)).astype(np.uint8)))]
    return [File(PurePosixPath("good" if shot.part == "train" else "unseen", file), png(picture))]
