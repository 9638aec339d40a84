"""A setting on one fold: fit and score, timed, and the metrics; of the building blocks of `jaxsode.run`."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode import Detector, algebra, datasets, metrics
from jaxsode.backbones import load
from jaxsode.config import Config, with_defaults
from jaxsode.features import Features
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
        weights = "random" if options.random else options.weights
        self.config = config
        self.backbone = load(config.backbone, weights=weights)
        self.weights = str(weights or "as jaxsode.load_backbone finds them")
        self.dataset = datasets.load(options.dataset, data_dir=options.data_dir)
        self.size = tuple(options.size) if options.size else self.dataset.size
        self.folds = self.dataset.folds if tuple(options.fold) == ("all",) else tuple(options.fold)
        self.features = Features(
            self.backbone,
            self.dataset,
            size=(self.size[0], self.size[1]),
            batch_size=config.batch_size,
            workers=config.workers,
        )
        used = [i for fold in self.folds for part in ("train", "test") for i in self._indices(fold, part)]
        start = time.perf_counter()
        self.features.prepare(used * 2, progress=lambda _: None)
        self.extract_s = time.perf_counter() - start
        self.truth = {fold: self._truth(fold) for fold in self.folds}

    def warm_up(self, k: int) -> None:
        """What fitting and scoring with k compile, they compile here."""
        few = self._indices(self.folds[0], "train")[:1]
        self._score(self._fit(algebra.sampled(0, sum(self.backbone.channels), k), few), few)

    def measure(self, embedding: str, k: int, seed: int, fold: str) -> dict[str, Any]:
        """Seconds from features to detector and from features to maps; the five metrics by dotted name."""
        train, test = self._indices(fold, "train"), self._indices(fold, "test")
        W = jax.block_until_ready(algebra.embedding(embedding, seed, sum(self.backbone.channels), k))
        start = time.perf_counter()
        detector = self._fit(W, train)
        fitted = time.perf_counter()
        maps = self._score(detector, test)
        scored = time.perf_counter()
        masks, defective = self.truth[fold]
        full = self.dataset.paper_full_mask
        return {
            "train": len(train),
            "test": len(test),
            "fit_s": fitted - start,
            "score_s_per_picture": (scored - fitted) / len(test),
            **flatten(metrics.evaluate(maps, masks, defective, paper_full_mask=full)),
        }

    def fit_bytes(self, k: int) -> int:
        """What fitting takes at the least: scatter and whitener, 2 · H·W·k² numbers."""
        picture = jax.ShapeDtypeStruct((1, *self.size, 3), jnp.uint8)
        H, width = jax.eval_shape(lambda x: self.backbone(x / 255), picture)[0].shape[1:3]
        return 8 * H * width * k * k

    def described(self) -> dict[str, Any]:
        """What all rows have in common."""
        return {
            "dataset": self.dataset.name,
            "backbone": self.backbone.name,
            "weights": self.weights,
            "size": list(self.size),
            "features_extracted_s": self.extract_s,
        }

    def _fit(self, W: jax.Array, indices: Sequence[int]) -> Detector:
        detector = Detector.fit_features(
            self.features.batches(indices),
            self.backbone,
            size=(self.size[0], self.size[1]),
            W=W,
            epsilon=self.config.epsilon or 0.01,
        )
        return jax.block_until_ready(detector)

    def _score(self, detector: Detector, indices: Sequence[int]) -> np.ndarray:
        every = self.features.batches(indices)
        return np.concatenate(
            [np.asarray(detector.anomaly_map_of_features(maps))[:valid] for maps, valid in every]
        )

    def _indices(self, fold: str, part: Any) -> tuple[int, ...]:
        return self.dataset.split(fold, part).indices

    def _truth(self, fold: str) -> tuple[np.ndarray, np.ndarray]:
        """Masks (N, height, width) and which pictures are defective (N,)."""
        test = self._indices(fold, "test")
        masks = np.stack([self.dataset.mask(i, size=(self.size[0], self.size[1])) for i in test])
        return masks, np.array([self.dataset.examples[i].defective for i in test])
