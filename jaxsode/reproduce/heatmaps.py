"""Figures 1, 4 and 5: a test picture, its heat map by each method, the picture with the truth outlined."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np

from jaxsode import report
from jaxsode.datasets import Dataset, Split
from jaxsode.errors import ArgumentError
from jaxsode.experiment.evaluate import Experiment
from jaxsode.experiment.features import free_device_memory
from jaxsode.experiment.record import Stopwatch
from jaxsode.preparation import Placing
from jaxsode.reproduce.at_hand import AtHand, Missing
from jaxsode.reproduce.compute import Bar, Wanted, features_of, shared
from jaxsode.reproduce.page import Panel
from jaxsode.reproduce.rows import Column, Target


def panels(
    target: Target,
    columns: Sequence[Column],
    at_hand: AtHand,
    asked: Callable[[Column, str], Sequence[Wanted]],
    *,
    bar: Bar,
    missing: Callable[[str], None],
) -> Iterator[Panel]:
    """The panels of a figure, column by column, split by split.

    Args:
        target, columns: of the figure.
        at_hand: data and weights.
        asked: of a column and a split, one method for each row.
        bar: for progress.
        missing: is told what can't be drawn, and why.

    Raises:
        ArgumentError: its rows are of several networks or preparations.
    """
    for column in columns:
        for split in column.splits:
            members = asked(column, split)
            if len({shared(each.plan) for each in members}) > 1:
                raise ArgumentError(
                    f"{target.name}: the rows of a figure are drawn from one network and one preparation: "
                    "make a target for each"
                )
            try:
                group = [(each, each.key(at_hand)) for each in members]
            except Missing as error:
                missing(f"{column.label}: {error} is missing")
                continue
            yield from _of_split(group, at_hand, column, target.pictures, bar)


def _of_split(
    group: Sequence[tuple[Wanted, object]], at_hand: AtHand, column: Column, number: int, bar: Bar
) -> Iterator[Panel]:
    features = features_of(at_hand, [(each, {}) for each, _ in group])
    dataset = features.dataset
    whole, _ = group[0][0].data(at_hand)
    split = dataclasses.replace(whole, test=_shown(dataset, whole, number), left_out=())
    drawn: dict[int, list[np.ndarray]] = {index: [] for index in split.test}
    ends: dict[int, np.ndarray] = {}

    def draw(
        index: int, picture: np.ndarray, anomaly_map: np.ndarray, mask: np.ndarray | None, placing: Placing
    ) -> None:
        if not drawn[index]:
            drawn[index].append(np.broadcast_to(picture, (*picture.shape[:2], 3)))
            ends[index] = report.outlined(picture, mask)
        drawn[index].append(report.heat_map(placing.masked(anomaly_map)))

    with Stopwatch() as stopwatch:
        experiment = Experiment(features, stopwatch, free_device_memory())
        runs = [(split, each.computed(features.backbone)) for each, _ in group]
        with bar(f"{column.label} · features", len(split.train) + len(split.test)) as done:
            experiment.prepare(runs, progress=done)
        for each, method in zip((each for each, _ in group), (m for _, m in runs), strict=True):

            def named(
                what: str, total: int, each: Wanted = each
            ) -> AbstractContextManager[Callable[[int], None]]:
                return bar(f"{column.label} · {each.row.label} · {what}", total)

            experiment.run(split, method, bar=named, draw=draw)
    titles = ", ".join(each.row.label for each, _ in group)
    for index in split.test:
        name = f"{column.label}, {dataset.examples[index].name}: {titles}, truth"
        yield Panel(name, report.beside(*drawn[index], ends[index]))


def _shown(dataset: Dataset, split: Split, number: int) -> tuple[int, ...]:
    """Of each kind of defect the first ones."""
    kinds: dict[str, list[int]] = {}
    for index in split.test:
        example = dataset.examples[index]
        if example.defective:
            kinds.setdefault(example.kind, []).append(index)
    # A good one, without which there is no false-positive rate to speak of.
    good = [index for index in split.test if not dataset.examples[index].defective][:1]
    return (*(index for indices in kinds.values() for index in indices[:number]), *good)
