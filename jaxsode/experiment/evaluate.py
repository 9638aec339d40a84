"""One method on one split, streamed: fit on its good pictures, then a test batch goes from picture to map to
metrics and heat maps, and is forgotten.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxsode import metrics
from jaxsode.algebra.precision import OF_MOMENTS
from jaxsode.blocks import fit_and_score, rows_per_block, state_bytes
from jaxsode.choice import Choice
from jaxsode.datasets import Batch, Split
from jaxsode.detector import Detector
from jaxsode.errors import ArgumentError
from jaxsode.experiment.features import Features, free_memory
from jaxsode.experiment.record import Stopwatch
from jaxsode.fitting import FeatureMaps, grid_of
from jaxsode.method import Method
from jaxsode.metrics.stream import HALF
from jaxsode.peers import Peer
from jaxsode.preparation import Placing

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar: what is done, for how many pictures; gives what to call with each few that are."""

Draw = Callable[[int, np.ndarray, np.ndarray, np.ndarray | None, Placing], None]
"""Called with a test picture's index, the picture, its anomaly map, its mask if it is defective, and where
the original's pixels lie in them."""


@dataclass(frozen=True)
class Experiment:
    """What all methods and splits of a run have in common.

    Attributes:
        features: of the pictures.
        stopwatch: gets fit_s and score_s, or blocks_s for both.
        memory: bytes that the state of fitting may take; above it, locations are done block by block.
        metric_memory: bytes that exact metrics may take; above it they have a bound, see `metrics.Stream`.
        picture_score: see `jaxsode.metrics.Stream`.
        host_memory: bytes that embedded features may take, which blocks keep; a share of what is free.
    """

    features: Features
    stopwatch: Stopwatch
    memory: int
    metric_memory: int | None = None
    picture_score: str = "max"
    host_memory: int = field(default_factory=free_memory)

    def rows(self, method: Method, pictures: int) -> int:
        """How many rows of the grid are fitted at once.

        Args:
            method: see `Method`.
            pictures: N that are fitted on.
        """
        try:
            return self._rows(self.features.size, method, pictures)
        except ArgumentError as error:
            raise ArgumentError(f"{error}{self._smaller(method, pictures, whole=False)}") from error

    def takes(self, method: Method | Peer, pictures: int) -> str:
        """What memory a fit takes, in a line.

        Args:
            method, pictures: see `rows`.

        Raises:
            ArgumentError: it doesn't fit.
        """
        if not isinstance(method, Method):
            pixels = math.prod(self.features.size) * self.features.dataset.channels
            kept = method.keeps(pictures, numbers=self.features.numbers_per_picture(), pixels=pixels)
            return f"memory: {method} keeps {kept / 1e9:.3g} GB of {pictures} pictures"
        rows, (H, W) = self.rows(method, pictures), self.features.grid()
        F = sum(self.features.backbone.channels)
        taken = state_bytes((H, W), method, F, pictures)
        cut = "" if rows == H else f", and so in {-(-H // rows)} blocks of rows"
        return (
            f"memory: {H} × {W} locations of k = {method.size(F)} take {taken / 1e9:.3g} GB of "
            f"{self.memory / 1e9:.3g} GB at hand{cut}"
        )

    def takes_whole(self, method: Method, pictures: int) -> str:
        """`takes`, where a fit in blocks won't do.

        Args:
            method, pictures: see `rows`.

        Raises:
            ArgumentError: it doesn't fit whole.
        """
        H = self.features.grid()[0]
        if self.rows(method, pictures) < H:
            raise ArgumentError(
                f"{self.takes(method, pictures)}: give a larger --memory-gb"
                f"{self._smaller(method, pictures, whole=True)}"
            )
        return self.takes(method, pictures)

    def _rows(self, size: tuple[int, int], method: Method, pictures: int) -> int:
        grid = grid_of(self.features.backbone, size)
        return rows_per_block(grid, method, sum(self.features.backbone.channels), self.memory, pictures)

    def _smaller(self, method: Method, pictures: int, *, whole: bool) -> str:
        """The largest size of about this aspect that fits, as a remedy; or nothing."""
        size, step = self.features.size, max(self.features.backbone.strides)
        for shorter in range(min(size) // step * step, 31, -step):
            fits = tuple(max(round(side * shorter / min(size) / step), 1) * step for side in size)
            try:
                rows = self._rows((fits[0], fits[1]), method, pictures)
            except ArgumentError:
                continue
            if fits != size and not (whole and rows < grid_of(self.features.backbone, (fits[0], fits[1]))[0]):
                return f", or at most --size {fits[0]} {fits[1]}"
        return ""

    def prepare(self, runs: Iterable[tuple[Split, Method | Peer]], *, progress: Callable[[int], None]) -> int:
        """Extract the features once for all runs that will follow, if any are used more than once.

        Args:
            runs: what `run` will be called with.
            progress: called with the number of pictures just done.

        Returns:
            How many pictures' features are kept.

        Raises:
            ArgumentError: see `jaxsode.blocks.rows_per_block`; or pictures are to be left out one by one, and
                the method can't; before any picture is touched.
        """
        uses, tested, apart = [], [], []
        for split, method in runs:
            self._check_left_out(split, method)
            if not isinstance(method, Method):  # which takes the pictures themselves
                apart += [*split.train, *split.test]
                continue
            rows, keep = self._blocks(split, method)
            blocks = -(-self.features.grid()[0] // rows)
            uses += [*split.train, *split.test] * (1 if keep else blocks)
            if blocks > 1 and method.scale != "none":
                uses += split.train  # for the scale, before the first block
            uses += split.left_out
            tested += [*split.left_out, *split.test]
            apart += split.test if blocks > 1 else ()
        return self.features.prepare(uses, tested=tested, apart=apart, progress=progress)

    def run(
        self,
        split: Split,
        method: Method | Peer,
        *,
        bar: Bar,
        draw: Draw | None = None,
        save: Path | None = None,
    ) -> dict[str, Any]:
        """Fit, score and evaluate.

        Args:
            split: whose good pictures are fitted on, and whose test pictures are scored; and its `left_out`,
                by leave-one-out.
            method: see `Method` and `Peer`.
            bar: see `Bar`.
            draw: called for each test picture, while it is at hand.
            save: a new folder for the detector, or None; a peer saves nothing.

        Returns:
            All `metrics.Metrics`, by the data set's own rule for masks; their `error_bound` where they are
            not exact; `hidden`, where there are any, names of defective pictures of whose mask nothing is
            left at this size, in what is judged; of a peer its `model`, see `Model.page`; and the `choice` of
            ε or the shrinkage where the method left it open: what was taken, a note where there is one, and
            the curve.
        """
        dataset = self.features.dataset
        about: dict[str, Any] = {}
        hidden: list[str] = []
        stream = metrics.Stream(
            paper_full_mask=dataset.paper_full_mask,
            memory=self.metric_memory,
            picture_score=self.picture_score,
        )
        with stream:
            scored = (
                self._scored(split, method, bar, save, about)
                if isinstance(method, Method)
                else self._by_peer(split, method, bar, about)
            )
            for maps, batch in scored:
                placings = batch.placings
                assert placings is not None
                assert batch.masks is not None
                assert batch.masked is not None
                defective = np.array([dataset.examples[i].defective for i in batch.indices])
                for rows, part in _judged(batch):
                    masked, masks = batch.masked[rows], batch.masks[rows][part]
                    stream.add(maps[rows][part], masks, defective[rows], masked=masked)
                    lost = defective[rows] & masked & (masks.max(axis=(1, 2)) < HALF)
                    hidden += [dataset.examples[batch.indices[rows][i]].name for i in np.flatnonzero(lost)]
                if draw is not None:
                    for row in range(batch.valid):
                        mask = batch.masks[row] if defective[row] else None
                        draw(batch.indices[row], batch.pictures[row], maps[row], mask, placings[row])
            result: dict[str, Any] = dict(stream.result()) | about | ({"hidden": hidden} if hidden else {})
            # So many distinct scores that they were merged: how far off a number can be stands beside it.
            return result | ({"error_bound": stream.error_bound} if stream.merged else {})

    def _check_left_out(self, split: Split, method: Method | Peer) -> None:
        if not split.left_out:
            return
        why, smaller = None, ""
        if not isinstance(method, Method):
            why = f"{method} has no leave-one-out"
        elif method.precision not in OF_MOMENTS:
            why = f"precision {method.precision!r} has no leave-one-out"
        elif self.rows(method, len(split.train)) < self.features.grid()[0]:
            why = "in blocks, for want of memory, there is no leave-one-out"
            smaller = self._smaller(method, len(split.train), whole=True)
        if why is not None:
            raise ArgumentError(
                f"no good pictures are set apart for testing, and {why}: set some apart with --hold-out"
                f"{smaller}"
            )

    def _by_peer(
        self, split: Split, peer: Peer, bar: Bar, about: dict[str, Any]
    ) -> Iterator[tuple[np.ndarray, Batch]]:
        """The same by another method; `about` gets what its model says of itself."""

        def pictures(indices: Sequence[int], what: str) -> Iterator[Batch]:
            with bar(what, len(indices)) as done:
                for batch in self.features.pictures(indices):
                    yield batch
                    done(batch.valid)

        with self.stopwatch("fit_s"):
            model = peer.fit(pictures(split.train, "fit"), self.features.backbone, bar=bar)
        about["model"] = model.page()
        for batch in pictures(split.test, "score"):
            with self.stopwatch("score_s"):
                maps = np.asarray(model.anomaly_map(batch.pictures[: batch.valid]))
            yield maps, batch

    def _left_out(self, detector: Detector, split: Split, bar: Bar) -> Iterator[tuple[np.ndarray, Batch]]:
        """Maps of fitted pictures as if unseen."""
        at_hand: list[Batch] = []

        def features() -> Iterator[tuple[FeatureMaps, int]]:
            for maps, batch in self.features.tests(split.left_out):
                at_hand.append(batch)
                yield maps, batch.valid

        with bar("leave one out", len(split.left_out)) as done:
            found = detector.leave_one_out_of_features(features())
            while True:
                with self.stopwatch("score_s"):
                    if (maps := next(found, None)) is None:
                        return
                batch = at_hand.pop()
                yield maps, batch
                done(batch.valid)

    def _blocks(self, split: Split, method: Method) -> tuple[int, bool]:
        """Rows of the grid at once, and whether blocks keep the embedded features, or want them anew each."""
        f, n = self.features, len(split.train)
        embedded = 4 * math.prod(f.grid()) * method.size(sum(f.backbone.channels)) * (n + len(split.test))
        rows = self.rows(method, n)
        return rows, rows == f.grid()[0] or embedded <= self.host_memory

    def _scored(
        self, split: Split, method: Method, bar: Bar, save: Path | None, about: dict[str, Any]
    ) -> Iterator[tuple[np.ndarray, Batch]]:
        """Anomaly maps (B, height, width) of the test pictures, with their batch; `about` gets a choice."""
        f = self.features

        def maps_of(indices: Sequence[int], what: str) -> Iterator[tuple[FeatureMaps, int]]:
            with bar(what, len(indices)) as done:
                for maps, valid in f.batches(indices):
                    yield maps, valid
                    done(valid)

        n = len(split.train)
        rows, keep = self._blocks(split, method)
        if rows < f.grid()[0]:
            with self.stopwatch("blocks_s"):
                scored = fit_and_score(
                    lambda: maps_of(split.train, "fit"),
                    lambda: maps_of(split.test, "score"),
                    f.backbone,
                    method,
                    size=f.size,
                    rows=rows,
                    pictures=n,
                    keep=keep,
                    path=save,
                    preparation=f.dataset.preparation,
                )
            about |= _told(scored.method, scored.choice)
            yield from zip((maps for maps, _ in scored), f.pictures(split.test), strict=True)
            return
        with self.stopwatch("fit_s"):
            detector = Detector.fit_features(
                maps_of(split.train, "fit"),
                f.backbone,
                method,
                size=f.size,
                pictures=n,
                keep_moments=save is not None or bool(split.left_out),
            )
        about |= _told(detector.method, detector.choice)
        if save is not None:
            replace(detector, preparation=f.dataset.preparation).save(save)
        if split.left_out:
            yield from self._left_out(detector, split, bar)
        with bar("score", len(split.test)) as done:
            batches = f.tests(split.test)
            while True:
                with self.stopwatch("score_s"):
                    if (found := next(batches, None)) is None:
                        return
                    maps = np.asarray(detector.anomaly_map_of_features(found[0]))
                yield maps, found[1]
                done(found[1].valid)


def _judged(batch: Batch) -> Iterator[tuple[slice, tuple[slice, ...]]]:
    """Rows of a batch, and of their maps what is evaluated."""
    if batch.judged is None:
        yield slice(batch.valid), ()
        return
    for row, (top, left, bottom, right) in enumerate(batch.judged[: batch.valid].tolist()):
        yield slice(row, row + 1), (slice(None), slice(top, bottom), slice(left, right))


def _told(method: Method, choice: Choice | None) -> dict[str, Any]:
    """A choice as a record has it; nothing if nothing was chosen."""
    if choice is None:
        return {}
    taken = {name: method.page()[name] for name in ("epsilon", "shrinkage")}
    return {"choice": taken | {"note": choice.note, "curve": choice.page()}}
