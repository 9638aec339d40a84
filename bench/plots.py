"""python -m bench.plots FILE…: a plot of each suite's JSON beside it, and nothing that is not in the JSON."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib  # pyright: ignore[reportMissingImports]
from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports]
from matplotlib.axes import Axes  # pyright: ignore[reportMissingImports]
from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
from matplotlib.rcsetup import cycler  # pyright: ignore[reportMissingImports]

from bench.table import heading, read

matplotlib.use("svg")

Content = Mapping[str, Any]
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Red is ours.
    "axes.prop_cycle": cycler(
        "color", ["#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#17becf", "#7f7f7f", "#bcbd22"]
    ),
    "svg.hashsalt": "bench",
}
OURS = {"color": "tab:red", "linewidth": 2.2, "zorder": 3}


def plot(path: Path) -> Path:
    """The SVG of a result's file, beside it."""
    content = read(path)
    with plt.rc_context(STYLE):
        figure: Figure = PLOTS[content["suite"]](content)
        figure.suptitle(heading(content), fontsize=9)
        made = path.with_suffix(".svg")
        figure.savefig(made, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return made


def main(paths: Sequence[str]) -> int:
    """Plot these files."""
    for path in paths:
        print(plot(Path(path)))
    return 0


def _inverse(content: Content) -> Figure:
    figure, axes = _axes(1)
    figure.set_figwidth(8.4)
    rows = content["rows"]
    for name in _names(rows, "method"):
        own = [row for row in rows if row["method"] == name]
        points = sorted((row["k"], row["grid_s"]) for row in own)
        half = "half" in own[0]["gives"]
        label = f"{name} (L alone)" if half else name
        line = {"linestyle": ":"} if half else {}
        axes[0].plot(*zip(*points, strict=True), label=label, **line, **_style(name))
    paper = content["derived"]["paper"]
    points = [(int(key.removeprefix("k")), value) for key, value in paper["seconds"].items()]
    label = f"the paper: {paper['method']}, {paper['device']}"
    axes[0].scatter(*zip(*points, strict=True), label=label, color="black", marker="*", s=60, zorder=4)
    _log_log(axes[0], "k", "seconds for the grid")
    axes[0].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _fit(content: Content) -> Figure:
    return _stages(content, "fit_s", "seconds", lambda row: row["pictures"])


def _score(content: Content) -> Figure:
    """Rates by batch of the first setting; its stages at the largest batch that was measured."""
    figure, axes = _axes(2)
    rows = _first_setting(content["rows"])
    for name in _names(rows, "implementation"):
        points = sorted(
            (row["batch"], row["pictures_per_s"]) for row in rows if row["implementation"] == name
        )
        axes[0].plot(*zip(*points, strict=True), label=name, **_style(name))
    axes[0].set_xscale("log", base=2)
    axes[0].xaxis.set_major_formatter("{x:g}")
    axes[0].set_xlabel("batch")
    axes[0].set_ylabel("pictures a second")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    largest = max((row["batch"] for row in rows), default=0)
    _stacked(axes[1], [row for row in rows if row["batch"] == largest], lambda row, stage: 1e3)
    axes[1].set_ylabel(f"ms a picture, batch {largest}")
    return figure


def _stages(content: Content, total: str, unit: str, pictures: Callable[[Any], int]) -> Figure:
    figure, axes = _axes(2)
    rows = _first_setting(content["rows"])
    _stacked(axes[0], rows, lambda row, stage: 1 if "factorisation" in stage else pictures(row))
    axes[0].scatter(
        range(len(rows)), [row[total] for row in rows], color="black", marker="_", s=400, label="whole"
    )
    axes[0].set_ylabel(unit)
    axes[0].legend(frameon=False, loc="upper left")
    peaks = [(row["implementation"], row["peak_bytes"] / 1e9) for row in rows if "peak_bytes" in row]
    if peaks:
        axes[1].bar(*zip(*peaks, strict=True), color="tab:gray", width=0.5)
    axes[1].set_ylabel("peak memory, GB")
    return figure


def _study(content: Content) -> Figure:
    figure, axes = _axes(2)
    rows = content["derived"]["summary"]
    for name in _names(rows, "embedding"):
        these = sorted((row for row in rows if row["embedding"] == name), key=lambda row: row["k"])
        ks = [row["k"] for row in these]
        label, style = name, _style(name, ours="semi-orthogonal")
        axes[0].plot(ks, [row["fit_and_score_s"] for row in these], label=label, **style)
        known = [row for row in these if row.get("pixel_auroc.paper") is not None]
        axes[1].errorbar(
            [row["k"] for row in known],
            [row["pixel_auroc.paper"] for row in known],
            yerr=[row.get("pixel_auroc.paper.std") or 0 for row in known],
            capsize=3,
            label=label,
            **style,
        )
    _log_log(axes[0], "k", "fit and score of a fold, s, after the CNN")
    axes[0].xaxis.set_major_formatter("{x:g}")
    axes[1].set_xscale("log")
    axes[1].xaxis.set_major_formatter("{x:g}")
    axes[1].set_xlabel("k")
    axes[1].set_ylabel("pixel ROC, as the paper averages")
    axes[1].legend(frameon=False)
    return figure


def _memory(content: Content) -> Figure:
    figure, axes = _axes(2)
    rows = [row for row in content["rows"] if row["task"] == "fit"]
    by_number = [row for row in rows if row["batch"] > 1]
    for name in _names(rows, "implementation"):
        own = [row for row in by_number if row["implementation"] == name]
        axes[0].plot(*_points(own, lambda row: row["pictures"]), label=name, **_style(name))
        own = [row for row in rows if row["batch"] == 1 and row["implementation"] == name]
        axes[1].plot(*_points(own, lambda row: row["size"][0] * row["size"][1]), label=name, **_style(name))
    blocks = [row for row in content["rows"] if row["task"] == "blocks"]
    if blocks:
        points = _points(blocks, lambda row: row["size"][0] * row["size"][1])
        axes[1].plot(*points, label="ours, in blocks: fit and score", linestyle=":", **_style("ours"))
    _log_log(axes[0], "pictures fitted on", "peak memory, GB")
    _log_log(axes[1], "pixels of a picture", "peak memory, GB")
    return figure


def _scaling(content: Content) -> Figure:
    figure, axes = _axes(1)
    rows = [row for row in content["rows"] if row["mesh"][0] == 1]
    points = sorted((row["devices"], row["state_bytes_per_device"] / 1e9) for row in rows)
    axes[0].plot(*zip(*points, strict=True), label="state of a device", **_style("ours"))
    _log_log(axes[0], "devices", "GB")
    return figure


def _metrics(content: Content) -> Figure:
    figure, axes = _axes(2)
    for axis, metric in zip(axes, _names(content["rows"], "metric"), strict=False):
        rows = [row for row in content["rows"] if row["metric"] == metric]
        axis.barh([row["implementation"] for row in rows], [row["seconds"] for row in rows], color="tab:gray")
        axis.set_xlabel(f"{metric}, seconds for {rows[0]['scores']:,} scores")
    return figure


def _backbones(content: Content) -> Figure:
    figure, axes = _axes(1)
    for row in content["rows"]:
        axes[0].scatter(row["gflop"], row["pictures_per_s"], label=row["backbone"])
    _log_log(axes[0], "GFLOP a picture", f"pictures a second, batch {content['options']['batch']}")
    return figure


def _axes(number: int) -> tuple[Figure, list[Axes]]:
    figure, axes = plt.subplots(1, number, figsize=(5.2 * number, 4.2), squeeze=False, layout="constrained")
    return figure, list(axes[0])


def _names(rows: Iterable[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))


def _style(name: str, *, ours: str = "ours") -> dict[str, Any]:
    return {"marker": "o", "markersize": 4} | (OURS if name == ours else {})


def _points(rows: Iterable[Mapping[str, Any]], x: Callable[[Any], float]) -> tuple[list[float], list[float]]:
    ordered = sorted((x(row), row["peak_bytes"] / 1e9) for row in rows)
    return [a for a, _ in ordered], [b for _, b in ordered]


def _first_setting(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    keys = ("backbone", "size", "k")
    keys = (*keys, "pooling")  # which older results don't have
    return [row for row in rows if all(row.get(key) == rows[0].get(key) for key in keys)]


def _stacked(axis: Axes, rows: Sequence[Mapping[str, Any]], scale: Callable[[Any, str], float]) -> None:
    """A bar of stages for each implementation."""
    stages = dict.fromkeys(stage for row in rows for stage in row["stages_s"])
    bottom = [0.0] * len(rows)
    for stage in stages:
        heights = [row["stages_s"].get(stage, 0.0) * scale(row, stage) for row in rows]
        axis.bar(range(len(rows)), heights, bottom=bottom, width=0.5, label=stage)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axis.set_xticks(range(len(rows)), [row["implementation"] for row in rows])
    axis.legend(frameon=False, loc="upper left")


def _log_log(axis: Axes, x: str, y: str) -> None:
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.legend(frameon=False, fontsize=8)


def _start(content: Content) -> Figure:
    figure, axes = _axes(1)
    rows = content["rows"]
    names = [f"{row['saved']},\n{row['programs']}" for row in rows]
    left = [0.0] * len(rows)
    for step in ("import_s", "load_s", "map_s"):
        seconds = [row[step] for row in rows]
        axes[0].barh(names, seconds, left=left, label=step.removesuffix("_s"))
        left = [a + b for a, b in zip(left, seconds, strict=True)]
    axes[0].set_xlabel("s from a process's start to its first map")
    axes[0].legend()
    return figure


PLOTS: dict[str, Callable[[Content], Figure]] = {
    "inverse": _inverse,
    "fit": _fit,
    "score": _score,
    "start": _start,
    "study": _study,
    "memory": _memory,
    "scaling": _scaling,
    "metrics": _metrics,
    "backbones": _backbones,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
