"""The five numbers of a test set that is never in memory as a whole. Undefined is None, never 0."""

from types import TracebackType
from typing import Any, Literal, Self, TypedDict, get_args

import numpy as np
from numpy.typing import ArrayLike

from jaxsode.errors import ArgumentError
from jaxsode.metrics import inputs
from jaxsode.metrics.curve import area, check_limit, roc
from jaxsode.metrics.pixels import LEAST_MEMORY, Pixels, Protocol

Average = Literal["pooled", "paper"]

HALF = 128  # the least integer above 127.5
FULL = 255

PICTURE_SCORES = ("max", "top1%")
"""What a picture's score is made of its map by: the highest value; the mean of the highest hundredth."""

MEMORY = 2**31
"""Bytes within which a stream is exact: enough for 2,000 pictures of 704 × 256, a tenth of them with a defect
in a hundredth of the pixels."""


class Averages(TypedDict):
    pooled: float | None
    paper: float | None


class Metrics(TypedDict):
    pixel_auroc: Averages
    pro: Averages
    image_auroc: float | None


def protocol(average: Average, *, full_mask: bool) -> Protocol:
    """What a pixel counts as; ArgumentError for an unknown average."""
    if average not in get_args(Average):
        raise ArgumentError(f"average is {average!r}: choose 'pooled' or 'paper'")
    return Protocol(lowest=FULL if full_mask else HALF, per_picture=average == "paper")


