"""Time and ROC against k for each embedding, on a data set whose features are extracted once."""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.harness import Deadline
from bench.record import Result

EMBEDDINGS = ("semi-orthogonal", "sampled", "gaussian")
VALUES = ("pixel_auroc.pooled", "pixel_auroc.paper", "pro.pooled", "pro.paper", "image_auroc")
TIMES = ("fit_s", "score_s_per_picture", "fit_and_score_s")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="demo", help="a data set's name")
    parser.add_argument("--data-dir", type=Path, help="where the data set lies; the demo needs none")
    parser.add_argument("--fold", nargs="+", default=("all",))
    parser.add_argument("--size", type=int, nargs=2, help="by default the data set's")
    parser.add_argument("--backbone", help="by default the data set's")
    parser.add_argument("--weights", type=Path, help="file of the backbone's")
    parser.add_argument("--random", action="store_true", help="random weights: the ROC then means nothing")
    parser.add_argument("--k", type=int, nargs="+", default=(100, 50, 200, 10, 20, 448))
    parser.add_argument("--embedding", nargs="+", default=EMBEDDINGS, choices=EMBEDDINGS)
    parser.add_argument("--seed", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument(
        "--memory-gb", type=float, default=4.0, help="for the state of fitting; blocks of rows beyond it"
    )


def quick(options: argparse.Namespace) -> None:
    options.k, options.seed, options.size, options.random = (4, 8), (0,), (64, 64), True
    options.embedding = ("semi-orthogonal", "sampled")
    options.fold = ("object",) if options.dataset == "demo" else ("1",)


def run(options: argparse.Namespace, result: Result) -> None:
    deadline = Deadline(options.minutes)
    # What these need goes beyond JAX, Flax and SciPy; no other suite needs it.
    missing = [name for name in ("PIL", "psutil", "tensorflow_datasets", "tyro") if not _importable(name)]
    if missing:
        raise BenchError(f"study reads a data set and needs {', '.join(missing)}: install the package")
    from bench.trial import Trial

    trial = Trial(options)
    every = itertools.product(options.k, options.seed, options.embedding, trial.folds)
    warm: set[tuple[str, int]] = set()
    for k, seed, embedding, fold in every:
        what = f"{embedding}, k = {k}, seed {seed}, fold {fold}"
        if k > trial.features:
            result.leave_out(what, f"the backbone has {trial.features} features")
        elif deadline.left_s <= 0:
            result.leave_out(what, f"the {options.minutes:g} minutes were over")
        else:
            if (embedding, k) not in warm:
                trial.warm_up(embedding, k)
                warm.add((embedding, k))
            measured = trial.measure(embedding, k, seed, fold)
            result.row(embedding=embedding, k=k, seed=seed, fold=fold, **measured)
    result.derived |= trial.described()
    result.derived["summary"] = summary(result.rows)


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By embedding and k: median times; metrics averaged over folds, then mean and deviation over seeds."""
    made = []
    for embedding, k in dict.fromkeys((row["embedding"], row["k"]) for row in rows):
        these = [row for row in rows if (row["embedding"], row["k"]) == (embedding, k)]
        found: dict[str, Any] = {"embedding": embedding, "k": k, "runs": len(these)}
        for name in TIMES:
            taken = [row[name] for row in these]
            if None not in taken:  # blocks are fitted and scored in one go
                found[name] = float(np.median(taken))
                found[f"{name}.quartiles"] = np.percentile(taken, (25, 75)).tolist()
        for name in VALUES:
            if all(row[name] is not None for row in these):
                by_seed = {row["seed"]: [] for row in these}
                for row in these:
                    by_seed[row["seed"]].append(row[name])
                means = [np.mean(values) for values in by_seed.values()]
                found[name] = float(np.mean(means))
                found[f"{name}.std"] = float(np.std(means, ddof=1)) if len(means) > 1 else None
        made.append(found)
    return made


def _importable(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None
