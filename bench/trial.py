"""A method on one fold: fit and score, timed, and the metrics; all of it by `jaxsode.experiment`."""

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxsode import datasets
from jaxsode.backbones import load
from jaxsode.experiment.evaluate import Experiment
from jaxsode.experiment.features import Features
from jaxsode.experiment.plan import Request, complete
from jaxsode.experiment.record import Stopwatch
from jaxsode.method import Method
from jaxsode.report import flatten


class Trial:
    """A data set's features, extracted once and kept; then any number of methods.

    Args:
        options: of `bench.study`.
    """

    def __init__(self, options: argparse.Namespace):
        given = Request(dataset=options.dataset, data_dir=options.data_dir, backbone=options.backbone)
        plan = complete(given)
        method = plan.methods[0]
        assert isinstance(method, Method)  # as it is where no other is asked for
        self.method = method
        self.weights = "random" if options.random else options.weights
        self.dataset = datasets.load(options.dataset, data_dir=options.data_dir)
        features = Features(
            load(plan.backbone, weights=self.weights),
            self.dataset,
            size=self.dataset.size if options.size is None else (options.size[0], options.size[1]),
            batch_size=plan.batch_size,
            workers=plan.workers,
        )
        self.stopwatch = Stopwatch()
        self.experiment = Experiment(features, self.stopwatch, int(1e9 * options.memory_gb))
        names = tuple(self.dataset.splits) if tuple(options.fold) == ("all",) else tuple(options.fold)
        self.folds = {name: self.dataset.split(name) for name in names}
        uses = [index for fold in self.folds.values() for index in (*fold.train, *fold.test)]
        tested = [index for fold in self.folds.values() for index in fold.test]
        start = time.perf_counter()
        self.kept = features.prepare(uses * 2, tested=tested, progress=lambda _: None)
        self.extract_s = time.perf_counter() - start

    @property
    def features(self) -> int:
        """F."""
        return sum(self.experiment.features.backbone.channels)

    def warm_up(self, embedding: str, k: int) -> None:
        """What fitting and scoring compile, they compile here, on few pictures."""
        fold = next(iter(self.folds.values()))
        few = dataclasses.replace(fold, train=fold.train[:1], test=fold.test[:1])
        self.experiment.run(few, self._method(embedding, k, 0), bar=_silent)

    def measure(self, embedding: str, k: int, seed: int, fold: str) -> dict[str, Any]:
        """Seconds from features to detector and to maps, compilation left out; the metrics by dotted name."""
        here, method = self.folds[fold], self._method(embedding, k, seed)
        self.stopwatch.take()
        found = self.experiment.run(here, method, bar=_silent)
        seconds = self.stopwatch.take()
        blocks = seconds["blocks_s"] > 0
        return {
            "train": len(here.train),
            "test": len(here.test),
            "rows_at_once": self.experiment.rows(method, len(here.train)),
            "fit_s": None if blocks else seconds["fit_s"],
            "score_s_per_picture": None if blocks else seconds["score_s"] / len(here.test),
            "fit_and_score_s": seconds["blocks_s"] or seconds["fit_s"] + seconds["score_s"],
            **flatten(found),
        }

    def described(self) -> dict[str, Any]:
        """What all rows have in common."""
        features = self.experiment.features
        return {
            "dataset": self.dataset.name,
            "backbone": features.backbone.name,
            "weights": Path(self.weights).name if self.weights else "as jaxsode.load_backbone finds them",
            "size": f"{features.size[0]} × {features.size[1]}",
            "features extracted, s": self.extract_s,
            "pictures whose features are kept": self.kept,
        }

    def _method(self, embedding: str, k: int, seed: int) -> Method:
        return dataclasses.replace(self.method, embedding=embedding, k=k, seed=seed)


@contextlib.contextmanager
def _silent(what: str, total: int) -> Iterator[Any]:
    del what, total
    yield lambda pictures: None
