"""jaxsode run: fit on a data set's good pictures, score its test pictures, report."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

import jaxsode
from jaxsode import datasets, pictures, report
from jaxsode.commands import loading
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.options import Data, Machine, Methods, Network, Output
from jaxsode.commands.progress import Shown
from jaxsode.datasets.understood import named
from jaxsode.errors import ArgumentError
from jaxsode.experiment.evaluate import Experiment
from jaxsode.experiment.features import Features, free_device_memory
from jaxsode.experiment.padding import narrowed
from jaxsode.experiment.plan import FEW, Plan, Request, check_choice, check_positive, complete
from jaxsode.experiment.record import Stopwatch, environment, peak_memory
from jaxsode.home import expanded, readable
from jaxsode.method import Method
from jaxsode.metrics.pixels import LEAST_MEMORY
from jaxsode.peers import Peer, Student
from jaxsode.preparation import Placing


@dataclass(frozen=True)
class Run:
    """Anomaly segmentation by semi-orthogonal embedding: fit on good pictures, score the test pictures.

    Without arguments: the generated demo data, offline. What is not given comes from the data set's own
    configuration. Several values of --k, --embedding, --precision or --seed run in one go on features
    extracted once, each into a folder of its own.
    """

    data: tyro.conf.OmitArgPrefixes[Data]
    network: tyro.conf.OmitArgPrefixes[Network]
    methods: tyro.conf.OmitArgPrefixes[Methods]
    machine: tyro.conf.OmitArgPrefixes[Machine]
    output: tyro.conf.OmitArgPrefixes[Output]

    def request(self) -> Request:
        """What was asked of the computation."""
        data = {name: value for name, value in vars(self.data).items() if name != "download"}
        machine = {name: getattr(self.machine, name) for name in ("batch_size", "workers")}
        return Request(**data, **vars(self.network), **vars(self.methods), **machine)


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode run") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    return exit_code(
        lambda: run(
            tyro.cli(Run, prog=prog, args=arguments), Console(stderr=True, highlight=False, soft_wrap=True)
        )
    )


def run(asked: Run, console: Console) -> Path:
    """Do what the command does.

    Args:
        asked: what was asked for.
        console: for progress and the table.

    Returns:
        The folder with the results.

    Raises:
        JaxsodeError: a mistake of the user's. No results are written then; splits that were finished before
            are kept, see `report.Output`.
    """
    check_device()
    plan = complete(asked.request())
    memory_gb = asked.machine.memory_gb
    metric_memory = asked.machine.metric_memory
    check_positive("memory-gb", memory_gb)
    check_positive("metric-memory", metric_memory)
    if metric_memory is not None and metric_memory * 1e9 < LEAST_MEMORY:
        raise ArgumentError(f"--metric-memory {metric_memory} is too little: give at least 0.017, in GB")
    check_choice("colours", asked.output.colours, report.COLOUR_MAPS)
    with (
        Stopwatch() as stopwatch,
        Shown(console) as shown,
        report.Output(_folder(asked.output, plan), resume=asked.output.resume) as output,
    ):
        drawn = {n: getattr(asked.output, n) for n in ("maps", "map_size", "colours", "save_detector")}
        output.same(jaxsode=jaxsode.__version__, **plan.page(), **drawn)
        backbone, weights = loading.backbone(plan, shown)
        plan.check(backbone)
        dataset = _dataset(plan, shown, console, download=asked.data.download)
        splits = [dataset.split(name) for name in plan.splits(dataset)]
        size = plan.size or dataset.size
        fitted = sorted({index for split in splits for index in split.train})
        dataset = narrowed(dataset, fitted, size=size, workers=plan.workers)
        for note in dataset.notes:
            console.print(note, style="yellow", markup=False)
        listed = repr((dataset.examples, splits, dataset.fingerprint)).encode("utf-8", "surrogateescape")
        output.same(weights_sha256=weights.get("sha256"), pictures=hashlib.sha256(listed).hexdigest()[:16])
        features = Features(
            backbone,
            dataset,
            size=size,
            batch_size=plan.batch_size,
            workers=plan.workers,
        )
        memory = free_device_memory() if memory_gb is None else int(memory_gb * 1e9)
        experiment = Experiment(
            features,
            stopwatch,
            memory,
            metric_memory=None if metric_memory is None else int(metric_memory * 1e9),
            picture_score=plan.picture_score,
        )
        pictures = plan.fit_on or max(len(split.train) for split in splits)
        taken = [experiment.takes(method, pictures) for method in plan.methods]
        plan.check_neighbours(min(plan.fit_on or len(split.train) for split in splits))
        for line in dict.fromkeys(taken):
            console.print(line, markup=False)
        if plan.dataset == "folder" and pictures < FEW and asked.methods.by_default:
            console.print(
                f"{pictures} good pictures are few: --preset few was better with fewer than {FEW}",
                style="yellow",
                markup=False,
            )
        whole = _Whole(asked.output, plan, experiment, weights, output, shown)
        summaries = whole.run(splits)
        if len(plan.methods) > 1:
            notes = list(map(readable, dataset.notes))
            page = {"schema": report.SCHEMA, "notes": notes, "methods": summaries}
            report.write_json(output.path / "summary.json", page)
            report.write(output.path / "summary.csv", report.as_csv(summaries))
            listed = "".join(f"- {note}\n" for note in notes)
            report.write(output.path / "summary.md", f"{report.as_markdown(summaries)}\n{listed}")
    _print(console, plan, summaries, weights)
    console.print(output.name, markup=False)
    return output.folder


def _folder(asked: Output, plan: Plan) -> Path:
    """Where the results go."""
    if asked.output is not None:
        return expanded(asked.output)
    if asked.resume:
        raise ArgumentError("--resume goes on with a folder that has a name: give its --output")
    return Path("runs") / f"{plan.dataset}-{datetime.now():%Y%m%d-%H%M%S}"


def _dataset(plan: Plan, shown: Shown, console: Console, *, download: bool) -> datasets.Dataset:
    """The data set, downloaded if that was asked for, prepared the first time."""
    if download:
        if plan.data_dir is not None:
            raise ArgumentError("--download gets the data set into the cache: leave --data-dir out")
        console.print(datasets.announcement(plan.dataset), markup=False)
        with shown.task(f"downloading {plan.dataset}, bytes") as task:
            datasets.fetch(plan.dataset, progress=task.reach)
    with shown.task(f"preparing {plan.dataset}") as task:
        dataset = datasets.load(plan.dataset, data_dir=plan.data_dir, progress=task.reach, **plan.settings)
    preparation = dataclasses.replace(dataset.preparation, **plan.preparation)
    return dataclasses.replace(dataset, preparation=preparation)


@dataclass(frozen=True)
class _Whole:
    """All methods on all splits; what an earlier run finished is not done again."""

    asked: Output
    plan: Plan
    experiment: Experiment
    weights: dict[str, str]
    output: report.Output
    shown: Shown

    def run(self, splits: Sequence[datasets.Split]) -> list[dict[str, Any]]:
        """Each method's setting, folds, mean and deviation; its metrics.json grows with every split."""
        pages = {method: self._page(method) for method in self.plan.methods}
        done = {method: {fold["fold"] for fold in page["folds"]} for method, page in pages.items()}
        left = [
            (self.plan.drawn(split, method), method)
            for method in done
            for split in splits
            if split.name not in done[method]
        ]
        kept = self._prepare(left)
        machine = environment() if left else {}
        dataset = self.experiment.features.dataset
        about = {
            "name": dataset.name,
            "licence": dataset.licence,
            "notes": list(map(readable, dataset.notes)),
            "skipped": {readable(name): readable(why) for name, why in dataset.skipped.items()},
            "preparation": dataset.preparation.page(),
        }
        for split, method in left:
            page, stopwatch = pages[method], self.experiment.stopwatch
            page["folds"].append(self._split(split, method))
            page["timing"]["folds"][split.name] = stopwatch.take()
            page |= report.summarise(page["folds"])
            page |= {"config": self.plan.recorded(method), "weights": self.weights, "dataset": about}
            page["timing"] |= _timing(page, stopwatch.seconds["extract_s"], kept)
            page |= {"memory": peak_memory(), "environment": machine}
            into = self._into(method)
            self.output.keep(into / "maps" / split.name, into / "detector" / split.name)
            report.write_json(self.output.path / into / "metrics.json", page)
            self.shown.say(f"{method} · fold {split.name} · finished")
        return [{n: page[n] for n in ("setting", "folds", "mean", "std")} for page in pages.values()]

    def _into(self, method: Method | Peer) -> Path:
        return Path() if len(self.plan.methods) == 1 else Path(str(method))

    def _page(self, method: Method | Peer) -> dict[str, Any]:
        """What metrics.json holds already."""
        known = report.read_json(self.output.path / self._into(method) / "metrics.json")
        return known or {
            "schema": report.SCHEMA,
            "setting": method.page(),
            "folds": [],
            "mean": {},
            "std": {},
            "timing": {"folds": {}},
        }

    def _prepare(self, runs: Sequence[tuple[datasets.Split, Method | Peer]]) -> int:
        """How many pictures' features are kept."""
        used = {index for split, _ in runs for index in (*split.train, *split.test)}
        with self.shown.task("features", len(used)) as task, self.experiment.stopwatch("extract_s"):
            return self.experiment.prepare(runs, progress=task.advance)

    def _split(self, split: datasets.Split, method: Method | Peer) -> dict[str, Any]:
        """Fit, score and evaluate; the maps and the detector go into `output.now`; gives the metrics."""
        folder = self.output.now / self._into(method)
        dataset = self.experiment.features.dataset
        names = _files(dataset, (*split.test, *split.left_out))

        @contextmanager
        def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
            with self.shown.task(f"{method} · fold {split.name} · {what}", total) as task:
                yield task.advance

        def draw(
            index: int,
            picture: np.ndarray,
            anomaly_map: np.ndarray,
            mask: np.ndarray | None,
            placing: Placing,
        ) -> None:
            if self.asked.maps == "all" or mask is not None:
                if self.asked.map_size == "original":
                    anomaly_map = dataset.preparation.restored(anomaly_map, placing.original)
                    picture = dataset.picture(index, size=placing.original)
                    mask = None if mask is None else dataset.mask(index, size=placing.original)
                else:
                    anomaly_map = placing.masked(anomaly_map)
                panel = report.panel(picture, anomaly_map, mask, colours=self.asked.colours)
                report.write_panel(folder / "maps" / split.name / names[index], panel)

        if isinstance(method, Student):
            method = self._student(method, split)
        scores = self.experiment.run(
            split,
            method,
            bar=bar,
            # Heat maps have the distances' scale, which other methods' scores don't share.
            draw=draw if self.asked.maps != "none" and isinstance(method, Method) else None,
            save=folder / "detector" / split.name if self.asked.save_detector else None,
        )
        numbers = {"train": len(split.train), "test": len(split.test), "left_out": len(split.left_out)}
        return {"fold": split.name} | numbers | scores

    def _student(self, student: Student, split: datasets.Split) -> Student:
        """With checkpoints, from which a resumed run goes on, and what its teacher learns from."""
        size = self.experiment.features.size
        folder = self.plan.distill_on
        return dataclasses.replace(
            student,
            checkpoints=self.output.path / self._into(student) / "training" / split.name,
            distill_on=None if folder is None else pictures.batches(folder, size=size, batch_size=1),
        )


