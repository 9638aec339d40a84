"""jaxsode predict: scores, p-values, decisions, regions and overlays of pictures."""

import csv
import itertools
import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from jaxsode import datasets
from jaxsode.commands.detectors import check_new, existing
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.ignoring import ignored as ignored_by
from jaxsode.commands.options import Several, with_address
from jaxsode.commands.progress import Shown
from jaxsode.datasets.decode import open_picture
from jaxsode.datasets.listing import listed, read_file
from jaxsode.datasets.reading import suffixes
from jaxsode.drift import Drift
from jaxsode.errors import ArgumentError, DataError, JaxsodeError, NumericalError, OutputError
from jaxsode.home import expanded, readable
from jaxsode.inspection import Inspected, Inspector
from jaxsode.preparation import Placing, Preparation
from jaxsode.regions import mask_on_original
from jaxsode.report.overlay import overlay

if TYPE_CHECKING:
    from jaxsode.remote import Workers

COLUMNS = ("picture", "score", "p_value", "decision", "regions", "area", "overlay", "error")
STILL_S = 1.0
"""How long a file must not have changed before --watch reads it."""
POLL_S = 0.5
"""Between looks at what is watched; a batch waits no longer for another name on standard input."""


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
    several: tyro.conf.OmitArgPrefixes[Several] = field(default_factory=Several)


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
    given = with_address(arguments)
    code = exit_code(lambda: failed.append(predict(tyro.cli(Predict, prog=prog, args=given), console)))
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
    if asked.several.ray is not None and (asked.watch or Path("-") in asked.pictures):
        raise ArgumentError("--watch and - wait for single pictures, which --ray is not for: leave one away")
    output = expanded(asked.output)
    check_new(output)
    inspector = Inspector.load(existing(asked.detector))
    if asked.ignore_mask is not None:
        own = inspector.detector
        mask = ignored_by(asked.ignore_mask, own.size, own.preparation)
        inspector = Inspector.load(existing(asked.detector), ignored=mask)
    if inspector.why_no_threshold is not None:
        console.print(inspector.why_no_threshold, style="yellow", markup=False)
    paths = _watched(asked, output) if asked.watch else _named(asked.pictures)
    start, done, failed, defects = time.perf_counter(), 0, 0, 0

    def summary() -> str:
        rate = done / max(time.perf_counter() - start, 1e-9)
        decided = "" if inspector.calibration is None else f", {defects} defective"
        where = readable(asked.output)
        return f"{done} pictures{decided}, {failed} unreadable, {rate:.1f} a second: {where}"

    with ExitStack() as stack:
        workers = stack.enter_context(asked.several.workers())
        stack.enter_context(_noted(summary))
        shown = stack.enter_context(Shown(console))
        task = stack.enter_context(shown.task("scoring"))
        rows = stack.enter_context(_Rows(output))
        made = inspector.calibration
        drift = None if made is None else Drift(made.scores, made.threshold)
        for reads, got in _inspected(_batches(paths, inspector, asked), inspector, workers):
            for read, row, drawn in _scored(reads, got, inspector):
                done, failed = done + 1, failed + (read.error is not None)
                if read.error is not None:
                    console.print(f"error: {read.error}", style="red", markup=False)
                defective = row["decision"] == "defective"
                defects += defective
                if drawn is not None and (asked.maps == "all" or (asked.maps == "defective" and defective)):
                    _draw(rows, row, read, drawn, inspector)
                rows.write(row)
                task.reach(done, None)
                if drift is not None and read.error is None:
                    alarm = drift.add(row["score"], defective)
                    if alarm is not None:
                        console.print(alarm, style="yellow", markup=False)
    console.print(summary(), markup=False)
    return failed


