"""jaxsode predict: scores, p-values, decisions, regions and overlays of pictures."""

import csv
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from jaxsode import datasets
from jaxsode.commands.detectors import check_new, existing
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.ignoring import ignored as ignored_by
from jaxsode.datasets.decode import open_picture
from jaxsode.datasets.listing import listed, read_file
from jaxsode.datasets.reading import suffixes
from jaxsode.datasets.workers import in_order
from jaxsode.drift import Drift
from jaxsode.errors import ArgumentError, DataError, JaxsodeError, OutputError
from jaxsode.home import expanded, readable
from jaxsode.inspection import Inspected, Inspector
from jaxsode.preparation import Placing, Preparation
from jaxsode.regions import mask_on_original, on_original, regions
from jaxsode.report.overlay import overlay

COLUMNS = ("picture", "score", "p_value", "decision", "regions", "area", "error")
STILL_S = 1.0
"""How long a file must not have changed before --watch reads it."""
POLL_S = 0.5


@dataclass(frozen=True)
class Predict:
    """Score pictures by a fitted detector, and decide by its threshold.

    OUTPUT gets predictions.csv and predictions.jsonl, a line a picture as soon as it is done, and overlays
    and masks at the pictures' own size. What is defective doesn't change the exit code; a picture that can't
    be read makes it 1.
    """

    detector: Annotated[Path, tyro.conf.Positional]
    """Folder that jaxsode fit left."""
    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files, and folders with all in them; - reads names from standard input, one a line."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the results, which isn't there yet."""
    ignore_mask: Path | None = None
    """A picture that is white where nothing matters; by default the one that the threshold was made with."""
    maps: Literal["all", "defective", "none"] = "all"
    """Pictures whose overlay and mask are written; without a threshold all are, and no masks."""
    watch: bool = False
    """Follow the folders: score what comes, once it is no longer written to, until SIGINT or SIGTERM."""
    batch_size: int = 8
    """Pictures computed at once."""


@dataclass(frozen=True, eq=False)
class _Read:
    """A picture, or why there is none."""

    path: Path
    prepared: np.ndarray | None = None
    original: np.ndarray | None = None
    error: str | None = None


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode predict") -> int:
    """Run the command; returns its exit code, see `exit_code`; 1 where a picture couldn't be read."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    failed: list[int] = []
    code = exit_code(lambda: failed.append(predict(tyro.cli(Predict, prog=prog, args=arguments), console)))
    return code or int(any(failed))


def predict(asked: Predict, console: Console) -> int:
    """Do what the command does.

    Args:
        asked: what was asked for.
        console: for what is said.

    Returns:
        How many pictures couldn't be read.

    Raises:
        JaxsodeError: a mistake of the user's.
    """
    check_device()
    if asked.batch_size < 1:
        raise ArgumentError(f"--batch-size {asked.batch_size} must be at least 1")
    if not asked.pictures:
        raise ArgumentError("there is nothing to score: name pictures or folders")
    if asked.watch and not all(expanded(path).is_dir() for path in asked.pictures):
        raise ArgumentError("--watch follows folders: name folders alone")
    output = expanded(asked.output)
    check_new(output)
    inspector = Inspector.load(existing(asked.detector))
    if asked.ignore_mask is not None:
        own = inspector.detector
        mask = ignored_by(asked.ignore_mask, own.size, own.preparation)
        inspector = Inspector.load(existing(asked.detector), ignored=mask)
    if inspector.why_no_threshold is not None:
        console.print(inspector.why_no_threshold, style="yellow", markup=False)
    paths = _watched(asked, output) if asked.watch else iter(list(_named(asked.pictures)))
    start, done, failed, defects = time.perf_counter(), 0, 0, 0
    with ExitStack() as stack:
        rows = stack.enter_context(_Rows(output))
        made = inspector.calibration
        drift = None if made is None else Drift(made.scores, made.threshold)
        for reads in _batches(paths, inspector, asked):
            for read, row, drawn in _scored(reads, inspector):
                done, failed = done + 1, failed + (read.error is not None)
                if read.error is not None:
                    console.print(f"error: {read.error}", style="red", markup=False)
                defective = row["decision"] == "defective"
                defects += defective
                if drawn is not None and (asked.maps == "all" or (asked.maps == "defective" and defective)):
                    _draw(rows, row, read, drawn, inspector)
                rows.write(row)
                if drift is not None and read.error is None:
                    alarm = drift.add(row["score"], defective)
                    if alarm is not None:
                        console.print(alarm, style="yellow", markup=False)
    seconds = time.perf_counter() - start
    decided = "" if inspector.calibration is None else f", {defects} defective"
    console.print(
        f"{done} pictures{decided}, {failed} unreadable, {done / max(seconds, 1e-9):.1f} a second: "
        f"{readable(asked.output)}",
        markup=False,
    )
    return failed


def _named(pictures: Sequence[Path]) -> Iterator[Path]:
    """Each file's path, as it was given; what a folder holds with the folder before it."""
    known = suffixes()
    for given in pictures:
        if str(given) == "-":
            for line in sys.stdin:
                if name := line.rstrip("\n"):
                    yield Path(name)
            continue
        path = expanded(given)
        if path.is_dir():
            inside = [given / n for n in listed(path).names if Path(n).suffix.lower() in known]
            if not inside:
                raise DataError(f"{readable(given)} has no pictures: name a folder that has, or files")
            yield from inside
        elif path.exists():
            yield given
        else:
            raise DataError(f"{readable(given)} does not exist: name pictures or folders")