_LONGEST = 200  # bytes of a heat map's name, of the 255 that a file's may have


def _files(dataset: datasets.Dataset, indices: Sequence[int]) -> dict[int, str]:
    """A heat map's file for each picture, no two alike; of a name too long for a file its end."""
    flat = {index: dataset.examples[index].name.replace("/", "-") for index in indices}
    times = Counter(flat.values())

    def file(index: int) -> str:
        name = flat[index].encode("utf-8", "surrogateescape")
        if len(name) > _LONGEST:
            name = name[-_LONGEST:].decode("utf-8", "ignore").encode()
        elif times[flat[index]] == 1:
            return os.fsdecode(name + b".png")  # in bytes that a file's name can have, whatever the locale
        return os.fsdecode(name + f"-{index}.png".encode())

    return {index: file(index) for index in indices}


def _chosen(choice: Mapping[str, Any]) -> str:
    """What the likelihood chose, in a line."""
    epsilon, alpha = choice["epsilon"], choice["shrinkage"]
    share = f"{float(epsilon[:-1]):.3g}% of the mean variance" if isinstance(epsilon, str) else f"{epsilon:g}"
    said = f"ε = {share}" + ("" if alpha is None else f", α = {alpha:.3g}") + ", by leave-one-out likelihood"
    return said if choice["note"] is None else f"{said}; {choice['note']}"


