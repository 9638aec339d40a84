"""From pictures in memory to anomaly maps in memory: rate by batch, latency, by stage, and peak memory."""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench import ours, path
from bench.harness import Contender, Deadline, TooSlow, race, rest
from bench.record import Result
from bench.setting import IMPLEMENTATIONS, RUNTIMES, Implementation, Setting

FITTED = 16  # pictures behind the models that score
EVERY = (*IMPLEMENTATIONS, *RUNTIMES)


def add_options(parser: argparse.ArgumentParser) -> None:
    path.add_options(parser, names=EVERY)
    parser.add_argument("--batch", type=int, nargs="+", default=(1, 8, 64, 2, 4, 16, 32))
    parser.add_argument(
        "--pooling", type=int, nargs="+", default=(1,), help="3 is recommended; peers that have it"
    )
    parser.add_argument("--stream", type=int, default=2, help="batches in a row, of which the mean is taken")
    parser.add_argument("--latency", type=int, default=50, help="single pictures for the percentiles")


def quick(options: argparse.Namespace) -> None:
    path.quick(options)
    options.batch, options.latency = (1, 2), 5


def run(options: argparse.Namespace, result: Result) -> None:
    deadline = Deadline(options.minutes)
    names = path.available(options.only, result, names=EVERY)
    path.decoding(result, quick=options.quick)
    # Every implementation's model is there at once, and the last one's fit on top; a runtime's twice, as its
    # constants and as they are packed, and once more for the stage that takes them.
    for setting in path.within(
        options, deadline, result, states=5 + 3 * sum(name in RUNTIMES for name in names)
    ):
        with path.exact():
            _one(setting, names, options, deadline, result)


def _one(
    setting: Setting, names: list[str], options: argparse.Namespace, deadline: Deadline, result: Result
) -> None:
    parts = ours.parts(setting, weights=options.weights)
    every = path.shown(max(FITTED, *options.batch), setting, options)
    fitted = path.batched(every[:FITTED], 4)
    found = path.built(names, setting, parts, result)
    models: dict[str, Any] = {}
    found = path.agree(found, setting, fitted, result, models=models)
    models |= {name: one.fit(fitted) for name, one in found.items() if name not in models}
    latencies = latency(found, models, every[:1], options.latency)
    for batch in options.batch:
        what = f"batch {batch}, {setting}"
        if deadline.over:
            result.leave_out(what, f"the {options.minutes:g} minutes were over")
            continue
        stream = [every[:batch]] * options.stream
        contenders = [_contender(name, one, models[name], stream) for name, one in found.items()]
        try:
            whole = race(contenders, rounds=options.rounds, limit_s=deadline.limit_s())
        except TooSlow as error:
            result.leave_out(what, error)
            continue
        own = {name: one.score_stages(models[name], every[:batch]) for name, one in found.items()}
        stages, cores = path.stage_seconds(own, found, options.rounds)
        del own
        # The process that exports is not the one that scores.
        measured = [] if options.no_memory else [name for name in found if not name.startswith("ours,")]
        peaks = path.peaks(
            "score",
            measured,
            setting,
            parts,
            result,
            pictures=2 * batch,
            batch=batch,
            gigabytes=options.memory_gb,
        )
        for name, timing in whole.items():
            result.row(
                **setting.fields(),
                implementation=name,
                batch=batch,
                pictures_per_s=batch * options.stream / timing.median,
                **(latencies[name] if batch == 1 else {}),
                **peaks.get(name, {}),
                stages_s=stages[name],
                stages_cores=cores[name],
                timing=timing.record(scale=1 / options.stream),
            )
        path.ratios(result, f"score, {what}", whole)


def latency(
    found: Mapping[str, Implementation], models: Mapping[str, Any], picture: np.ndarray, times: int
) -> dict[str, dict[str, float]]:
    """Percentiles of the seconds from one picture in memory to its map in memory, in turns.

    Args:
        found: implementations by name.
        models: of each.
        picture: (1, height, width, 3).
        times: how often; two more warm up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(times + 2):
        for name, one in found.items():
            rest()
            start = time.perf_counter()
            one.fetch(one.score(models[name], picture))
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {f"latency_p{p}_s": float(np.percentile(taken[2:], p)) for p in (50, 90, 99)}
        for name, taken in seconds.items()
    }


def _contender(name: str, one: Implementation, model: Any, stream: Sequence[np.ndarray]) -> Contender:
    """All batches are begun before the first map is fetched: what overlaps, overlaps."""

    def call() -> list[np.ndarray]:
        return [one.fetch(maps) for maps in [one.score(model, pictures) for pictures in stream]]

    return Contender(name, call, lambda maps: maps)
