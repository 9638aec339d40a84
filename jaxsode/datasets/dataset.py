"""A data set as the rest of the package sees it: pictures with a stable index, and folds over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from jaxsode.errors import ArgumentError, DataError

from .decode import decode_mask, decode_picture

Part = Literal["train", "test"]
Progress = Callable[[int, int], None]
"""Called with how many pictures are done, and of how many."""


@dataclass(frozen=True)
class Example:
    """What is known of a picture without decoding it."""

    name: str  # "kos02/Part0", "texture/test/thread/002"
    defective: bool
    fold: str  # the fold it belongs to (for kolektor: the one it is tested in)


@dataclass(frozen=True)
class Record:
    """What is stored of a picture: what is known of it, its file and its mask's, byte for byte."""

    example: Example
    picture: bytes
    mask: bytes


class Records(Protocol):
    """Encoded pictures and masks by index. Safe to read from several threads."""

    def __getitem__(self, index: int, /) -> Mapping[str, bytes]: ...


@dataclass(frozen=True)
class Split:
    """The pictures that a fold is trained or tested on, as indices into `Dataset.examples`."""

    fold: str
    part: Part
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures and masks, decoded when asked for. Safe to read from several threads.

    Attributes:
        name: what it is called on the command line.
        size: (height, width) that pictures and masks are resized to unless told otherwise.
        channels: C of the pictures, 1 (grey) or 3 (RGB).
        folds: the names of the folds.
        paper_full_mask: whether by the paper's protocol a mask's pixel counts only where the resized mask
            is exactly full (= 255), rather than where it is above one half.
        examples: what is known of each picture, in a stable order.
        splits: indices by fold and part.
        records: `records[index]` has the encoded files, "picture" and "mask".
        source: where the pictures came from, for messages.
    """

    name: str
    size: tuple[int, int]
    channels: int
    folds: tuple[str, ...]
    paper_full_mask: bool
    examples: tuple[Example, ...]
    splits: Mapping[tuple[str, Part], tuple[int, ...]] = field(repr=False)
    records: Records = field(repr=False)
    source: str

    def split(self, fold: str, part: Part) -> Split:
        """The pictures of one part of one fold.

        Raises:
            ArgumentError: there is no such fold or part.
            DataError: there is not one picture in it.
        """
        if fold not in self.folds:
            raise ArgumentError(f"{self.name} has no fold {fold!r}: choose one of {', '.join(self.folds)}")
        if part not in ("train", "test"):
            raise ArgumentError(f"a fold has no part {part!r}: choose train or test")
        indices = self.splits[fold, part]
        if not indices:
            wanted = "good pictures to train on" if part == "train" else "pictures to test on"
            raise DataError(
                f"{self.name}: fold {fold} has no {wanted} in {self.source}: complete the data set, "
                "or choose another fold"
            )
        return Split(fold, part, indices)

    def picture(self, index: int, *, size: tuple[int, int] | None = None) -> np.ndarray:
        """Picture `index`, resized to `size` (height, width), as uint8 (height, width, C).

        Raises:
            DataError: the prepared data are damaged.
        """
        where = f"{self.name}: picture {self.examples[index].name}"
        encoded = self.records[index]["picture"]
        return decode_picture(encoded, size=size or self.size, channels=self.channels, where=where)

    def mask(self, index: int, *, size: tuple[int, int] | None = None) -> np.ndarray:
        """The mask of picture `index`, resized to `size` as the picture is, as uint8 (height, width).

        255 is defective and 0 is good; resizing leaves values between them at the edges.

        Raises:
            DataError: the prepared data are damaged.
        """
        where = f"{self.name}: mask of {self.examples[index].name}"
        return decode_mask(self.records[index]["mask"], size=size or self.size, where=where)