def _watched(asked: Predict, output: Path) -> Iterator[Path | None]:
    """Each picture of the folders once it is whole; None where nothing has come for a moment."""
    known = suffixes()
    seen: dict[Path, tuple[int, int]] = {}
    done: dict[Path, tuple[int, int]] = {}
    while True:
        now, ready = time.time_ns(), []
        for folder in asked.pictures:
            for name in listed(expanded(folder)).names:
                path = folder / name
                if Path(name).suffix.lower() not in known or output in expanded(path).parents:
                    continue
                try:
                    status = expanded(path).stat()
                except OSError:
                    continue  # gone again: nothing to score
                state = (status.st_size, status.st_mtime_ns)
                still = now - status.st_mtime_ns >= STILL_S * 1e9 and seen.get(path) == state
                seen[path] = state
                if still and done.get(path) != state:
                    done[path] = state
                    ready.append(path)
        yield from ready
        yield None
        time.sleep(POLL_S)


def _batches(paths: Iterator[Path | None], inspector: Inspector, asked: Predict) -> Iterator[list[_Read]]:
    """Decoded ahead by threads, as many as are computed at once; what was watched is not waited for."""
    preparation = inspector.detector.preparation or Preparation(upright=True)
    size = inspector.detector.size

    def read(path: Path | None) -> _Read | None:
        return None if path is None else _decoded(path, preparation, size)

    workers = datasets.pipeline.WORKERS
    ahead = 0 if asked.watch else asked.batch_size
    batch: list[_Read] = []
    for one in in_order(read, paths, workers=workers, ahead=ahead):
        if one is not None:
            batch.append(one)
        if len(batch) == asked.batch_size or (one is None and batch):
            yield _padded_to(batch, asked.batch_size)
            batch = []
    if batch:
        yield _padded_to(batch, asked.batch_size)


def _padded_to(batch: list[_Read], rows: int) -> list[_Read]:
    return batch + [_Read(Path())] * (rows - len(batch))


def _decoded(path: Path, preparation: Preparation, size: tuple[int, int]) -> _Read:
    where = readable(path)
    try:
        image = open_picture(read_file(expanded(path)), channels=3, where=where, preparation=preparation)
        return _Read(path, preparation.resized(image, size), np.asarray(image))
    except JaxsodeError as error:
        return _Read(path, error=str(error))


