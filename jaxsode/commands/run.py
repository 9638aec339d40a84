"""jaxsode run: fit on a data set's good pictures, score its test pictures, report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress

from jaxsode import backbones, datasets, report
from jaxsode.backbones.weights import find, shapes
from jaxsode.commands.options import Data, Machine, Methods, Network, Output
from jaxsode.commands.progress import bars
from jaxsode.errors import JaxsodeError
from jaxsode.experiment.evaluate import Experiment
from jaxsode.experiment.features import Features, free_device_memory
from jaxsode.experiment.plan import Plan, Request, check_positive, complete
from jaxsode.experiment.record import Stopwatch, environment, peak_memory
from jaxsode.method import Method


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
        machine = {name: value for name, value in vars(self.machine).items() if name != "memory_gb"}
        return Request(**vars(self.data), **vars(self.network), **vars(self.methods), **machine)


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode run") -> int:
    """Run the command; returns its exit code: 0, or 2 for a mistake of the user's."""
    asked = tyro.cli(Run, prog=prog, args=arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        run(asked, console)
    except JaxsodeError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: nothing was written")
        return 130
    return 0


def run(asked: Run, console: Console) -> Path:
    """Do what the command does.

    Args:
        asked: what was asked for.
        console: for progress and the table.

    Returns:
        The folder with the results.

    Raises:
        JaxsodeError: a mistake of the user's; nothing is written then.
    """
    plan = complete(asked.request())
    memory_gb = asked.machine.memory_gb
    check_positive("memory-gb", memory_gb)
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    output = asked.output.output or Path("runs") / f"{plan.dataset}-{now}"
    report.check_output(output)
    stopwatch = Stopwatch()
    backbone, weights = _backbone(plan, console)
    plan.check_k(sum(backbone.channels))
    dataset = _dataset(plan, console)
    features = Features(
        backbone,
        dataset,
        size=plan.size or dataset.size,
        batch_size=plan.batch_size,
        workers=plan.workers,
    )
    memory = free_device_memory() if memory_gb is None else int(memory_gb * 1e9)
    experiment = Experiment(features, stopwatch, memory)
    splits = [dataset.split(name) for name in plan.splits(dataset)]
    for method in plan.methods:
        for split in splits:
            experiment.rows(method, len(split.train))  # refuses what can't be done, before anything is
    summaries = []
    with bars(console) as progress, report.whole_folder(output) as folder:
        uses = [index for split in splits for index in (*split.train, *split.test)]
        tested = [index for split in splits for index in split.test]
        task = progress.add_task("features", total=len(set(uses)))
        with stopwatch("extract_s"):
            kept = features.prepare(
                uses * len(plan.methods), tested=tested, progress=lambda n: progress.advance(task, n)
            )
        progress.update(task, visible=False)
        for method in plan.methods:
            into = folder if len(plan.methods) == 1 else folder / str(method)
            scored = [_split(asked.output, experiment, split, method, into, progress) for split in splits]
            summary = {"setting": method.page(), "folds": scored} | report.summarise(scored)
            summaries.append(summary)
            result = summary | {
                "config": plan.recorded(method),
                "weights": weights,
                "timing": _timing(stopwatch, scored, kept),
                "memory": peak_memory(),
                "environment": environment(),
            }
            report.write_json(into / "metrics.json", result)
        if len(plan.methods) > 1:
            report.write_json(folder / "summary.json", summaries)
    _print(console, plan, summaries, weights)
    console.print(str(output), markup=False)
    return output


def _backbone(plan: Plan, console: Console) -> tuple[backbones.Backbone, dict[str, str]]:
    """The backbone, and where its weights are from."""
    backbone = backbones.create(plan.backbone, layers=plan.layers, dtype=jnp.dtype(plan.dtype))
    if plan.weights == "random":
        return backbone, {"source": "random", "note": "random weights: the numbers mean nothing"}
    with bars(console) as progress:
        task = progress.add_task("weights", total=None, visible=False)

        def downloaded(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        found = find(plan.backbone, weights=plan.weights, leaves=shapes(backbone), progress=downloaded)
    backbone = backbones.with_parameters(backbone, found.tensors)
    return backbone, {"source": found.source, "sha256": found.sha256}


def _dataset(plan: Plan, console: Console) -> datasets.Dataset:
    """The data set, prepared the first time."""
    with bars(console) as progress:
        task = progress.add_task(f"preparing {plan.dataset}", total=None, visible=False)

        def prepared(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        return datasets.load(plan.dataset, data_dir=plan.data_dir, progress=prepared)


def _split(
    asked: Output,
    experiment: Experiment,
    split: datasets.Split,
    method: Method,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Fit, score and evaluate; write the split's maps and detector into the folder; return its metrics."""

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
        task = progress.add_task(f"{method} · fold {split.name} · {what}", total=total)
        try:
            yield lambda pictures: progress.advance(task, pictures)
        finally:
            progress.remove_task(task)

    examples = experiment.features.dataset.examples

    def draw(index: int, picture: np.ndarray, anomaly_map: np.ndarray, mask: np.ndarray | None) -> None:
        if asked.maps == "all" or mask is not None:
            panel = report.panel(picture, anomaly_map, mask, colours=asked.colours)
            name = examples[index].name.replace("/", "-")
            report.write_panel(folder / "maps" / split.name / f"{name}.png", panel)

    scores = experiment.run(
        split,
        method,
        bar=bar,
        draw=None if asked.maps == "none" else draw,
        save=folder / "detector" / split.name if asked.save_detector else None,
    )
    return {"fold": split.name, "train": len(split.train), "test": len(split.test)} | scores


def _timing(stopwatch: Stopwatch, folds: Sequence[dict[str, Any]], extracted: int) -> dict[str, float | None]:
    """Seconds, and the pictures scored a second: each one's features and its map. In blocks, fitting and
    scoring have one time together, and no such rate."""
    seconds = stopwatch.take()
    each = seconds["score_s"] / sum(fold["test"] for fold in folds)
    each += seconds["extract_s"] / extracted if extracted else 0
    return seconds | {"pictures_per_s": None if seconds["blocks_s"] else 1 / each}


def _print(
    console: Console, plan: Plan, summaries: Sequence[dict[str, Any]], weights: dict[str, str]
) -> None:
    """One row a fold, or one row a method where there are several."""
    if len(summaries) == 1:
        only = summaries[0]
        rows = [(f"fold {fold['fold']}", report.flatten(fold)) for fold in only["folds"]]
        if len(rows) > 1:
            rows += [("mean", only["mean"]), ("± std", only["std"])]
        title = f"{plan.dataset} · {plan.backbone} · {plan.methods[0]}"
    else:
        named = zip(plan.methods, summaries, strict=True)
        rows = [(str(method), summary["mean"]) for method, summary in named]
        title = f"{plan.dataset} · {plan.backbone} · mean over folds"
    console.print(report.table(title, rows))
    if "note" in weights:
        console.print(weights["note"], style="yellow")