class Stream:
    """All metrics of a set of test pictures, added batch by batch.

    Any batches and any order give the same, but for the rounding of float64 sums.

    with Stream(paper_full_mask=False) as stream:
        for maps, masks, defective in batches:
            stream.add(maps, masks, defective)
        result = stream.result()

    Exact, like `evaluate`, while all scores fit the memory: for scores of b bytes (4 for float32) it takes b
    for each good pixel and at most 256 for each defective one, until the result is computed. Where that would
    exceed 7/8 of `memory`, the scores go into a histogram over the ordered bits of float32, those so far and
    every later one, in the same pass; it takes the last eighth. See `jaxsode.metrics.histogram`.
    The pixel metrics are then no longer exact: `merged` says so, and `error_bound` how far off they can be,
    ½ Σ ΔTPR ΔFPR over all bins (over the limit for PRO). The bound always holds; expect
    some 10⁻⁶, and 10⁻⁴ with the least memory.
    `image_auroc` is exact in any case.

    Beside `memory` it takes some 100 bytes for each picture, and a few vectors of the size of one picture.
    Nothing goes to the disk.

    Attributes:
        merged: whether the last result was of a histogram.
        error_bound: for each number of the last result how far it can be from the exact one, in the same
            form: 0.0 where it is exact, None where the number is None. None before the first result.
    """

    def __init__(
        self,
        *,
        paper_full_mask: bool,
        pro_limit: float = 0.3,
        memory: int | None = MEMORY,
        picture_score: str = "max",
    ) -> None:
        """Nothing yet.

        Args:
            paper_full_mask: for `paper`, count only mask pixels of 255 as defective (KolektorSDD), not all
                above 127.5, as `pooled` always does.
            pro_limit: in (0, 1], the false-positive rate up to which PRO is integrated.
            memory: bytes that scores may take, ≥ 16 MiB; None: as many as it takes.
            picture_score: of a map, where no image scores are given, one of `PICTURE_SCORES`.

        Raises:
            ArgumentError: the limit or the memory is out of its range, or there is no such score.
        """
        if picture_score not in PICTURE_SCORES:
            raise ArgumentError(
                f"picture_score {picture_score!r} is unknown: choose one of {', '.join(PICTURE_SCORES)}"
            )
        self._picture_score = picture_score
        check_limit(pro_limit)
        if memory is not None and not (isinstance(memory, int | np.integer) and memory >= LEAST_MEMORY):
            raise ArgumentError(
                f"the memory of the metrics is {memory}: give whole bytes, at least {LEAST_MEMORY} (16 MiB)"
            )
        self._pro_limit = pro_limit
        protocols = [protocol("pooled", full_mask=False), protocol("paper", full_mask=paper_full_mask)]
        self._pixels = Pixels(protocols, memory=memory)
        self._masked = True
        self._closed = False
        self._image_scores: list[Any] = []
        self._defective: list[bool] = []
        self._scores_given: bool | None = None
        self.merged = False
        self.error_bound: Metrics | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back its memory. `merged` and `error_bound` stay as of the last result."""
        self._closed = True
        self._pixels.close()

    def add(
        self,
        maps: ArrayLike,
        masks: ArrayLike,
        defective: ArrayLike,
        *,
        image_scores: ArrayLike | None = None,
        masked: ArrayLike | None = None,
    ) -> None:
        """Add one batch; the next may have another size and another dtype.

        Args:
            maps: (B, height, width), real, B ≥ 1; higher is more anomalous.
            masks: (B, height, width) uint8, the masks resized like the pictures, 0…255; 0 for good pictures,
                and where there is none.
            defective: (B,) bool.
            image_scores: (B,), real. By default the `picture_score` of each map. With every batch or with
                none.
            masked: (B,) bool, False where a defective picture has no mask; of a good one it says nothing. By
                default all have one. Where one is missing the pixel metrics are None for the whole set: a
                number over a part of the pictures is not the metric. `image_auroc` needs no mask.

        Raises:
            ArgumentError: shapes, kinds or ranges do not fit, a mask is marked where there should be none, or
                the stream is closed. Nothing of the batch is added.
            NumericalError: a map or score is NaN; the message has the picture's index in the whole stream.
                Nothing of the batch is added.
        """
        self._open()
        first = len(self._defective)
        scores, truth, highest = inputs.maps_and_masks(maps, masks, first=first)
        flags = inputs.flags(defective, len(scores))
        known = np.ones_like(flags) if masked is None else inputs.flags(masked, len(scores), name="masked")
        marked = truth.max(axis=(1, 2)) >= HALF
        for wrong, what in (
            (marked & ~flags, "is good but its mask is not"),
            (marked & ~known, "has a mask and is said to have none"),
        ):
            if wrong.any():
                raise ArgumentError(f"picture {first + wrong.argmax()} {what}: correct one of them")
        given = image_scores is not None
        if self._scores_given not in (None, given):
            raise ArgumentError(
                "image scores came with some batches only: give them with every batch or with none"
            )
        if image_scores is None:
            image_scores = highest if self._picture_score == "max" else _top(scores)
        values, _ = inputs.image_scores(image_scores, flags, first=first)

        self._masked = self._masked and bool((known | ~flags).all())
        if self._masked:
            try:
                for picture, mask in zip(scores, truth, strict=True):
                    self._pixels.add(picture, mask)
            except BaseException:  # half a batch, an interruption's too, must not become a number
                self.close()
                raise
        else:
            self._pixels.close()
        self._scores_given = given
        self._image_scores += values.tolist()
        self._defective += flags.tolist()

    def result(self) -> Metrics:
        """The metrics of all pictures so far; more may be added afterwards.

        Returns:
            `pixel_auroc` and `pro`, each `pooled` and `paper`, and `image_auroc`, in [0, 1]. Pixel metrics
            are None without a defective pixel or without a good one, or where a defective picture has no
            mask; `image_auroc` is None without a defective picture or without a good one.
            A defective picture whose mask keeps no pixel is left out of the paper's average over defective
            pictures; its pixels are good ones, and the picture is still defective for `image_auroc`.

        Raises:
            ArgumentError: no picture was added, or the stream is closed.
        """
        self._open()
        if not self._defective:
            raise ArgumentError("no picture was added to the stream: there is nothing to measure")
        result, bound = (
            Metrics(
                pixel_auroc=Averages(pooled=None, paper=None),
                pro=Averages(pooled=None, paper=None),
                image_auroc=None,
            )
            for _ in range(2)
        )
        if self._masked:
            for average, weights in zip(get_args(Average), self._pixels.weights(), strict=True):
                for name, positive, limit in (
                    ("pixel_auroc", weights.pixel, 1.0),
                    ("pro", weights.region, self._pro_limit),
                ):
                    found = weights.area(positive, limit=limit)
                    if found is not None:
                        result[name][average], bound[name][average] = found
        result["image_auroc"] = image_auroc(np.array(self._image_scores), np.array(self._defective))
        bound["image_auroc"] = None if result["image_auroc"] is None else 0.0
        self.merged, self.error_bound = self._pixels.binned, bound
        return result

    def _open(self) -> None:
        if self._closed:
            raise ArgumentError("the stream is closed: add pictures and ask for the result inside `with`")


def _top(maps: np.ndarray) -> np.ndarray:
    """(B,) the mean of the highest hundredth of each map's values, of one at least."""
    flat = maps.reshape(len(maps), -1)
    number = max(1, round(flat.shape[1] / 100))
    return np.partition(flat, -number, axis=1)[:, -number:].mean(axis=1)


def image_auroc(scores: ArrayLike, defective: ArrayLike) -> float | None:
    """Area under the pictures' ROC curve.

    Args:
        scores: (N,), real.
        defective: (N,) bool.

    Returns:
        in [0, 1]; None without a defective picture or without a good one.

    Raises:
        ArgumentError: the shapes differ, or `defective` is not boolean.
        NumericalError: a score is NaN.
    """
    values, flags = inputs.image_scores(scores, defective)
    if flags.all() or not flags.any():
        return None
    return area(*roc(values, positive=flags, negative=~flags))
