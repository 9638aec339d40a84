"""jaxsode calibrate: a threshold from unseen good pictures, or anew from those that were fitted on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from jaxsode import calibration as calibrations
from jaxsode.calibration import UNSEEN, Calibration
from jaxsode.commands import loading
from jaxsode.commands.detectors import PAGE, Fitted, digest, existing
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.ignoring import ignored as ignored_by
from jaxsode.commands.options import Several, with_address
from jaxsode.commands.progress import Shown
from jaxsode.commands.threshold import left_out, said, write_page
from jaxsode.datasets import batches
from jaxsode.datasets.decode import decode_mask, open_picture
from jaxsode.datasets.listing import listed, read_file
from jaxsode.datasets.reading import suffixes
from jaxsode.detector import Detector
from jaxsode.errors import ArgumentError, DataError
from jaxsode.home import expanded, readable
from jaxsode.inspection import Inspector
from jaxsode.operating import best_f1, cheapest
from jaxsode.preparation import Preparation


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
    fitted = Fitted.read(folder)
    with Shown(console) as shown:
        dataset = loading.as_detectors(detector, asked.good, shown, console=console)
        bad = None if asked.defective is None else _defective(asked, detector, fitted, dataset)
        finish: Callable[[], None]
        if asked.leave_one_out:
            made, finish = _left_out(asked, folder, detector, fitted, dataset, mask, shown)
        else:
            made = _unseen(asked, detector, fitted, dataset, mask, shown)
            finish = partial((folder / PAGE).unlink, missing_ok=True)  # it shows another threshold
        if bad is not None:
            made = replace(made, labelled=_labelled(asked, detector, bad, made))
    made.write(folder)
    finish()
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
    asked: Calibrate,
    folder: Path,
    detector: Detector,
    fitted: Fitted,
    dataset: Any,
    mask: np.ndarray | None,
    shown: Shown,
) -> tuple[Calibration, Callable[[], None]]:
    """The calibration, and what writes its page."""
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
    return found.calibration, partial(write_page, folder, detector, good, features, found, fitted)


def _unseen(
    asked: Calibrate,
    detector: Detector,
    fitted: Fitted,
    dataset: Any,
    mask: np.ndarray | None,
    shown: Shown,
) -> Calibration:
    good = loading.good(dataset, what="all")
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


@dataclass(frozen=True)
class _Bad:
    """A defective picture: its name, its file, and its mask's or none."""

    name: str
    file: Path
    mask: Path | None


def _defective(asked: Calibrate, detector: Detector, fitted: Fitted, good: Any) -> list[_Bad]:
    """All pictures of the folder, which are taken to be defective; one that is known as good is refused."""
    assert asked.defective is not None
    folder = expanded(asked.defective)
    names = _pictures_in(folder)
    if apart := [name for name in names if "good" in map(str.casefold, Path(name).parts[:-1])]:
        raise DataError(
            f"{readable(asked.defective)} has good pictures, {readable(apart[0])}: name the folder of the "
            "defective ones"
        )
    known = {picture.sha256 for picture in fitted.pictures}
    known |= {digest(good.records[index]["picture"]) for index in range(len(good.examples))}
    masks = {} if asked.masks is None else _by_stem(expanded(asked.masks))
    bad = []
    for name in names:
        file, stem = folder / name, str(Path(name).with_suffix(""))
        if digest(read_file(file)) in known:
            raise DataError(f"{readable(file)} is among the good pictures, byte for byte: it can't be both")
        if asked.masks is not None and stem not in masks:
            raise DataError(
                f"{readable(asked.masks)} has no mask for {readable(name)}: name it alike, with or without "
                "a _mask behind"
            )
        bad.append(_Bad(name, folder / name, masks.get(stem)))
    return bad


def _pictures_in(folder: Path) -> list[str]:
    known = suffixes()
    names = [name for name in listed(folder).names if Path(name).suffix.lower() in known]
    if not names:
        raise DataError(f"{readable(folder)} has no pictures: name a folder that has")
    return names


def _by_stem(folder: Path) -> dict[str, Path]:
    stems = {name: str(Path(name).with_suffix("")) for name in _pictures_in(folder)}
    return {stem.removesuffix("_mask"): folder / name for name, stem in stems.items()}


def _labelled(asked: Calibrate, detector: Detector, bad: list[_Bad], made: Calibration) -> dict[str, Any]:
    """Thresholds by pictures that are known to be defective, beside the good ones' scores."""
    inspector = Inspector(detector, ignored=made.ignored)
    preparation = detector.preparation or Preparation(upright=True, marked=True)
    scores, unmarked, marked = [], [], []
    for each in bad:
        where = readable(each.file)
        image = open_picture(read_file(each.file), channels=3, where=where, preparation=preparation)
        got = inspector(preparation.resized(image, detector.size)[None])
        if not np.isfinite(got.scores).all():
            raise DataError(f"{where} has no finite score: leave it out")
        scores.append(float(got.scores[0]))
        if each.mask is not None:
            encoded, size = read_file(each.mask), detector.size
            mask = decode_mask(encoded, size=size, where=readable(each.mask), preparation=preparation) > 127
            unmarked.append(got.maps[0][inspector.judged & ~mask])
            marked.append(got.maps[0][inspector.judged & mask])
    costs = {"missed": asked.cost_missed, "false": asked.cost_false}
    found = {
        "best F1": best_f1(made.scores, np.array(scores)).page(),
        "least cost": cheapest(made.scores, np.array(scores), **costs).page() | {"costs": costs},
    }
    if marked:
        pixels = best_f1(np.concatenate(unmarked), np.concatenate(marked))
        found["best F1 of the defective pictures' pixels"] = pixels.page()
    return found
