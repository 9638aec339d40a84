"""Leave-one-out scores of the fitted pictures: a threshold, and the page that shows where they lie."""

import heapq
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import jaxsode
from jaxsode import report
from jaxsode.calibration import Calibration
from jaxsode.commands.detectors import PAGE, Fitted, grouped
from jaxsode.commands.loading import Good
from jaxsode.detector import Detector
from jaxsode.experiment.features import Features
from jaxsode.experiment.record import peak_memory
from jaxsode.inspection import Inspector
from jaxsode.report.overlay import overlay
from jaxsode.report.page import Story, Tile, page

if TYPE_CHECKING:
    from jaxsode.remote import Workers

WORST, EXAMPLES = 12, 4
"""Pictures that the page shows."""

FAR = 3.5
"""A score is marked whose logarithm lies so many deviations above the median: 1.4826 times the median
absolute deviation, which is the standard deviation of normal numbers."""


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What a pass over the fitted pictures gave.

    Attributes:
        calibration: their scores.
        shown: by their place the maps of the worst and of a few others.
        mean: (height, width, 3) uint8, of all pictures.
    """

    calibration: Calibration
    shown: dict[int, np.ndarray]
    mean: np.ndarray


def left_out(
    detector: Detector,
    good: Good,
    features: Features,
    *,
    rate: float,
    ignored: np.ndarray | None,
    excluded: int,
    advance: Callable[[int], None],
    workers: "Workers | None" = None,
) -> LeftOut:
    """Score the fitted pictures, each as if it had not been fitted on, those of a group together.

    Args:
        detector: with its moments.
        good: exactly the pictures that it was fitted on, in their order.
        features: of them.
        rate: α, see `Calibration`.
        ignored: see `Inspector`.
        excluded: how many were taken out by name.
        advance: called with how many were just done.
        workers: Ray's, that score in this one's place.
    """
    inspector = Inspector(detector, ignored=ignored)
    numbers = grouped(good.pictures)
    scores: list[float] = []
    worst: list[tuple[float, int, np.ndarray]] = []
    shown: dict[int, np.ndarray] = {}
    examples = {i * len(numbers) // EXAMPLES for i in range(EXAMPLES)}
    if workers is None:
        batches = features.batches(good.indices)
        found = detector.leave_one_out_of_features(batches, groups=numbers, ignored=ignored)
    else:
        found = _by(workers, detector, good, features, numbers, ignored)
    for maps in found:
        for score, one in zip(inspector.scores(maps), maps, strict=True):
            place = len(scores)
            scores.append(float(score))
            if place in examples:
                shown[place] = one
            heapq.heappush(worst, (float(score), -place, one))
            if len(worst) > WORST:
                heapq.heappop(worst)
        advance(len(maps))
    shown |= {-place: one for _, place, one in worst}
    total = np.zeros((*detector.size, features.dataset.channels))
    for batch in features.pictures(good.indices):
        total += batch.pictures[: batch.valid].sum(0, dtype=np.float64)
    together = len(set(numbers)) < len(numbers)
    calibration = Calibration(
        np.array(scores, np.float32),
        tuple(picture.name for picture in good.pictures),
        rate,
        ignored=ignored,
        groups=tuple(map(str, numbers)) if together else None,
        excluded=excluded,
    )
    mean = np.round(total / len(scores)).astype(np.uint8)
    return LeftOut(calibration, shown, np.broadcast_to(mean, (*mean.shape[:2], 3)))


def _by(
    workers: "Workers",
    detector: Detector,
    good: Good,
    features: Features,
    numbers: Sequence[int],
    ignored: np.ndarray | None,
) -> Iterator[np.ndarray]:
    """Left-out maps by Ray's workers, in the pictures' order; chunks hold whole groups."""
    from jaxsode.remote import Chunks, chunked

    places = chunked(numbers)
    parts = [[good.indices[place] for place in part] for part in places]
    chunks = Chunks(good.dataset, parts, size=detector.size, batch_size=features.batch_size)
    groups = [[numbers[place] for place in part] for part in places]
    waiting: dict[int, np.ndarray] = {}
    given = 0
    maps = workers.maps(detector, chunks, ignored=ignored, groups=groups)
    for part, found in zip(places, maps, strict=True):
        waiting |= dict(zip(part, found, strict=True))
        while given in waiting:
            yield waiting.pop(given)[None]
            given += 1


def far_out(scores: np.ndarray) -> np.ndarray:
    """Which scores lie far above the others, see `FAR`.

    Args:
        scores: (N,), above 0.

    Returns:
        (N,) bool.
    """
    logs = np.log(np.maximum(np.asarray(scores, np.float64), np.finfo(np.float64).tiny))
    deviation = 1.4826 * np.median(np.abs(logs - np.median(logs)))
    return logs - np.median(logs) > FAR * deviation if deviation > 0 else np.zeros(len(logs), bool)


def said(calibration: Calibration) -> list[str]:
    """What a threshold promises, in sentences.

    Args:
        calibration: that has it.
    """
    low, high = calibration.interval()
    N = calibration.pictures
    lines = [
        f"Defective is what scores above {calibration.threshold:.4g}. That calls about "
        f"{calibration.alpha:.2%} of good pictures so: {low:.2%} to {high:.2%} with 95 % probability "
        f"(N = {N}, r = {calibration.rank}).",
    ]
    if calibration.note is not None:
        lines.append(f"{calibration.note}.")
    if calibration.groups is not None:
        groups = len(set(calibration.groups))
        lines.append(
            f"The {N} pictures were left out in {groups} groups. Pictures of one group tell of each other, "
            "so that the interval is too narrow: think of it as of that many pictures."
        )
    if calibration.excluded:
        which = "1 picture was" if calibration.excluded == 1 else f"{calibration.excluded} pictures were"
        lines.append(
            f"{which} excluded. If that was for the score, the rate is promised only where it was bad."
        )
    if calibration.ignored is not None:
        lines.append(f"{calibration.ignored.mean():.0%} of the picture is ignored.")
    return lines


def write_page(
    folder: Path, detector: Detector, good: Good, features: Features, found: LeftOut, fitted: Fitted
) -> None:
    """The page of a detector's folder.

    Args:
        folder: of the detector, or in the making.
        detector, good, features: see `left_out`.
        found: by `left_out`.
        fitted: what was recorded.
    """
    calibration, k = found.calibration, detector.W.shape[1]
    scores, marked = calibration.scores, far_out(calibration.scores)
    places = sorted(found.shown)
    pictures: dict[int, np.ndarray] = {}
    for batch in features.pictures([good.indices[place] for place in places]):
        for picture in batch.pictures[: batch.valid]:
            pictures[places[len(pictures)]] = picture

    def tile(place: int) -> Tile:
        picture = np.broadcast_to(pictures[place], (*pictures[place].shape[:2], 3))
        drawn = overlay(picture, found.shown[place], k, threshold=calibration.threshold)
        name = good.pictures[place].name
        return Tile(name, float(scores[place]), picture, drawn, bool(marked[place]))

    worst = sorted(places, key=lambda place: -scores[place])[:WORST]
    story = Story(
        title="A detector of defects",
        lead=said(calibration),
        notes=good.dataset.notes,
        mean=found.mean,
        scores=scores,
        threshold=calibration.threshold,
        rule=(
            "The good pictures with the highest scores, each as if it had not been fitted on. Framed are "
            f"those whose log score lies {FAR:g} robust deviations above the median: {int(marked.sum())} of "
            f"{len(scores)}. If one is bad, jaxsode fit --exclude NAME takes it out exactly. Several that "
            "are alike hide each other: look again afterwards. Maps are drawn from 0 to 4√k, the outline "
            "is the threshold."
        ),
        worst=[tile(place) for place in worst],
        examples=[tile(place) for place in places if place not in worst],
        facts=list(_facts(detector, calibration, fitted)),
    )
    report.write(folder / PAGE, page(story))


def _facts(detector: Detector, calibration: Calibration, fitted: Fitted) -> Sequence[tuple[str, Any]]:
    height, width = detector.size
    method = detector.method
    weights = fitted.about.get("weights", {})
    seconds = fitted.about.get("seconds", {})
    peak = peak_memory()["process_peak"]
    facts: list[tuple[str, Any]] = [
        ("good pictures", int(detector.count)),
        ("excluded", ", ".join(picture.name for picture in fitted.excluded) or "none"),
        ("size", f"{height} × {width}"),
        ("backbone", detector.backbone.name),
        ("weights", weights.get("source", "")),
        ("weights' SHA-256", weights.get("sha256", weights.get("note", ""))),
        ("method", str(method)),
        ("ε", f"{detector.epsilon:.4g} ({method.epsilon})"),
        ("picture score", "the map's maximum"),
        ("false-alarm rate asked for", calibration.rate),
        ("threshold", f"{calibration.threshold:.6g}, from {calibration.source} scores"),
        ("ignored", "nothing" if calibration.ignored is None else f"{calibration.ignored.mean():.1%}"),
        ("seconds", ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())),
        ("peak memory", "" if peak is None else f"{peak / 1e9:.2f} GB"),
        ("versions", f"jaxsode {jaxsode.__version__}, jax {importlib.metadata.version('jax')}"),
        ("Python", platform.python_version()),
    ]
    return [fact for fact in facts if fact[1] != ""]