def _scored(
    reads: Sequence[_Read], inspector: Inspector
) -> Iterator[tuple[_Read, dict[str, Any], np.ndarray | None]]:
    """Each picture with its row, and its map where it has one."""
    blank = np.zeros((*inspector.detector.size, 3), np.uint8)
    got: Inspected | None = None
    if any(read.prepared is not None for read in reads):
        got = inspector(np.stack([blank if read.prepared is None else read.prepared for read in reads]))
    for i, read in enumerate(reads):
        if read == _PADDING or (read.prepared is None and read.error is None):
            continue
        row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"picture": readable(read.path), "error": read.error}
        if read.prepared is None or read.original is None or got is None:
            yield read, row, None
            continue
        if not np.isfinite(got.scores[i]):
            lost = _Read(read.path, error=f"{readable(read.path)} has no finite score: check the picture")
            yield lost, row | {"error": lost.error}, None
            continue
        row["score"] = float(got.scores[i])
        shown = got.maps[i]
        if inspector.calibration is not None and got.p_values is not None and got.defective is not None:
            row["p_value"] = float(got.p_values[i])
            row["decision"] = "defective" if got.defective[i] else "good"
            placing = _placing(read, inspector)
            found = regions(shown, inspector.calibration.threshold)
            row["regions"] = [asdict(on_original(region, placing)) for region in found]
            row["area"] = sum(region["area"] for region in row["regions"])
        yield read, row, shown


_PADDING = _Read(Path())


def _placing(read: _Read, inspector: Inspector) -> Placing:
    assert read.original is not None
    preparation = inspector.detector.preparation or Preparation(upright=True)
    return preparation.placing((read.original.shape[0], read.original.shape[1]), inspector.detector.size)


def _draw(
    rows: "_Rows", row: dict[str, Any], read: _Read, anomaly_map: np.ndarray, inspector: Inspector
) -> None:
    from PIL import Image

    assert read.original is not None
    placing = _placing(read, inspector)
    preparation = inspector.detector.preparation or Preparation(upright=True)
    grown = preparation.restored(anomaly_map, placing.original)
    threshold = None if inspector.calibration is None else inspector.calibration.threshold
    k = inspector.detector.W.shape[1]
    name = rows.name(row["picture"])
    drawn = overlay(read.original, grown, k, threshold=threshold)
    rows.picture(f"overlays/{name}.png", Image.fromarray(drawn))
    if threshold is not None:
        above = mask_on_original(anomaly_map, threshold, placing)
        rows.picture(f"masks/{name}.png", Image.fromarray(above.astype(np.uint8) * 255))


class _Rows:
    """The results' folder: a row is in both files before the next picture is begun."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._names: dict[str, int] = {}

    def __enter__(self) -> "_Rows":
        try:
            self._folder.mkdir(parents=True)
            self._csv = open(self._folder / "predictions.csv", "w", encoding="utf-8", newline="")
            self._lines = open(self._folder / "predictions.jsonl", "w", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{readable(self._folder)} can't be written: {error.strerror}") from error
        self._table = csv.writer(self._csv)
        self._table.writerow(COLUMNS)
        return self

    def __exit__(self, *_: object) -> None:
        self._csv.close()
        self._lines.close()

    def name(self, picture: str) -> str:
        """A file's name for a picture, no two alike."""
        flat = os.path.splitext(picture.replace(os.sep, "-").lstrip("-."))[0][-150:] or "picture"
        times = self._names.get(flat, 0)
        self._names[flat] = times + 1
        return flat if not times else f"{flat}-{times}"

    def picture(self, name: str, image: Any) -> None:
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        image.save(path, compress_level=3)

    def write(self, row: dict[str, Any]) -> None:
        boxes = row["regions"]
        short = row | {"regions": None if boxes is None else json.dumps(boxes)}
        self._table.writerow(["" if short[name] is None else short[name] for name in COLUMNS])
        self._lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._csv.flush()
        self._lines.flush()
