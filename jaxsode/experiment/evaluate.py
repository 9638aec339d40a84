"""One setting on one fold: fit on its good pictures, score its test pictures, evaluate."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from jaxsode import metrics
from jaxsode.blocks import fit_and_score, rows_per_block
from jaxsode.config import Setting
from jaxsode.datasets import batches
from jaxsode.detector import Detector
from jaxsode.features import Features, free_memory
from jaxsode.fitting import FeatureMaps, embedding_matrix
from jaxsode.measure import Stopwatch

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar: what is done, for how many pictures; gives what to call with each few that are."""


@dataclass(frozen=True)
class Fold:
    """Pictures to fit on and pictures to score.

    Attributes:
        name: of the fold.
        train, test: indices into the data set's examples.
        pictures: (N, height, width, C) uint8, those of `test`.
        masks: (N, height, width) uint8.
        defective: (N,) bool.
    """

    name: str
    train: Sequence[int]
    test: Sequence[int]
    pictures: np.ndarray
    masks: np.ndarray
    defective: np.ndarray


@dataclass(frozen=True)
class Experiment:
    """What all settings and folds of a run have in common.

    Attributes:
        features: of the pictures.
        stopwatch: gets fit_s and score_s, or blocks_s for both.
        epsilon, sigma: see `Detector.fit`.
        memory: bytes that the state of fitting may take; above it, locations are done block by block.
    """

    features: Features
    stopwatch: Stopwatch
    epsilon: float
    sigma: float
    memory: int

    def fold(self, name: str) -> Fold:
        """The fold, with its test pictures and masks decoded."""
        f = self.features
        split = f.dataset.split(name)
        train, test = split.train, split.test
        decoded = list(
            batches(f.dataset, test, size=f.size, batch_size=f.batch_size, workers=f.workers, with_masks=True)
        )
        pictures = np.concatenate([batch.pictures[: batch.valid] for batch in decoded])
        masks = np.concatenate([batch.masks[: batch.valid] for batch in decoded if batch.masks is not None])
        defective = np.array([f.dataset.examples[i].defective for i in test])
        return Fold(name, train, test, pictures, masks, defective)

    def rows(self, k: int) -> int:
        """How many rows of the grid are fitted at once."""
        return rows_per_block(self.features.grid(), k, self.memory)

    def maps(self, fold: Fold, setting: Setting, bar: Bar) -> tuple[np.ndarray, Detector | None]:
        """Anomaly maps (N, height, width) of the test pictures; and the detector, unless done in blocks."""

        def maps_of(indices: Sequence[int], what: str) -> Iterator[tuple[FeatureMaps, int]]:
            with bar(what, len(indices)) as done:
                for maps, valid in self.features.batches(indices):
                    yield maps, valid
                    done(valid)

        f = self.features
        if (rows := self.rows(setting.k)) < f.grid()[0]:
            embedded = 4 * math.prod(f.grid()) * setting.k * (len(fold.train) + len(fold.test))
            W = embedding_matrix(setting.embedding, setting.seed, sum(f.backbone.channels), setting.k)
            with self.stopwatch("blocks_s"):
                maps = fit_and_score(
                    lambda: maps_of(fold.train, "fit"),
                    lambda: maps_of(fold.test, "score"),
                    W,
                    size=f.size,
                    rows=rows,
                    epsilon=self.epsilon,
                    sigma=self.sigma,
                    keep=embedded <= free_memory(),
                )
            return maps, None
        with self.stopwatch("fit_s"):
            detector = Detector.fit_features(
                maps_of(fold.train, "fit"),
                f.backbone,
                size=f.size,
                k=setting.k,
                embedding=setting.embedding,
                epsilon=self.epsilon,
                seed=setting.seed,
                sigma=self.sigma,
            )
        with self.stopwatch("score_s"):
            scored = [
                np.asarray(detector.anomaly_map_of_features(maps))[:valid]
                for maps, valid in maps_of(fold.test, "score")
            ]
        return np.concatenate(scored), detector

    def evaluate(self, fold: Fold, maps: np.ndarray) -> metrics.Metrics:
        """All metrics of the fold, by the data set's own rule for masks."""
        full = self.features.dataset.paper_full_mask
        return metrics.evaluate(maps, fold.masks, fold.defective, paper_full_mask=full)
