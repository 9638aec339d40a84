"""Peak memory against the number of pictures, and against their size; each point in a process of its own."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench import ours, path
from bench.harness import Deadline
from bench.record import Result
from bench.setting import IMPLEMENTATIONS, Setting


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=tuple(IMPLEMENTATIONS), help="implementations")
    parser.add_argument("--pictures", type=int, nargs="+", default=(8, 16, 32, 64, 128, 256), help="N")
    parser.add_argument("--at", type=path.size, default=(256, 256), metavar="HxW", help="size for these")
    parser.add_argument(
        "--size",
        type=path.size,
        nargs="+",
        default=((256, 256), (512, 512), (1024, 1024), (2048, 2048), (4096, 4096)),
        metavar="HxW",
    )
    parser.add_argument("--of", type=int, default=8, help="pictures of each of these sizes, one at a time")
    parser.add_argument("--state-gb", type=float, default=4.0, help="for the state of a block of locations")
    parser.add_argument("--memory-gb", type=float, default=16.0, help="a process may hold; it fails beyond")


def quick(options: argparse.Namespace) -> None:
    options.state_gb = 1e-4
    options.k, options.pictures, options.at, options.size, options.of = 8, (2, 4), (64, 64), ((64, 96),), 2


def run(options: argparse.Namespace, result: Result) -> None:
    deadline = Deadline(options.minutes)
    points = [("fit", options.at, n, min(8, n)) for n in options.pictures]
    points += [(task, size, options.of, 1) for size in options.size for task in ("fit", "score", "blocks")]
    names = path.available(options.only, result)
    for task, size, pictures, batch in points:
        setting = Setting(options.backbone, size, options.k)
        if deadline.left_s <= 0:
            what = f"{task}, {pictures} pictures, {setting}"
            result.leave_out(what, f"the {options.minutes:g} minutes were over")
            continue
        peaks = path.peaks(
            task,
            names if task != "blocks" else [name for name in names if name == path.OURS],
            setting,
            ours.parts(setting),
            result,
            pictures=pictures,
            batch=batch,
            gigabytes=options.memory_gb,
            state_gb=options.state_gb,
        )
        for name, found in peaks.items():
            result.row(
                task=task, **setting.fields(), implementation=name, pictures=pictures, batch=batch, **found
            )
    result.derived["MB more for each picture fitted on"] = growth(result.rows, list(options.at))


def growth(rows: Sequence[dict[str, Any]], size: list[int]) -> dict[str, float]:
    """By implementation: the slope of the peak over N, in MB a picture."""
    slopes = {}
    for name in dict.fromkeys(row["implementation"] for row in rows):
        own = [
            row
            for row in rows
            if (row["implementation"], row["task"], row["size"]) == (name, "fit", size) and row["batch"] > 1
        ]
        if len(own) > 1:
            peaks = [row["peak_bytes"] / 1e6 for row in own]
            slopes[name] = float(np.polyfit([row["pictures"] for row in own], peaks, 1)[0])
    return slopes