@contextmanager
def _noted(summary: Callable[[], str]) -> Iterator[None]:
    """What was done until a signal came, with the word of the signal: the rows are there."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception):
            error.add_note(summary())
        raise


def _named(pictures: Sequence[Path]) -> Iterator[Path | None]:
    """Each file's path, as it was given; what a folder holds with the folder before it.

    What is named is looked at before anything is scored; standard input is read as its names come, None
    where none has come for a moment.
    """
    from_input = False
    named: list[list[Path] | None] = []
    for given in pictures:
        if str(given) != "-":
            named.append(_at(given))
        elif from_input:
            raise ArgumentError("- is given twice: standard input is read once")
        else:
            from_input = True
            named.append(None)
    return itertools.chain.from_iterable(_from_input() if paths is None else paths for paths in named)


def _at(given: Path) -> list[Path]:
    path = expanded(given)
    if not path.exists():
        raise DataError(f"{readable(given)} does not exist: name pictures or folders")
    if not path.is_dir():
        return [given]
    known = suffixes()
    inside = [given / name for name in listed(path).names if Path(name).suffix.lower() in known]
    if not inside:
        raise DataError(f"{readable(given)} has no pictures: name a folder that has, or files")
    return inside


def _from_input() -> Iterator[Path | None]:
    """Names as they come; as bytes, for a name need not be text."""
    try:
        stream = sys.stdin.fileno()
    except OSError:  # no file's, as in a notebook: nobody waits for more
        yield from (Path(name) for name in sys.stdin.read().splitlines() if name)
        return
    rest = b""
    while True:
        if not select.select([stream], [], [], POLL_S)[0]:
            yield None
            continue
        more = os.read(stream, 1 << 16)
        *lines, rest = (rest + (more or b"\n")).split(b"\n")
        yield from (Path(os.fsdecode(line)) for line in (line.rstrip(b"\r") for line in lines) if line)
        if not more:
            return


def _watched(asked: Predict, output: Path) -> Iterator[Path | None]:
    """Each picture of the folders once it is whole; None where nothing has come for a moment."""
    known = suffixes()
    own = output.resolve()
    seen: dict[Path, tuple[tuple[int, int], float]] = {}
    done: dict[Path, tuple[int, int]] = {}
    while True:
        now, ready = time.monotonic(), []  # of this machine: a file server's clock may be another
        for folder in asked.pictures:
            for name in listed(expanded(folder)).names:
                path = folder / name
                if Path(name).suffix.lower() not in known or own in expanded(path).resolve().parents:
                    continue
                try:
                    status = expanded(path).stat()
                except OSError:
                    continue  # gone again: nothing to score
                state = (status.st_size, status.st_mtime_ns)
                if path not in seen or seen[path][0] != state:
                    seen[path] = state, now
                if now - seen[path][1] >= STILL_S and done.get(path) != state:
                    done[path] = state
                    ready.append(path)
        yield from ready
        yield None
        time.sleep(POLL_S)


def _batches(paths: Iterator[Path | None], inspector: Inspector, asked: Predict) -> Iterator[list[_Read]]:
    """Decoded ahead by threads, as many as are computed at once; None waits for no more."""
    preparation = inspector.detector.preparation or Preparation(upright=True)
    size = inspector.detector.size

    batch: list[_Read] = []
    pending: deque[Future[_Read]] = deque()
    with ThreadPoolExecutor(datasets.pipeline.WORKERS, thread_name_prefix="jaxsode") as pool:
        try:
            for path in itertools.chain(paths, [None]):
                if path is not None:
                    pending.append(pool.submit(_decoded, path, preparation, size))
                while pending and (path is None or len(pending) > asked.batch_size):
                    batch.append(pending.popleft().result())
                    if len(batch) == asked.batch_size:
                        yield batch
                        batch = []
                if path is None and batch:
                    yield _padded_to(batch, asked.batch_size)
                    batch = []
        finally:
            for future in pending:
                future.cancel()


def _padded_to(batch: list[_Read], rows: int) -> list[_Read]:
    return batch + [_Read(Path())] * (rows - len(batch))


def _decoded(path: Path, preparation: Preparation, size: tuple[int, int]) -> _Read:
    where = readable(path)
    try:
        image = open_picture(read_file(expanded(path)), channels=3, where=where, preparation=preparation)
        return _Read(path, preparation.resized(image, size), np.asarray(image))
    except JaxsodeError as error:
        return _Read(path, error=str(error))


def _inspected(
    batches: Iterator[list[_Read]], inspector: Inspector, workers: "Workers | None"
) -> Iterator[tuple[list[_Read], Inspected | None]]:
    """Each batch and what came of it, here or by Ray's workers; nothing of one without a picture."""
    blank = np.zeros((*inspector.detector.size, 3), np.uint8)

    def stacked(reads: list[_Read]) -> np.ndarray:
        return np.stack([blank if read.prepared is None else read.prepared for read in reads])

    if workers is None:
        for reads in batches:
            some = any(read.prepared is not None for read in reads)
            yield reads, inspector(stacked(reads)) if some else None
        return
    from jaxsode.remote import Prepared

    sent: deque[list[_Read]] = deque()

    def given() -> Iterator[Prepared]:
        for reads in batches:
            sent.append(reads)
            yield Prepared(stacked(reads))

    for maps in workers.maps(inspector.detector, given(), ignored=inspector.ignored):
        yield sent.popleft(), inspector.of_maps(maps)


def _scored(
    reads: Sequence[_Read], got: Inspected | None, inspector: Inspector
) -> Iterator[tuple[_Read, dict[str, Any], np.ndarray | None]]:
    """Each picture with its row, and its map where it has one."""
    for i, read in enumerate(reads):
        if read.prepared is None and read.error is None:
            continue  # padding
        row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"picture": readable(read.path), "error": read.error}
        if read.prepared is None or read.original is None or got is None:
            yield read, row, None
            continue
        try:
            told = inspector.told(got, i, (read.original.shape[0], read.original.shape[1]))
        except NumericalError as error:
            lost = _Read(read.path, error=f"{readable(read.path)}: {error}")
            yield lost, row | {"error": lost.error}, None
            continue
        yield read, row | told, got.maps[i]


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
    above = None if threshold is None else mask_on_original(anomaly_map, threshold, placing)
    name = rows.name(row["picture"])
    row["overlay"] = f"overlays/{name}.png"
    drawn = overlay(read.original, grown, inspector.detector.W.shape[1], above=above)
    rows.picture(row["overlay"], Image.fromarray(drawn))
    if above is not None:
        rows.picture(f"masks/{name}.png", Image.fromarray(above.astype(np.uint8) * 255))


class _Rows:
    """The results' folder: a row is in both files before the next picture is begun."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._names: set[str] = set()

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
        tried = itertools.chain([flat], (f"{flat}-{i}" for i in itertools.count(1)))
        name = next(name for name in tried if name.lower() not in self._names)
        self._names.add(name.lower())  # where case makes no difference, too
        return name

    def picture(self, name: str, image: Any) -> None:
        path = self._folder / name
        with self._writing():
            path.parent.mkdir(exist_ok=True)
            image.save(path, compress_level=3)

    def write(self, row: dict[str, Any]) -> None:
        boxes = row["regions"]
        short = row | {"regions": None if boxes is None else json.dumps(boxes)}
        with self._writing():
            self._table.writerow(["" if short[name] is None else short[name] for name in COLUMNS])
            self._lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._csv.flush()
            self._lines.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{readable(self._folder)} can't be written: {error.strerror}") from error
