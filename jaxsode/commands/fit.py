"""jaxsode fit: from a folder of good pictures to a detector with a threshold."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

import jaxsode
from jaxsode import calibration, datasets
from jaxsode.commands import loading
from jaxsode.commands.detectors import Fitted, Picture, by_name, check_new, check_ours, existing, made
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.ignoring import ignored as ignored_by
from jaxsode.commands.options import Network, Several, with_address
from jaxsode.commands.progress import Shown
from jaxsode.commands.threshold import left_out, said, write_page
from jaxsode.detector import Detector
from jaxsode.errors import ArgumentError, DataError
from jaxsode.experiment.evaluate import Experiment
from jaxsode.experiment.features import Features, free_device_memory
from jaxsode.experiment.plan import FEW, Request, complete
from jaxsode.experiment.record import Stopwatch, peak_memory
from jaxsode.home import expanded, readable
from jaxsode.method import Method

if TYPE_CHECKING:
    from jaxsode.remote import Workers


@dataclass(frozen=True)
class Fit:
    """Fit a detector on good pictures, and set its threshold from the same pictures, each left out in turn.

    Leaves a folder with the detector, its threshold, and a page, index.html, to look at.
    """

    good: Annotated[Path, tyro.conf.Positional]
    """Folder of good pictures, at any depth, or a zip of it; jaxsode inspect says what it is taken for."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the detector, which isn't there yet; with --exclude it may be one to take pictures from."""
    network: tyro.conf.OmitArgPrefixes[Network]
    several: tyro.conf.OmitArgPrefixes[Several] = field(default_factory=Several)
    false_alarm_rate: float | None = None
    """The fraction of good pictures that may be called defective; by default 0.01, or that of the detector
    from which pictures are taken out."""
    exclude: tuple[str, ...] = ()
    """Pictures to take out, named as on the page: from a detector that is there exactly, without a refit."""
    group: str | None = None
    """A regular expression that finds a picture's group in its name, such as its unit or its video: those of
    one group are left out together."""
    ignore_mask: Path | None = None
    """A picture that is white where nothing matters."""
    shard: str | None = None
    """i/n: fit every n-th picture alone, beginning with the i-th. jaxsode merge joins the n detectors."""
    size: tuple[int, int] | None = None
    """Height and width that pictures are resized to; by default a shorter side of 256 in their aspect."""
    resize: Literal["squeeze", "crop"] = "squeeze"
    """What becomes of another aspect."""
    range: Literal[255, 1023, 4095, 16383, 65535] | None = None
    """What is white in files of 16 bits; by default the least that no picture passes."""
    on_bad_picture: Literal["stop", "skip"] = "stop"
    """A picture that can't be used ends the fit, or is left out and named."""
    preset: Literal["paper", "recommended", "few"] | None = None
    """By default recommended, and few with fewer than 50 pictures; see jaxsode run --help."""
    k: int | None = None
    """Embedding size; by default 100."""
    pooling: str | None = None
    """Side of the window that features are averaged over."""
    epsilon: str | None = None
    """A number; a share of the mean variance, 5%; or auto."""
    precision: Literal["local", "shrunk"] | None = None
    """Each location's own, or shrunk towards their mean."""
    seed: int = 0
    """Of the embedding."""
    batch_size: int | None = None
    """Pictures computed at once; by default 8."""
    memory_gb: float | None = None
    """What the fitted state may take; by default a share of what is free."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode fit") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    given = with_address(arguments)
    return exit_code(lambda: fit(tyro.cli(Fit, prog=prog, args=given), console))


def fit(asked: Fit, console: Console) -> Path:
    """Do what the command does.

    Args:
        asked: what was asked for.
        console: for progress and what is said.

    Returns:
        The detector's folder.

    Raises:
        JaxsodeError: a mistake of the user's. Nothing is written then.
    """
    check_device()
    if asked.false_alarm_rate is not None:
        calibration.check_rate(asked.false_alarm_rate)
    folder = expanded(asked.output)
    if asked.exclude and folder.exists():
        return _exclude(asked, existing(folder), console)
    check_new(folder)
    shard = None if asked.shard is None else loading.shard_of(asked.shard)
    plan = complete(_request(asked))
    with Stopwatch() as stopwatch, Shown(console) as shown, asked.several.workers() as workers:
        with loading.another_backbone_named(plan):
            backbone, weights = loading.backbone(plan, shown)
        plan.check(backbone)
        with shown.task("looking") as task:
            dataset = datasets.load(
                "folder", data_dir=plan.data_dir, progress=task.reach, testing=False, **plan.settings
            )
        loading.say(dataset, console)
        good = loading.good(dataset, asked.group)
        gone = by_name(good.pictures, asked.exclude, "--exclude")
        excluded = tuple(good.pictures[place] for place in sorted(gone))
        good = good.without(gone)
        if shard is not None:
            good = good.only(range(shard[0] - 1, len(good.indices), shard[1]))
        least = 1 if shard is not None else 2
        if len(good.indices) < least:
            raise DataError(
                f"{dataset.source} has {len(good.indices)} good pictures to fit on: a threshold takes at "
                "least 2"
            )
        method = _method(asked)
        if len(good.indices) < FEW and shard is None and _by_default(asked):
            method = _method(replace(asked, preset="few"))
            console.print(
                f"{len(good.indices)} good pictures are few: taking --preset few, for fewer than {FEW}",
                style="yellow",
                markup=False,
            )
        if shard is not None and method.automatic:
            raise ArgumentError(
                "'auto' is chosen from all pictures, and a shard has its own: give --epsilon as a share, 5%"
            )
        size = plan.size or dataset.size
        mask = ignored_by(asked.ignore_mask, size, dataset.preparation)
        features = good.features(backbone, size=size, batch_size=plan.batch_size)
        memory = free_device_memory() if asked.memory_gb is None else int(asked.memory_gb * 1e9)
        experiment = Experiment(features, stopwatch, memory)
        console.print(experiment.takes_whole(method, len(good.indices)), markup=False)
        start = time.perf_counter()
        if shard is None and workers is None:
            with shown.task("features", len(good.indices)) as task:
                loading.fits_twice(features, good.indices, task.advance)
        detector = _fitted(features, good, method, size, shown, workers)
        seconds = {"fit": time.perf_counter() - start}
        fitted = Fitted(
            good.pictures,
            excluded,
            {
                "source": readable(dataset.source),
                "weights": weights,
                "options": _options(asked),
                "versions": {"jaxsode": jaxsode.__version__},
                "seconds": seconds,
                "shards": None if shard is None else [asked.shard],
            },
        )
        _write(asked, detector, good, features, fitted, mask, shown, console, workers, again=False)
    if "note" in weights:
        console.print(weights["note"], style="yellow")
    return folder


def _write(
    asked: Fit,
    detector: Detector,
    good: loading.Good,
    features: Features,
    fitted: Fitted,
    mask: Any,
    shown: Shown,
    console: Console,
    workers: "Workers | None",
    *,
    again: bool,
) -> None:
    found = None
    if asked.shard is None:
        start = time.perf_counter()
        with shown.task("leaving each out", len(good.indices)) as task:
            found = left_out(
                detector,
                good,
                features,
                rate=0.01 if asked.false_alarm_rate is None else asked.false_alarm_rate,
                ignored=mask,
                excluded=len(fitted.excluded),
                advance=task.advance,
                workers=workers,
            )
        fitted.about["seconds"]["threshold"] = time.perf_counter() - start
    fitted.about["peak_memory"] = peak_memory()["process_peak"]
    with made(existing(asked.output) if again else asked.output, again=again) as folder:
        detector.save(folder)
        fitted.write(folder)
        if found is not None:
            found.calibration.write(folder)
            write_page(folder, detector, good, features, found, fitted)
    if found is None:
        console.print(
            f"{readable(asked.output)}: part {asked.shard}, of {len(good.indices)} pictures, without a "
            "threshold: jaxsode merge joins the parts",
            markup=False,
        )
        return
    for line in said(found.calibration):
        console.print(line, markup=False)
    console.print(f"{readable(asked.output)}: look at {readable(asked.output / 'index.html')}", markup=False)


def _exclude(asked: Fit, folder: Path, console: Console) -> Path:
    """Take pictures out of a detector that is there: its moments without them, and its threshold anew."""
    _refuse_new_settings(asked)
    check_ours(folder)
    fitted = Fitted.read(folder)
    detector = Detector.load(folder)
    before, _ = calibration.read(folder)
    if asked.false_alarm_rate is None and before is not None:
        asked = replace(asked, false_alarm_rate=before.rate)
    with Shown(console) as shown:
        dataset = loading.as_detectors(detector, asked.good, shown, console=console)
        everything = loading.good(dataset)
        there = {picture.sha256: i for i, picture in enumerate(everything.pictures)}
        lacking = [picture for picture in fitted.pictures if picture.sha256 not in there]
        if lacking:
            raise DataError(
                f"{readable(asked.good)} lacks {len(lacking)} of the {len(fitted.pictures)} pictures that "
                f"the detector was fitted on, {readable(lacking[0].name)} for one: give their folder"
            )
        good = everything.only([there[picture.sha256] for picture in fitted.pictures])
        good = replace(good, pictures=fitted.pictures)
        gone = by_name(fitted.pictures, asked.exclude, "--exclude")
        if len(good.indices) - len(gone) < 2:
            raise ArgumentError("--exclude leaves fewer than 2 pictures: leave more in")
        mask = ignored_by(asked.ignore_mask, detector.size, detector.preparation)
        if mask is None and before is not None:
            mask = before.ignored
        out, rest = good.only(sorted(gone)), good.without(gone)
        batch = asked.batch_size or 8
        taken = out.features(detector.backbone, size=detector.size, batch_size=batch)
        detector = detector.remove(taken.pictures(out.indices))
        features = rest.features(detector.backbone, size=detector.size, batch_size=batch)
        excluded: tuple[Picture, ...] = (*fitted.excluded, *out.pictures)
        record = Fitted(rest.pictures, excluded, fitted.about)
        with asked.several.workers() as workers:
            _write(asked, detector, rest, features, record, mask, shown, console, workers, again=True)
    return folder


def _fitted(
    features: Features,
    good: loading.Good,
    method: Method,
    size: tuple[int, int],
    shown: Shown,
    workers: "Workers | None",
) -> Detector:
    N = len(good.indices)
    if workers is not None:
        from jaxsode.remote import CHUNK, Chunks

        parts = [good.indices[i : i + CHUNK] for i in range(0, N, CHUNK)]
        chunks = Chunks(good.dataset, parts, size=size, batch_size=features.batch_size)
        options = {"size": size, "pictures": N}
        with shown.task("fitting", N) as task:
            fitted = workers.fit(chunks, features.backbone, method, progress=task.advance, **options)
        return replace(fitted, preparation=good.dataset.preparation)

    def counted(task: Any) -> Any:
        for maps, valid in features.batches(good.indices):
            yield maps, valid
            task.advance(valid)

    with shown.task("fitting", N) as task:
        fitted = Detector.fit_features(counted(task), features.backbone, method, size=size, pictures=N)
    return replace(fitted, preparation=good.dataset.preparation)


def _method(asked: Fit) -> Method:
    (method,) = complete(_request(asked)).methods
    assert isinstance(method, Method)
    return method


def _request(asked: Fit) -> Request:
    return Request(
        dataset="folder",
        data_dir=asked.good,
        size=asked.size,
        resize=asked.resize,
        range=asked.range,
        on_bad_picture=asked.on_bad_picture,
        preset=asked.preset,
        batch_size=asked.batch_size,
        k=None if asked.k is None else (asked.k,),
        pooling=None if asked.pooling is None else (asked.pooling,),
        epsilon=None if asked.epsilon is None else (asked.epsilon,),
        precision=None if asked.precision is None else (asked.precision,),
        seed=(asked.seed,),
        **vars(asked.network),
    )


_SETTINGS = ("preset", "pooling", "epsilon", "precision")


def _by_default(asked: Fit) -> bool:
    return all(getattr(asked, name) is None for name in _SETTINGS)


def _options(asked: Fit) -> dict[str, Any]:
    left = ("good", "output", "network", "several", "exclude")
    own = {name: value for name, value in (vars(asked) | vars(asked.network)).items() if name not in left}
    return {name: readable(value) if isinstance(value, Path) else value for name, value in own.items()}


def _refuse_new_settings(asked: Fit) -> None:
    """An exclusion changes no setting of a detector that is there."""
    plain = Fit(asked.good, asked.output, Network())
    kept = ("exclude", "false_alarm_rate", "ignore_mask", "batch_size", "memory_gb", "several")
    for name, value in vars(plain).items():
        if name not in kept and getattr(asked, name) != value:
            option = "a network" if name == "network" else f"--{name.replace('_', '-')}"
            raise ArgumentError(
                f"{readable(asked.output)} exists, and --exclude takes pictures out of it as it is: leave "
                f"{option} away, or choose another --output"
            )
