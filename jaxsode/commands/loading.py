"""What commands load: the backbone that was planned, and good pictures from a folder."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import jax.numpy as jnp
from rich.console import Console

from jaxsode import backbones, datasets
from jaxsode.backbones.weights import find, shapes
from jaxsode.commands.detectors import Picture, digest
from jaxsode.commands.progress import Shown
from jaxsode.detector import Detector
from jaxsode.errors import ArgumentError, DataError, WeightsError
from jaxsode.experiment.features import Features, free_memory
from jaxsode.experiment.plan import Plan
from jaxsode.home import expanded, readable
from jaxsode.inspection import check_preparation
from jaxsode.preparation import RANGES


def backbone(plan: Plan, shown: Shown) -> tuple[backbones.Backbone, dict[str, str]]:
    """The backbone, and where its weights are from.

    Args:
        plan: that names it.
        shown: for the download.

    Raises:
        WeightsError: they can't be had.
    """
    made = backbones.create(plan.backbone, layers=plan.layers, dtype=jnp.dtype(plan.dtype))
    if plan.weights == "random":
        return made, {"source": "random", "note": "random weights: the numbers mean nothing"}
    with shown.task("weights, bytes") as task:
        found = find(plan.backbone, weights=plan.weights, leaves=shapes(made), progress=task.reach)
    return backbones.with_parameters(made, found.tensors), {
        "source": readable(found.source),
        "sha256": found.sha256,
    }


@contextmanager
def another_backbone_named(plan: Plan) -> Iterator[None]:
    """Where weights can't be had: names the backbone whose weights are a package, and doesn't take it."""
    try:
        yield
    except WeightsError as error:
        if plan.weights is None and plan.backbone != "efficientnet_lite0":
            raise WeightsError(f"{error}, or --backbone efficientnet_lite0 (extra demo)") from error
        raise


@dataclass(frozen=True)
class Good:
    """Good pictures of a folder.

    Attributes:
        dataset: that holds them.
        indices: of them, in order.
        pictures: the same as a detector's folder names them.
    """

    dataset: datasets.Dataset
    indices: tuple[int, ...]
    pictures: tuple[Picture, ...]

    def without(self, places: set[int]) -> "Good":
        """All but some.

        Args:
            places: of those.
        """
        left = [i for i in range(len(self.indices)) if i not in places]
        return self.only(left)

    def only(self, places: Sequence[int]) -> "Good":
        """Some of them.

        Args:
            places: of those.
        """
        indices = tuple(self.indices[i] for i in places)
        return replace(self, indices=indices, pictures=tuple(self.pictures[i] for i in places))

    def features(self, backbone: backbones.Backbone, *, size: tuple[int, int], batch_size: int) -> Features:
        """Their features, in batches.

        Args:
            backbone: that extracts them.
            size: (height, width).
            batch_size: pictures computed at once.
        """
        return Features(
            backbone, self.dataset, size=size, batch_size=batch_size, workers=datasets.pipeline.WORKERS
        )


def good(dataset: datasets.Dataset, group: str | None = None, *, what: str = "train") -> Good:
    """The good pictures of a folder's data set.

    Args:
        dataset: of `jaxsode.datasets.folder`.
        group: a regular expression; what it finds in a name, its first group if it has one, is the picture's
            group.
        what: "train" takes those that a run would fit on; "all" those for testing too.

    Raises:
        ArgumentError: the expression is none, or finds nothing in a name.
        DataError: there are no good pictures.
    """
    (split,) = dataset.splits.values()
    indices = split.train
    if what == "all":
        indices = tuple(sorted({*indices, *(i for i in split.test if not dataset.examples[i].defective)}))
    if not indices:
        raise DataError(f"{dataset.source} has no good pictures: name a folder that has")
    in_group = _grouping(group)
    pictures = tuple(
        Picture(name := dataset.examples[i].name, digest(dataset.records[i]["picture"]), in_group(name))
        for i in indices
    )
    return Good(dataset, indices, pictures)


def as_detectors(
    detector: Detector, folder: Path, shown: Shown, *, console: Console | None = None
) -> datasets.Dataset:
    """A folder's pictures, prepared as a detector's own were.

    Args:
        detector: loaded.
        folder: of pictures, a zip or a CSV; of any layout that `jaxsode inspect` knows.
        shown: for progress.
        console: what is understood is said there; None says nothing.

    Raises:
        ArgumentError, DataError: the pictures can't be prepared so.
    """
    check_preparation(detector)
    own = detector.preparation
    with shown.task("looking") as task:
        dataset = datasets.load(
            "folder",
            data_dir=expanded(folder),
            progress=task.reach,
            size=detector.size,
            testing=False,
            **(
                {}
                if own is None
                else {"range": own.range, "resize": own.resize, "max_pixels": own.max_pixels}
            ),
        )
    if own is not None:
        if own.range is None and dataset.preparation.range is not None:
            raise ArgumentError(
                f"{readable(folder)} has pictures of 16 bits and the detector was fitted on none: fit one "
                f"that knows what white is, by --range, one of {', '.join(map(str, RANGES))}"
            )
        dataset = replace(dataset, preparation=own)
    if console is not None:
        say(dataset, console)
    return dataset


def say(dataset: datasets.Dataset, console: Console) -> None:
    """What a folder was taken for.

    Args:
        dataset: of it.
        console: where it is said.
    """
    for note in dataset.notes:
        console.print(note, style="yellow", markup=False)


def fits_twice(features: Features, indices: Sequence[int], advance: Callable[[int], None]) -> None:
    """Keep the features of pictures that are asked for twice, where memory allows.

    Args:
        features: of them.
        indices: of the pictures.
        advance: called with how many were just done.
    """
    features.prepare([*indices, *indices], apart=indices, progress=advance, memory=free_memory())


def shard_of(text: str) -> tuple[int, int]:
    """(i, n) of "i/n".

    Args:
        text: as it was given.

    Raises:
        ArgumentError: it isn't 1 ≤ i ≤ n.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    i, n = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= i <= n:
        raise ArgumentError(
            f"--shard {readable(text)} is no part of a whole: give 1/4 to 4/4 of four machines"
        )
    return i, n


def _grouping(pattern: str | None) -> Callable[[str], str]:
    if pattern is None:
        return lambda _: ""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ArgumentError(f"--group {readable(pattern)} is no regular expression: {error}") from error

    def of(name: str) -> str:
        found = expression.search(name)
        if found is None:
            raise ArgumentError(
                f"--group {readable(pattern)} finds nothing in {readable(name)}: give a regular expression "
                "that finds each picture's group"
            )
        return found[1] if expression.groups and found[1] is not None else found[0]

    return of
