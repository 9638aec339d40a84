"""The demo's pictures: which there are, and the data set made of them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from jaxsode.datasets.dataset import Card, Dataset, Example, Progress, Record, Split
from jaxsode.datasets.pipeline import WORKERS
from jaxsode.datasets.prepared import prepared
from jaxsode.datasets.workers import in_order
from jaxsode.errors import ArgumentError

from . import fabric_defects, flange_defects
from .fabric import Fabric
from .flange import Flange
from .marks import SIDE, finish

CARD = Card(
    name="demo",
    channels=3,
    description="Generated pictures of a flange and of a twill, good and defective, with exact masks.",
)
SEED = 2021
TRAIN_GOOD, TEST_GOOD = 60, 20
STRENGTHS = (0.15, 0.4, 0.7, 1.0)  # of each kind of defect, from faint and small to plain

_ITEMS = {"object": (Flange, flange_defects.DEFECTS), "texture": (Fabric, fabric_defects.DEFECTS)}


@dataclass(frozen=True)
class Shot:
    """A picture to be drawn."""

    group: str  # "object" or "texture"
    part: str
    kind: str  # "good", or a defect
    number: int

    @property
    def name(self) -> str:
        return f"{self.group}/{self.part}/{self.kind}/{self.number:03d}"


def shots() -> list[Shot]:
    """All pictures of the demo, in their order."""
    planned = []
    for group, (_, defects) in _ITEMS.items():
        planned += [Shot(group, "train", "good", number) for number in range(TRAIN_GOOD)]
        planned += [Shot(group, "test", "good", number) for number in range(TEST_GOOD)]
        planned += [Shot(group, "test", kind, number) for kind in defects for number in range(len(STRENGTHS))]
    return planned


def draw(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """The picture (SIDE, SIDE, 3) and the mask (SIDE, SIDE) of 0 and 255, uint8; the same ones each time."""
    item, defects = _ITEMS[shot.group]
    digest = sha256(f"{SEED} {shot.name}".encode()).digest()
    of_item, of_defect, of_sensor = np.random.default_rng(list(digest)).spawn(3)
    one = item.draw(of_item)
    if shot.kind == "good":
        return finish(of_sensor, one.render())
    picture, region = defects[shot.kind](of_defect, one, STRENGTHS[shot.number])
    return finish(of_sensor, picture, region)


def load(*, data_dir: Path | None = None, progress: Progress | None = None) -> Dataset:
    """The demo, drawn on first use.

    Args:
        data_dir: must be None, for there is nothing to read.
        progress: called while pictures are drawn.

    Raises:
        ArgumentError: `data_dir` was given.
    """
    if data_dir is not None:
        raise ArgumentError(f"the demo is drawn, not read from {data_dir}: leave --data-dir out")
    planned = shots()
    examples, records = prepared(CARD, _fingerprint(), lambda: _records(planned, progress))
    return Dataset(
        name=CARD.name,
        size=(SIDE, SIDE),
        channels=CARD.channels,
        paper_full_mask=False,
        examples=examples,
        splits={group: _split(planned, group) for group in _ITEMS},
        records=records,
        source="the demo",
    )


def _records(planned: list[Shot], progress: Progress | None) -> Iterator[Record]:
    def record(shot: Shot) -> Record:
        picture, mask = draw(shot)
        example = Example(shot.name, shot.group, shot.kind, shot.part, defective=shot.kind != "good")
        return Record(example, png(picture), png(mask))

    for done, drawn in enumerate(in_order(record, planned, workers=WORKERS, ahead=4 * WORKERS), start=1):
        yield drawn
        if progress is not None:
            progress(done, len(planned))


def _split(planned: list[Shot], group: str) -> Split:
    def of(part: str) -> tuple[int, ...]:
        return tuple(i for i, shot in enumerate(planned) if (shot.group, shot.part) == (group, part))

    return Split(group, train=of("train"), test=of("test"))


def png(pixels: np.ndarray) -> bytes:
    """A picture (height, width, 3) or a mask (height, width), uint8, as a file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def _fingerprint() -> str:
    """A digest of the code that draws: when it changes, the pictures are drawn again."""
    digest = sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
