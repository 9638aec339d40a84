"""From pictures in memory to a fitted detector: whole, by stage, and at which peak of memory."""

import argparse

import numpy as np

from bench import ours, path
from bench.harness import Contender, Deadline, TooSlow, race
from bench.record import Result
from bench.setting import Implementation, Setting


def add_options(parser: argparse.ArgumentParser) -> None:
    path.add_options(parser)
    parser.add_argument("--pictures", type=int, default=64, help="that are fitted on")
    parser.add_argument("--batch", type=int, default=8, help="pictures at once")


def quick(options: argparse.Namespace) -> None:
    path.quick(options)
    options.pictures, options.batch = 6, 2


def run(options: argparse.Namespace, result: Result) -> None:
    deadline = Deadline(options.minutes)
    names = path.available(options.only, result)
    path.decoding(result, quick=options.quick)
    # A peer holds scatter, covariance and inverse at once; ours two of them.
    for setting in path.within(options, deadline, result, states=3):
        try:
            with path.exact():
                _one(setting, names, options, deadline, result)
        except TooSlow as error:
            result.leave_out(str(setting), error)


def _one(
    setting: Setting, names: list[str], options: argparse.Namespace, deadline: Deadline, result: Result
) -> None:
    parts = ours.parts(setting, weights=options.weights)
    batches = path.batched(path.shown(options.pictures, setting, options), options.batch)
    found = path.built(names, setting, parts, result)
    found = path.agree(found, setting, batches, result)
    whole = race(
        [_contender(name, one, batches) for name, one in found.items()],
        rounds=options.rounds,
        limit_s=deadline.limit_s(),
    )
    stages, cores = path.stage_seconds(
        {name: one.fit_stages(batches) for name, one in found.items()}, found, options.rounds
    )
    measured = [] if options.no_memory else list(found)
    n = sum(map(len, batches))
    peaks = path.peaks(
        "fit",
        measured,
        setting,
        parts,
        result,
        pictures=n,
        batch=options.batch,
        gigabytes=options.memory_gb,
    )
    for name, timing in whole.items():
        result.row(
            **setting.fields(),
            implementation=name,
            pictures=n,
            batch=options.batch,
            fit_s=timing.median,
            pictures_per_s=n / timing.median,
            **peaks.get(name, {}),
            stages_s=stages[name],
            stages_cores=cores[name],
            timing=timing.record(),
        )
    path.ratios(result, f"fit, {setting}", whole)


def _contender(name: str, one: Implementation, batches: list[np.ndarray]) -> Contender:
    return Contender(name, lambda: one.fit(batches), one.wait)
