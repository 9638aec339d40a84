"""Cells of a target: which there are, which are missing, and how those are made.

Cells of one data set and one network are made together, their features extracted once where memory allows.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsode import datasets
from jaxsode.algebra.precision import EIGENVECTORS
from jaxsode.backbones import Backbone
from jaxsode.blocks import state_bytes
from jaxsode.errors import ArgumentError
from jaxsode.experiment.evaluate import Experiment
from jaxsode.experiment.features import Features, free_device_memory
from jaxsode.experiment.plan import SWEPT, Plan, Request, complete
from jaxsode.experiment.record import Stopwatch, environment, peak_memory
from jaxsode.method import Method
from jaxsode.peers import Peer
from jaxsode.reproduce.at_hand import AtHand, Missing, data_of
from jaxsode.reproduce.cells import METRICS_VERSION, SCHEMA, Cells, Key, digest
from jaxsode.reproduce.rows import SEEDS, Column, Row, Target

Shown = AbstractContextManager[Callable[[int], None]]
Bar = Callable[[str, int], Shown]
"""See `jaxsode.experiment.evaluate.Bar`."""


@dataclass(frozen=True)
class Wanted:
    """A cell that is asked for: one method on one split.

    Attributes:
        plan: whose only method it is.
        split: its name.
        row, column: that it is for.
        kind: "metrics", or what else is computed: "spectra".
    """

    plan: Plan
    split: str
    row: Row
    column: Column
    kind: str = "metrics"

    @property
    def method(self) -> Method | Peer:
        """Its method, as it is called."""
        return self.plan.methods[0]

    def part(self) -> dict[str, Any]:
        """Of its key what neither data nor weights decide."""
        plan, method = self.plan, self.method
        layers = "" if plan.layers is None else f"-layers{'.'.join(map(str, plan.layers))}"
        keep = self.row.keep
        kept = f"-keep{'.'.join(map(str, keep))}" if keep else ""
        cut: dict[str, Any] = {}
        if self.column.without:
            cut["without"] = list(self.column.without)
        if self.row.test_every != 1:
            cut["test_every"] = self.row.test_every
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "label": f"{plan.backbone}{layers}{kept}-{method}",
            "metrics": METRICS_VERSION,
            "dataset": plan.dataset,
            "split": self.split,
            "fit_on": plan.fit_on,
            "backbone": plan.backbone,
            "layers": None if plan.layers is None else list(plan.layers),
            "keep": list(keep),
            "dtype": plan.dtype,
            "method": {"name": type(method).__name__.lower()} | method.page(),
            "picture_score": plan.picture_score,
        } | cut

    def key(self, at_hand: AtHand) -> Key:
        """All of its key.

        Args:
            at_hand: data and weights.

        Raises:
            Missing: one that isn't there.
        """
        dataset = at_hand.dataset(self.plan)
        _, pictures = self.data(at_hand)
        _, weights = at_hand.backbone(self.plan)
        return self.part() | {
            "pictures": pictures,
            "size": list(self.plan.size or dataset.size),
            "preparation": dataset.preparation.page(),
            "full_mask": dataset.paper_full_mask,
            "weights": weights,
        }

    def data(self, at_hand: AtHand) -> tuple[datasets.Split, str]:
        """Its split, and the fingerprint of that.

        Args:
            at_hand: data.

        Raises:
            Missing: they aren't there.
        """
        return at_hand.split(
            self.plan, self.split, without=self.column.without, test_every=self.row.test_every
        )

    def computed(self, backbone: Backbone) -> Method | Peer:
        """The method as it is run: what is kept of the layers is a W that is given."""
        keep = self.row.keep
        if not keep:
            return self.method
        assert isinstance(self.method, Method)
        layers = self.plan.layers or ()
        if not set(keep) <= set(layers):
            raise ArgumentError(f"{self.row.label}: keeps layers {keep} of {layers}: extract them, too")
        of = np.repeat(layers, backbone.channels)
        chosen = np.flatnonzero(np.isin(of, keep))
        W = jnp.asarray(np.eye(len(of), dtype=np.float32)[:, chosen])
        return dataclasses.replace(self.method, embedding=W, k=None, seed=None)


def wanted(
    row: Row, column: Column, split: str, target: Target, at_hand: AtHand, seeds: Sequence[int]
) -> list[Wanted]:
    """The cells of a row on a split: one for each seed, or one where nothing is drawn.

    Args:
        row, target: the row, of which target.
        column, split: the data; the split's name.
        at_hand: where the data lie.
        seeds: that are run.
    """
    setting = row.setting(target.method)
    asked = {name: (value,) if name in _EACH else value for name, value in setting.items()}
    asked = {name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()}
    request = Request(
        dataset=column.dataset,
        data_dir=at_hand.places.get(column.dataset),
        fold=(split,),
        **{"preset": "paper", **asked, "seed": tuple(row.seeds or seeds)},
    )
    plan = complete(request)
    methods = plan.methods
    if isinstance(methods[0], Method) and methods[0].k == at_hand.features(plan):
        methods = methods[:1]  # W is a rotation, or all features: of k = F one is run
    plans = [dataclasses.replace(plan, methods=(method,)) for method in methods]
    kind = target.kind if target.kind == "spectra" else "metrics"
    return [Wanted(each, split, row, column, kind) for each in plans]


_EACH = ("method", *SWEPT, "neighbours")
"""Fields of a request of which each value is a method."""


@dataclass(frozen=True)
class Found:
    """A cell's content, or why there is none.

    Attributes:
        page: of the cell; None where there is none.
        why: it is not there.
    """

    page: dict[str, Any] | None
    why: str = ""


def look(cells: Cells, at_hand: AtHand, each: Wanted, *, compute: bool) -> Found:
    """What there is of a cell.

    Args:
        cells, at_hand, each: where, of what, which.
        compute: whether data and weights decide; else it is known by the rest.
    """
    if not compute:
        page = cells.matching(each.part())
        return Found(page, "not computed")
    try:
        return Found(cells.get(each.key(at_hand)), each.row.slow or "not computed")
    except Missing as error:
        return Found(None, f"{error} is missing")


Group = Sequence[tuple[Wanted, Key]]
"""Cells of one data set and one network."""


def shared(plan: Plan) -> tuple[Any, ...]:
    """What cells have in common that are made together.

    Args:
        plan: of one of them.
    """
    of_data = (data_of(plan), plan.size, plan.fit_on, plan.batch_size, plan.workers)
    return (*of_data, plan.backbone, plan.layers, plan.dtype, plan.picture_score)


def missing(
    cells: Cells, at_hand: AtHand, asked: Iterable[Wanted], *, slow: bool = False
) -> list[list[tuple[Wanted, Key]]]:
    """The cells that aren't there and can be had, those of one data set and one network together.

    Args:
        cells, at_hand, asked: where, of what, which.
        slow: whether slow ones are among them.
    """
    groups: dict[Any, list[tuple[Wanted, Key]]] = {}
    met: set[str] = set()
    for each in asked:
        if each.row.slow and not slow:
            continue
        try:
            key = each.key(at_hand)
        except Missing:
            continue
        if digest(key) not in met and cells.get(key) is None:
            met.add(digest(key))
            groups.setdefault(shared(each.plan), []).append((each, key))
    return list(groups.values())


def complete_cells(
    cells: Cells, at_hand: AtHand, groups: Sequence[Group], *, bar: Bar, say: Callable[[str], None]
) -> None:
    """Make those that are missing.

    Args:
        cells: where they go.
        at_hand: data and weights.
        groups: see `missing`.
        bar, say: for progress.
    """
    left = sum(map(len, groups))
    for group in groups:
        for _ in _made(cells, at_hand, group, bar):
            left -= 1
            say(f"{left} cells left")


def features_of(at_hand: AtHand, group: Group) -> Features:
    """Of the data set and the network of a group.

    Args:
        at_hand: data and weights.
        group: of one data set and one network.
    """
    plan = group[0][0].plan
    dataset = at_hand.dataset(plan)
    backbone, _ = at_hand.backbone(plan)
    for each, _ in group:
        each.plan.check(backbone)
    size = plan.size or dataset.size
    return Features(backbone, dataset, size=size, batch_size=plan.batch_size, workers=plan.workers)


def _made(cells: Cells, at_hand: AtHand, group: Group, bar: Bar) -> Iterator[Key]:
    """The cells of one data set and one network, one by one."""
    plan = group[0][0].plan
    features = features_of(at_hand, group)
    with Stopwatch() as stopwatch:
        experiment = Experiment(features, stopwatch, free_device_memory(), picture_score=plan.picture_score)
        runs = [(each.data(at_hand)[0], each.computed(features.backbone)) for each, _ in group]
        used = {index for split, _ in runs for index in (*split.train, *split.test)}
        with bar(f"{plan.dataset} · {plan.backbone} · features", len(used)) as done, stopwatch("extract_s"):
            experiment.prepare(runs, progress=done)
        about = environment()
        for (each, key), (split, method) in zip(group, runs, strict=True):

            def named(
                what: str, total: int, each: Wanted = each
            ) -> AbstractContextManager[Callable[[int], None]]:
                return bar(f"{each.method} · {each.split} · {what}", total)

            with _one_thread(method):
                scores = experiment.run(split, method, bar=named)
            timing = stopwatch.take() | {"extract_s": stopwatch.seconds["extract_s"], "cells": len(group)}
            numbers = {"train": len(split.train), "test": len(split.test)}
            taken = _state_bytes(features, method, len(split.train))
            cells.put(
                key,
                numbers
                | {"scores": scores, "timing": timing, "memory": peak_memory(), "state_bytes": taken}
                | {"environment": about},
            )
            yield key


def _state_bytes(features: Features, method: Method | Peer, pictures: int) -> int | None:
    """By the formula; None of a peer."""
    if not isinstance(method, Method):
        return None
    F = sum(features.backbone.channels)
    return state_bytes(features.grid(), method, F, pictures)


def _one_thread(method: Method | Peer) -> AbstractContextManager[Any]:
    """Of eigenvectors: their thousands of small factorisations are slowed down by LAPACK's threads."""
    if not isinstance(method, Method) or method.precision not in EIGENVECTORS:
        return nullcontext()
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # slower, that is all
        return nullcontext()
    return threadpool_limits(1)


def columns_of(target: Target, at_hand: AtHand, *, compute: bool) -> list[Column]:
    """The columns, each with its splits by name."""
    made = []
    for column in target.columns:
        if column.splits or not compute:
            made.append(column)
            continue
        plan = complete(Request(dataset=column.dataset, data_dir=at_hand.places.get(column.dataset)))
        try:
            names = tuple(at_hand.dataset(plan).splits)
        except Missing:
            names = ()
        made.append(dataclasses.replace(column, splits=names))
    return made


def all_wanted(
    target: Target, columns: Sequence[Column], at_hand: AtHand, seeds: Sequence[int] = SEEDS
) -> Mapping[tuple[str, str], list[Wanted]]:
    """Of each row and column, by their labels, the cells of its mean: split by split, seed by seed.

    Args:
        target, columns: of it.
        at_hand: where the data lie.
        seeds: that are run.
    """
    return {
        (row.label, column.label): [
            each for split in column.splits for each in wanted(row, column, split, target, at_hand, seeds)
        ]
        for row in target.sweep()
        if row.method is not None
        for column in columns
        if not row.columns or column.label in row.columns
    }
