"""A setting on one fold: fit and score, timed, and the metrics; all of it by `jaxsode.experiment`."""

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxsode import datasets
from jaxsode.backbones import load
from jaxsode.config import Config, Setting, with_defaults
from jaxsode.experiment import Experiment, Fold
from jaxsode.features import Features
from jaxsode.measure import Stopwatch
from jaxsode.report import flatten


class Trial:
    """A data set's features, extracted once and kept; then any number of settings.

    Args:
        options: of `bench.study`.
    """

    def __init__(self, options: argparse.Namespace):
        given = Config(dataset=options.dataset, data_dir=options.data_dir, backbone=options.backbone)
        config = with_defaults(given)
        assert config.backbone is not None
        assert config.batch_size is not None
        assert config.epsilon is not None
        assert config.sigma is not None
        self.weights = "random" if options.random else options.weights
        self.dataset = datasets.load(options.dataset, data_dir=options.data_dir)
        features = Features(
            load(config.backbone, weights=self.weights),
            self.dataset,
            size=self.dataset.size if options.size is None else (options.size[0], options.size[1]),
            batch_size=config.batch_size,
            workers=config.workers,
        )
        self.stopwatch = Stopwatch()
        memory = int(1e9 * options.memory_gb)
        self.experiment = Experiment(features, self.stopwatch, config.epsilon, config.sigma, memory)
        names = tuple(self.dataset.splits) if tuple(options.fold) == ("all",) else tuple(options.fold)
        self.folds = {name: self.experiment.fold(name) for name in names}
        uses = [index for fold in self.folds.values() for index in (*fold.train, *fold.test)]
        start = time.perf_counter()
        self.kept = features.prepare(uses * 2, progress=lambda _: None)
        self.extract_s = time.perf_counter() - start

    @property
    def features(self) -> int:
        """F."""
        return sum(self.experiment.features.backbone.channels)

    def warm_up(self, embedding: str, k: int) -> None:
        """What fitting and scoring compile, they compile here, on one picture."""
        fold = next(iter(self.folds.values()))
        self._maps(replace(fold, train=fold.train[:1], test=fold.test[:1]), Setting(embedding, k, 0))

    def measure(self, embedding: str, k: int, seed: int, fold: str) -> dict[str, Any]:
        """Seconds from features to detector and to maps, compilation left out; the metrics by dotted name."""
        here = self.folds[fold]
        self.stopwatch.take()
        maps = self._maps(here, Setting(embedding, k, seed))
        seconds = self.stopwatch.take()
        blocks = seconds["blocks_s"] > 0
        return {
            "train": len(here.train),
            "test": len(here.test),
            "rows_at_once": self.experiment.rows(k),
            "fit_s": None if blocks else seconds["fit_s"],
            "score_s_per_picture": None if blocks else seconds["score_s"] / len(here.test),
            "fit_and_score_s": seconds["blocks_s"] or seconds["fit_s"] + seconds["score_s"],
            **flatten(self.experiment.evaluate(here, maps)),
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

    def _maps(self, fold: Fold, setting: Setting) -> Any:
        @contextlib.contextmanager
        def silent(what: str, total: int) -> Iterator[Any]:
            del what, total
            yield lambda pictures: None

        maps, _ = self.experiment.maps(fold, setting, silent)
        return maps
