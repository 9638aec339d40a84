"""python -m jaxsode.run: fit on a data set's good pictures, score its test pictures, report."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from jaxsode import backbones, datasets, report
from jaxsode.backbones.weights import find, shapes
from jaxsode.blocks import state_bytes
from jaxsode.config import Config, Setting, recorded, settings, with_defaults
from jaxsode.errors import ArgumentError, JaxsodeError
from jaxsode.experiment import Experiment, Fold
from jaxsode.features import Features, free_device_memory
from jaxsode.measure import Stopwatch, environment, peak_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 for a mistake of the user's."""
    config = tyro.cli(Config, prog="python -m jaxsode.run", args=arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        run(config, console)
    except JaxsodeError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted: nothing was written")
        return 130
    return 0


def run(config: Config, console: Console) -> Path:
    """Do what the command does.

    Args:
        config: what was asked for.
        console: for progress and the table.

    Returns:
        The folder with the results.

    Raises:
        JaxsodeError: a mistake of the user's; nothing is written then.
    """
    config = with_defaults(config)
    output = config.output
    assert output is not None
    report.check_output(output)
    stopwatch = Stopwatch()
    backbone, weights = _backbone(config, console)
    sweep = settings(config, sum(backbone.channels))
    dataset = datasets.load(config.dataset, data_dir=config.data_dir)
    size = config.size or dataset.size
    assert config.batch_size is not None
    assert config.epsilon is not None
    assert config.sigma is not None
    features = Features(backbone, dataset, size=size, batch_size=config.batch_size, workers=config.workers)
    experiment = Experiment(features, stopwatch, config.epsilon, config.sigma, _state_memory(config))
    _check_savable(config, experiment, sweep)
    summaries = []
    with _progress(console) as progress, report.whole_folder(output) as folder:
        folds = [experiment.fold(name) for name in _fold_names(config, dataset)]
        uses = [index for fold in folds for index in (*fold.train, *fold.test)]
        task = progress.add_task("features", total=len(set(uses)))
        with stopwatch("extract_s"):
            kept = features.prepare(uses * len(sweep), progress=lambda n: progress.advance(task, n))
        progress.update(task, visible=False)
        for setting in sweep:
            into = folder if len(sweep) == 1 else folder / str(setting)
            scored = [_run_fold(config, experiment, fold, setting, into, progress) for fold in folds]
            summary = {"setting": vars(setting), "folds": scored} | report.summarise(scored)
            summaries.append(summary)
            result = summary | {
                "config": recorded(config),
                "weights": weights,
                "timing": _timing(stopwatch, scored, kept),
                "memory": peak_memory(),
                "environment": environment(),
            }
            report.write_json(into / "metrics.json", result)
        if len(sweep) > 1:
            report.write_json(folder / "summary.json", summaries)
    _print(console, config, summaries, weights)
    console.print(str(output), markup=False)
    return output


def _backbone(config: Config, console: Console) -> tuple[backbones.Backbone, dict[str, str]]:
    """The backbone, and where its weights are from."""
    assert config.backbone is not None
    backbone = backbones.create(config.backbone, layers=config.layers, dtype=jnp.dtype(config.dtype))
    if config.weights == "random":
        return backbone, {"source": "random", "note": "random weights: the numbers mean nothing"}
    with _progress(console) as progress:
        task = progress.add_task("weights", total=None, visible=False)

        def downloaded(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        found = find(config.backbone, weights=config.weights, leaves=shapes(backbone), progress=downloaded)
    backbone = backbones.with_parameters(backbone, found.tensors)
    return backbone, {"source": found.source, "sha256": found.sha256}


def _fold_names(config: Config, dataset: datasets.Dataset) -> tuple[str, ...]:
    if config.fold == ("all",):
        return tuple(dataset.splits)
    for name in config.fold:
        if name not in dataset.splits:
            raise ArgumentError(
                f"--fold {name} is unknown to {dataset.name}: choose {', '.join(dataset.splits)} or all"
            )
    return tuple(dict.fromkeys(config.fold))


def _state_memory(config: Config) -> int:
    return free_device_memory() if config.memory_gb is None else int(config.memory_gb * 1e9)


def _check_savable(config: Config, experiment: Experiment, sweep: Sequence[Setting]) -> None:
    """A detector that is fitted in blocks never exists as a whole: say so before anything is computed."""
    blocked = [setting for setting in sweep if experiment.rows(setting.k) < experiment.features.grid()[0]]
    if blocked and config.save_detector:
        state = state_bytes(experiment.features.grid(), blocked[-1].k) / 1e9
        raise ArgumentError(
            f"a detector of k = {blocked[-1].k} takes {state:.3g} GB, more than the "
            f"{_state_memory(config) / 1e9:.3g} GB for it: give --no-save-detector to do without one, "
            "block by block, or more --memory-gb"
        )


def _run_fold(
    config: Config,
    experiment: Experiment,
    fold: Fold,
    setting: Setting,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Fit, score and evaluate; write the fold's maps and detector into the folder; return its metrics."""

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
        task = progress.add_task(f"{setting} · fold {fold.name} · {what}", total=total)
        try:
            yield lambda pictures: progress.advance(task, pictures)
        finally:
            progress.remove_task(task)

    maps, detector = experiment.maps(fold, setting, bar)
    scores = experiment.evaluate(fold, maps)
    _draw(config, experiment.features.dataset, fold, maps, folder / "maps" / fold.name)
    if config.save_detector and detector is not None:
        detector.save(folder / "detector" / fold.name)
    return {"fold": fold.name, "train": len(fold.train), "test": len(fold.test)} | dict(scores)


def _draw(config: Config, dataset: datasets.Dataset, fold: Fold, maps: np.ndarray, folder: Path) -> None:
    """A panel for each test picture that was asked for."""
    for row, index in enumerate(fold.test):
        defective = bool(fold.defective[row])
        if config.maps == "all" or (config.maps == "defective" and defective):
            mask = fold.masks[row] if defective else None
            panel = report.panel(fold.pictures[row], maps[row], mask, colours=config.colours)
            report.write_panel(folder / f"{dataset.examples[index].name.replace('/', '-')}.png", panel)


def _timing(stopwatch: Stopwatch, folds: Sequence[dict[str, Any]], extracted: int) -> dict[str, float | None]:
    """Seconds, and the pictures scored a second: each one's features and its map. In blocks, fitting and
    scoring have one time together, and no such rate."""
    seconds = stopwatch.take()
    each = seconds["score_s"] / sum(fold["test"] for fold in folds)
    each += seconds["extract_s"] / extracted if extracted else 0
    return seconds | {"pictures_per_s": None if seconds["blocks_s"] else 1 / each}


def _print(
    console: Console, config: Config, summaries: Sequence[dict[str, Any]], weights: dict[str, str]
) -> None:
    if len(summaries) == 1:
        (only,) = summaries
        rows = [(f"fold {fold['fold']}", report.flatten(fold)) for fold in only["folds"]]
        if len(rows) > 1:
            rows += [("mean", only["mean"]), ("± std", only["std"])]
        title = f"{config.dataset} · {config.backbone} · {Setting(**only['setting'])}"
    else:
        rows = [(str(Setting(**s["setting"])), s["mean"]) for s in summaries]
        title = f"{config.dataset} · {config.backbone} · mean over folds"
    console.print(report.table(title, rows))
    if "note" in weights:
        console.print(weights["note"], style="yellow")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class _Rate(ProgressColumn):
    """Pictures per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="cyan")


if __name__ == "__main__":
    sys.exit(main())