def _timing(page: Mapping[str, Any], extract_s: float, extracted: int) -> dict[str, float | None]:
    """Seconds, and the pictures scored a second: each one's features and its map. In blocks, fitting and
    scoring have one time together, and no such rate."""
    folds = list(page["timing"]["folds"].values())
    seconds = {name: sum(fold[name] for fold in folds) for name in folds[0]}
    each = seconds["score_s"] / sum(fold["test"] + fold["left_out"] for fold in page["folds"])
    each += extract_s / extracted if extracted else 0
    rate = None if seconds["blocks_s"] else 1 / each
    return {**seconds, "extract_s": extract_s, "pictures_per_s": rate}


def _print(
    console: Console, plan: Plan, summaries: Sequence[dict[str, Any]], weights: dict[str, str]
) -> None:
    """One row a fold, or one row a method where there are several."""
    if len(summaries) == 1:
        only = summaries[0]
        rows = [(f"fold {fold['fold']}", report.flatten(fold)) for fold in only["folds"]]
        if len(rows) > 1:
            rows += [("mean", report.flatten(only["mean"])), ("± std", report.flatten(only["std"]))]
        title = f"{plan.dataset} · {plan.backbone} · {plan.methods[0]}"
    else:
        pairs = zip(plan.methods, summaries, strict=True)
        rows = [(str(method), report.flatten(summary["mean"])) for method, summary in pairs]
        title = f"{plan.dataset} · {plan.backbone} · mean over folds"
    console.print(report.table(title, rows))
    for method, summary in zip(plan.methods, summaries, strict=True):
        for fold in summary["folds"]:
            # Of a sweep only what is out of the ordinary: its records have the rest.
            if "choice" in fold and (len(summaries) == 1 or fold["choice"]["note"]):
                line = f"{method} · fold {fold['fold']} · {_chosen(fold['choice'])}"
                console.print(line, style="yellow" if fold["choice"]["note"] else None, markup=False)
        if hidden := list(
            dict.fromkeys(name for fold in summary["folds"] for name in fold.get("hidden", ()))
        ):
            console.print(
                f"{method} · {len(hidden)} defective pictures show nothing of their defect at this size, in "
                f"what is judged, and count as defective for the picture's ROC: {readable(named(hidden))}",
                style="yellow",
                markup=False,
            )
        bounds = [report.flatten(fold["error_bound"]) for fold in summary["folds"] if "error_bound" in fold]
        if far := [value for bound in bounds for value in bound.values() if value is not None]:
            console.print(
                f"{method} · not exact, for want of --metric-memory: at most {max(far):.1e} off", markup=False
            )
    if "note" in weights:
        console.print(weights["note"], style="yellow")
