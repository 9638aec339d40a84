"""jaxsode calibrate: a threshold from unseen good pictures, or anew from those that were fitted on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from jaxsode import calibration as calibrations
from jaxsode.calibration import UNSEEN, Calibration
from jaxsode.commands import loading
from jaxsode.commands.detectors import PAGE, Fitted, existing
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.ignoring import ignored as ignored_by
from jaxsode.commands.options import Several, with_address
from jaxsode.commands.progress import Shown
from jaxsode.commands.threshold import left_out, said, write_page
from jaxsode.datasets import batches
from jaxsode.datasets.decode import decode_mask
from jaxsode.datasets.listing import listed, read_file
from jaxsode.datasets.reading import suffixes
from jaxsode.detector import Detector
from jaxsode.errors import ArgumentError, DataError
from jaxsode.home import expanded, readable
from jaxsode.inspection import Inspector
from jaxsode.operating import best_f1, cheapest


@dataclass(frozen=True)
class Calibrate:
    """Set a detector's threshold at a stated false-alarm rate.

    From good pictures that it was not fitted on; or, with --leave-one-out, from those that it was, each left
    out in turn. With labelled defects the thresholds of the best F1 and of the least cost stand beside it.
    """

    detector: Annotated[Path, tyro.conf.Positional]
    """Folder that jaxsode fit left. Its threshold is replaced."""
    good: Annotated[Path, tyro.conf.Positional]
    """Folder of good pictures."""
    leave_one_out: bool = False
    """GOOD holds the pictures that it was fitted on."""
    defective: Path | None = None
    """Folder of pictures with defects."""
    masks: Path | None = None
    """Folder of their masks, named alike, white where the defect is: the best threshold of pixels, too."""
    cost_missed: float = 1.0
    """What a missed defect costs."""
    cost_false: float = 1.0
    """What a false alarm costs."""
    false_alarm_rate: float = 0.01
    """The fraction of good pictures that may be called defective."""
    group: str | None = None
    """With --leave-one-out: a regular expression that finds a picture's group in its name."""
    ignore_mask: Path | None = None
    """A picture that is white where nothing matters; by default nothing is ignored."""
    batch_size: int = 8
    """Pictures computed at once."""
    several: tyro.conf.OmitArgPrefixes[Several] = field(default_factory=Several)


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode calibrate") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return exit_code(lambda: calibrate(tyro.cli(Calibrate, prog=prog, args=with_address(arguments)), console))


def calibrate(asked: Calibrate, console: Console) -> Calibration:
    """Do what the command does.

    Args:
        asked: what was asked for.
        console: for progress and what is said.

    Returns:
        The calibration that was written.

    Raises:
        JaxsodeError: a mistake of the user's. The detector's threshold stays then.
    """
    check_device()
    calibrations.check_rate(asked.false_alarm_rate)
    for name in ("cost_missed", "cost_false"):
        if not 0 < getattr(asked, name) < float("inf"):
            raise ArgumentError(
                f"--{name.replace('_', '-')} {getattr(asked, name)} must be above 0, and finite"
            )
    if asked.masks is not None and asked.defective is None:
        raise ArgumentError("--masks are those of --defective pictures: add their folder")
    if asked.group is not None and not asked.leave_one_out:
        raise ArgumentError("--group is for --leave-one-out: unseen pictures are left out of nothing")
    folder = existing(asked.detector)
    detector = Detector.load(folder, keep_moments=asked.leave_one_out)
    mask = ignored_by(asked.ignore_mask, detector.size, detector.preparation)
    with Shown(console) as shown:
        dataset = loading.as_detectors(detector, asked.good, shown, console=console)
        if asked.leave_one_out:
            made = _left_out(asked, folder, detector, dataset, mask, shown)
        else:
            made = _unseen(asked, folder, detector, dataset, mask, shown)
        if asked.defective is not None:
            bad = loading.as_detectors(detector, asked.defective, shown)
            made = replace(made, labelled=_labelled(asked, detector, bad, made, shown))
    made.write(folder)
    if not asked.leave_one_out:
        (folder / PAGE).unlink(missing_ok=True)  # it shows another threshold
    for line in said(made):
        console.print(line, markup=False)
    for name, found in (made.labelled or {}).items():
        console.print(
            f"{name}: {found['threshold']:.4g}, finds {found['found']} of {found['defective']} with "
            f"{found['false_alarms']} false alarms among {found['good']} good ones",
            markup=False,
        )
    return made


