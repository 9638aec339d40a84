"""Data sets and networks, loaded once; of one that can't be had, why."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp

from jaxsode import backbones, datasets
from jaxsode.backbones.weights import find, shapes
from jaxsode.errors import DataError, WeightsError
from jaxsode.experiment.plan import Plan
from jaxsode.reproduce.cells import fingerprint

T = TypeVar("T")


class Missing(Exception):
    """What a cell would take can't be had here; says what that is."""


@dataclass(frozen=True)
class AtHand:
    """What can be had.

    Attributes:
        places: of data sets, by name; others are looked for in the cache.
        weights: files, by the backbone's name; others are looked for in the cache, their package, and at
            their publisher.
    """

    places: Mapping[str, Path] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    _known: dict[Any, Any] = field(default_factory=dict)

    def dataset(self, plan: Plan) -> datasets.Dataset:
        """The data set, prepared as the plan has it.

        Raises:
            Missing: it isn't there.
        """

        def load() -> datasets.Dataset:
            try:
                made = datasets.load(plan.dataset, data_dir=plan.data_dir, **plan.settings)
            except DataError as error:
                if plan.dataset in self.places:
                    raise  # it was said where it is, and it isn't
                raise Missing(f"the data set {plan.dataset}") from error
            preparation = dataclasses.replace(made.preparation, **plan.preparation)
            return dataclasses.replace(made, preparation=preparation)

        return self._once(("dataset", data_of(plan)), load)

    def split(
        self, plan: Plan, name: str, *, without: Sequence[str] = (), test_every: int = 1
    ) -> tuple[datasets.Split, str]:
        """A split, or a part of it, and its fingerprint.

        Args:
            plan, name: the plan that it is for, and what it is called.
            without: beginnings of names of pictures that are left out.
            test_every: of the test pictures every so-manieth is kept.

        Raises:
            Missing: the data set, or this part of it, isn't there.
        """
        dataset = self.dataset(plan)
        if name not in dataset.splits:
            raise Missing(f"{name} of {plan.dataset}")
        split = dataset.split(name)
        drawn = plan.drawn(split, plan.methods[0])

        def left(indices: Sequence[int]) -> tuple[int, ...]:
            named = tuple(without)
            return tuple(i for i in indices if not (named and dataset.examples[i].name.startswith(named)))

        drawn = dataclasses.replace(
            drawn, train=left(drawn.train), test=left(drawn.test)[::test_every], left_out=left(drawn.left_out)
        )
        return drawn, self._once((data_of(plan), drawn), lambda: fingerprint(dataset, drawn))

    def backbone(self, plan: Plan) -> tuple[backbones.Backbone, str]:
        """The network, and the sha256 of its weights.

        Raises:
            Missing: its weights can't be had.
        """

        def load() -> tuple[backbones.Backbone, str]:
            made = backbones.create(plan.backbone, layers=plan.layers, dtype=jnp.dtype(plan.dtype))
            given = self.weights.get(plan.backbone)
            if given == "random":
                return made, "random"
            try:
                found = find(plan.backbone, weights=given, leaves=shapes(made), progress=_silent)
            except WeightsError as error:
                if given is not None:
                    raise
                raise Missing(f"weights of {plan.backbone}") from error
            return backbones.with_parameters(made, found.tensors), found.sha256

        return self._once(("backbone", plan.backbone, plan.layers, plan.dtype), load)

    def features(self, plan: Plan) -> int:
        """F, of the layers in use; no weights are wanted for it."""

        def count() -> int:
            return sum(backbones.create(plan.backbone, layers=plan.layers).channels)

        return self._once(("features", plan.backbone, plan.layers), count)

    def _once(self, what: Any, make: Callable[[], T]) -> T:
        if what not in self._known:
            try:
                self._known[what] = make()
            except Missing as error:
                self._known[what] = error
        if isinstance(self._known[what], Missing):
            raise self._known[what]
        return self._known[what]


def data_of(plan: Plan) -> tuple[Any, ...]:
    """What decides a plan's pictures as they are prepared.

    Args:
        plan: see `Plan`.
    """
    own = (sorted(each.items()) for each in (plan.settings, plan.preparation))
    return (plan.dataset, plan.data_dir, repr([*own]))


def _silent(done: int, total: int | None) -> None:
    """Shows nothing."""
