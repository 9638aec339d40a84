"""A data set as the rest of the package sees it: pictures with a stable index, and splits of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from jaxsode.errors import ArgumentError, DataError
from jaxsode.preparation import Placing, Preparation

from .decode import AS_STORED, decode_mask, open_picture

Progress = Callable[[int, int], None]
"""Called with how many pictures are done, and of how many."""


@dataclass(frozen=True)
class Archive:
    """A data set's file at a direct link of its owner.

    Attributes:
        file: its name where it is kept.
        url: where it is downloaded from.
        size: bytes.
        sha256: all digits; "" where nobody has told them, and then those of the first download count.
    """

    file: str
    url: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Card:
    """What is said of a data set where it is stored.

    Attributes:
        name: what it is called on the command line.
        channels: C of the pictures, 1 (grey) or 3 (RGB).
        description: a sentence.
        homepage: where it is published.
        licence: under which it is published, and by whom.
        archive: what can be downloaded; None where its owner wants to be asked.
        how_to_get: what to do then.
    """

    name: str
    channels: int
    description: str
    homepage: str | None = None
    licence: str | None = None
    archive: Archive | None = None
    how_to_get: str = ""


@dataclass(frozen=True)
class Example:
    """What is known of a picture without decoding it."""

    name: str  # "kos02/Part0", "texture/test/thread/002"
    group: str  # the category or scene it belongs to (for kolektor: the fold it is tested in)
    kind: str  # "good", or what is wrong with it: "crack", "thread"
    part: str  # the publisher's own "train" or "test"; "" where the data set has none
    defective: bool


@dataclass(frozen=True)
class Record:
    """What is stored of a picture: what is known of it, its file and its mask's, byte for byte."""

    example: Example
    picture: bytes
    mask: bytes = b""  # where there is none


class Records(Protocol):
    """Encoded pictures and masks by index. Safe to read from several threads."""

    def __getitem__(self, index: int, /) -> Mapping[str, bytes]: ...


@dataclass(frozen=True)
class Split:
    """What is trained on and what is tested on, as indices into `Dataset.examples`."""

    name: str  # of a fold, a category, a scene
    train: tuple[int, ...]  # good ones
    test: tuple[int, ...]
    # Of `train`, where no good ones are set apart: their leave-one-out maps stand for those of unseen ones.
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures and masks, decoded when asked for. Safe to read from several threads.

    Attributes:
        name: what it is called on the command line.
        size: (height, width) that pictures and masks are resized to unless told otherwise.
        channels: C of the pictures, 1 (grey) or 3 (RGB).
        paper_full_mask: whether by the paper's protocol a mask's pixel counts only where the resized mask
            is exactly full (= 255), rather than where it is above one half.
        examples: what is known of each picture, in a stable order.
        splits: by name, in the order in which they are reported.
        records: `records[index]` has the encoded files, "picture" and, unless there is none, "mask".
        source: where the pictures came from, for messages.
        licence: under which its pictures are published; None where there is nothing to say.
        notes: what a reader of its numbers must know, a sentence each: above all which of the published
            pictures are missing. They belong beside every result.
        skipped: pictures that could not be used, and why; they belong there too.
        preparation: how files become arrays, all but the size.
        fingerprint: of the content of the files, where that may change from one day to the next.
    """

    name: str
    size: tuple[int, int]
    channels: int
    paper_full_mask: bool
    examples: tuple[Example, ...]
    splits: Mapping[str, Split] = field(repr=False)
    records: Records = field(repr=False)
    source: str
    licence: str | None = None
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    preparation: Preparation = AS_STORED
    fingerprint: str = ""

    def split(self, name: str) -> Split:
        """The split of this name.

        Raises:
            ArgumentError: there is none.
            DataError: it has no pictures to train on, or none to test on.
        """
        if name not in self.splits:
            raise ArgumentError(f"{self.name} has no split {name!r}: choose one of {', '.join(self.splits)}")
        split = self.splits[name]
        for indices, wanted in (
            (split.train, "good pictures to train on"),
            (split.test or split.left_out, "pictures to test on"),
        ):
            if not indices:
                raise DataError(
                    f"{self.name}: {name} has no {wanted} in {self.source}: complete the data set, "
                    "or choose another split"
                )
        return split

    def picture(self, index: int, *, size: tuple[int, int] | None = None) -> np.ndarray:
        """Picture `index`, resized to `size` (height, width), as uint8 (height, width, C).

        Raises:
            DataError: the prepared data are damaged.
        """
        return self.placed(index, size=size)[0]

    def placed(self, index: int, *, size: tuple[int, int] | None = None) -> tuple[np.ndarray, Placing]:
        """Picture `index` as `picture` gives it, and where the original's pixels lie in it.

        Raises:
            DataError: the prepared data are damaged.
        """
        record = self.records[index]
        image = open_picture(
            record["picture"],
            channels=self.channels,
            where=f"{self.name}: picture {self.examples[index].name}",
            preparation=self.preparation,
            beside_mask="mask" in record,
        )
        size = size or self.size
        pixels = self.preparation.resized(image, size)
        placing = self.preparation.placing((image.height, image.width), size)
        return pixels if self.channels == 3 else pixels[..., None], placing

    def mask(self, index: int, *, size: tuple[int, int] | None = None) -> np.ndarray | None:
        """The mask of picture `index`, resized to `size` as the picture is, as uint8 (height, width).

        255 is defective and 0 is good; resizing leaves values between them at the edges. A good picture
        needs no file: its mask is 0.

        Returns:
            The mask; None for a defective picture of which nobody drew one.

        Raises:
            DataError: the prepared data are damaged.
        """
        example = self.examples[index]
        if encoded := self.records[index].get("mask"):
            where = f"{self.name}: mask of {example.name}"
            return decode_mask(encoded, size=size or self.size, where=where, preparation=self.preparation)
        return None if example.defective else np.zeros(size or self.size, np.uint8)