def _left_out(
    asked: Calibrate, folder: Path, detector: Detector, dataset: Any, mask: np.ndarray | None, shown: Shown
) -> Calibration:
    fitted = Fitted.read(folder)
    everything = loading.good(dataset, asked.group, what="all")
    there = {picture.sha256: i for i, picture in enumerate(everything.pictures)}
    lacking = [picture for picture in fitted.pictures if picture.sha256 not in there]
    if lacking:
        raise DataError(
            f"{readable(asked.good)} lacks {len(lacking)} of the {len(fitted.pictures)} pictures that the "
            f"detector was fitted on, {readable(lacking[0].name)} for one: give their folder"
        )
    good = everything.only([there[picture.sha256] for picture in fitted.pictures])
    if asked.group is None:
        good = replace(good, pictures=fitted.pictures)
    features = good.features(detector.backbone, size=detector.size, batch_size=asked.batch_size)
    with asked.several.workers() as workers, shown.task("leaving each out", len(good.indices)) as task:
        found = left_out(
            detector,
            good,
            features,
            rate=asked.false_alarm_rate,
            ignored=mask,
            excluded=len(fitted.excluded),
            advance=task.advance,
            workers=workers,
        )
    write_page(folder, detector, good, features, found, fitted)
    return found.calibration


def _unseen(
    asked: Calibrate, folder: Path, detector: Detector, dataset: Any, mask: np.ndarray | None, shown: Shown
) -> Calibration:
    good = loading.good(dataset, what="all")
    fitted = Fitted.read(folder)
    fitted.refuse(good.pictures, what="give pictures that it has not seen, or --leave-one-out")
    scores = np.concatenate(
        list(_scores(asked, Inspector(detector, ignored=mask), dataset, good.indices, shown))
    )
    return Calibration(
        scores,
        tuple(picture.name for picture in good.pictures),
        asked.false_alarm_rate,
        source=UNSEEN,
        ignored=mask,
        excluded=len(fitted.excluded),
    )


def _scores(
    asked: Calibrate, inspector: Inspector, dataset: Any, indices: Sequence[int], shown: Shown
) -> Iterator[np.ndarray]:
    size = inspector.detector.size
    with asked.several.workers() as workers, shown.task("scoring", len(indices)) as task:
        if workers is not None:
            from jaxsode.remote import CHUNK, Chunks

            parts = [indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)]
            chunks = Chunks(dataset, parts, size=size, batch_size=asked.batch_size)
            for maps in workers.maps(inspector.detector, chunks, ignored=inspector.ignored):
                yield inspector.scores(maps)
                task.advance(len(maps))
            return
        for batch in batches(dataset, indices, batch_size=asked.batch_size, size=size):
            yield inspector(batch.pictures).scores[: batch.valid]
            task.advance(batch.valid)


def _labelled(
    asked: Calibrate, detector: Detector, dataset: Any, made: Calibration, shown: Shown
) -> dict[str, Any]:
    """Thresholds by pictures that are known to be defective, beside the good ones' scores."""
    indices = range(len(dataset.examples))
    inspector = Inspector(detector, ignored=made.ignored)
    bad = np.concatenate(list(_scores(asked, inspector, dataset, indices, shown)))
    if not np.isfinite(bad).all():
        raise DataError(f"{readable(asked.defective or '')}: a picture has no finite score: leave it out")
    costs = {"missed": asked.cost_missed, "false": asked.cost_false}
    found = {
        "best F1": best_f1(made.scores, bad).page(),
        "least cost": cheapest(made.scores, bad, **costs).page() | {"costs": costs},
    }
    if asked.masks is not None:
        good, marked = _pixels(asked.masks, inspector, dataset)
        found["best F1 of the defective pictures' pixels"] = best_f1(good, marked).page()
    return found


def _pixels(folder: Path, inspector: Inspector, dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    """The distances of the defective pictures' pixels, unmarked and marked, where they are judged."""
    by_stem: dict[str, str] = {}
    for name in listed(expanded(folder)).names:
        if Path(name).suffix.lower() in suffixes():
            stem = str(Path(name).with_suffix(""))
            by_stem[stem.removesuffix("_mask")] = name
    size, preparation = inspector.detector.size, dataset.preparation
    good, marked = [], []
    for batch in batches(dataset, range(len(dataset.examples)), batch_size=1, size=size):
        example = dataset.examples[batch.indices[0]]
        stem = str(Path(example.name).with_suffix("")) if example.name not in by_stem else example.name
        if stem not in by_stem:
            raise DataError(
                f"{readable(folder)} has no mask for {readable(example.name)}: name it alike, with or "
                "without _mask"
            )
        file = expanded(folder) / by_stem[stem]
        mask = decode_mask(read_file(file), size=size, where=readable(file), preparation=preparation) > 127
        distances = inspector(batch.pictures).maps[0]
        good.append(distances[inspector.judged & ~mask])
        marked.append(distances[inspector.judged & mask])
    return np.concatenate(good), np.concatenate(marked)
