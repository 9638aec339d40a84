"""What `fit`, `score` and `memory` share: options, settings in their order, implementations that agree."""

import argparse
import contextlib
import io
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bench import child, ours, pictures
from bench.errors import BenchError
from bench.harness import Contender, Deadline, Timing, check, race, relative_error
from bench.record import Result
from bench.setting import IMPLEMENTATIONS, ON_REQUEST, PLACES, Implementation, Parts, Setting, Stage, build

TOLERANCE = 5e-3  # of an anomaly map, float32 on both sides
OURS = "ours"


def add_options(parser: argparse.ArgumentParser, *, names: Iterable[str] = IMPLEMENTATIONS) -> None:
    """Settings: all combinations, the last option changing fastest.

    Args:
        parser: of the suite.
        names: of what may compete in it.
    """
    parser.add_argument("--backbone", nargs="+", default=("resnet18", "wide_resnet50_2"))
    parser.add_argument("--k", type=int, nargs="+", default=(100, 50, 300))
    parser.add_argument("--size", type=size, nargs="+", default=((704, 256), (256, 256)), metavar="HxW")
    parser.add_argument("--only", nargs="+", choices=(*names, *ON_REQUEST), help="implementations")
    parser.set_defaults(pooling=(1,))
    parser.add_argument("--weights", type=Path, help="file of the backbone's; random ones by default")
    parser.add_argument("--data-dir", type=Path, help="KolektorSDD; generated pictures by default")
    parser.add_argument("--memory-gb", type=float, default=16.0, help="settings beyond it are left out")
    parser.add_argument("--no-memory", action="store_true", help="don't measure peaks")


def quick(options: argparse.Namespace) -> None:
    """Tiny sizes."""
    options.backbone, options.k, options.size = ("resnet18",), (8,), ((64, 96),)


def size(text: str) -> tuple[int, int]:
    """704x256 → (704, 256)."""
    height, width = text.lower().split("x")
    return int(height), int(width)


def settings(options: argparse.Namespace) -> list[Setting]:
    """What was asked for, in the order in which it is measured."""
    every = itertools.product(options.backbone, options.k, options.pooling, options.size)
    return [Setting(backbone, size, k, pooling) for backbone, k, pooling, size in every]


def within(
    options: argparse.Namespace, deadline: Deadline, result: Result, *, states: int
) -> Iterator[Setting]:
    """The settings that memory and time allow; of the others it is said why they are left out.

    Args:
        options, deadline, result: of the suite.
        states: how many of H·W·k² numbers are held at once.
    """
    for setting in settings(options):
        if states * state_bytes(setting) > 1e9 * options.memory_gb:
            result.leave_out(str(setting), f"it takes more than {options.memory_gb:g} GB")
        elif deadline.over:
            result.leave_out(str(setting), f"the {options.minutes:g} minutes were over")
        else:
            yield setting


def state_bytes(setting: Setting) -> int:
    """H·W·k² float32 numbers: the statistics of one model."""
    H, width = (-(-side // 4) for side in setting.size)
    return 4 * H * width * setting.k**2


def available(
    only: Sequence[str] | None, result: Result, *, names: Iterable[str] = IMPLEMENTATIONS
) -> list[str]:
    """The implementations asked for whose libraries are there and work; of the others it is said once.

    Args:
        only: what was asked for; None is `names`.
        result: of the suite.
        names: see `add_options`.
    """
    modules = {name: place.partition(":")[0] for name, place in PLACES.items()}
    return [name for name in only or names if result.optional(modules[name], name) is not None]


def built(names: Iterable[str], setting: Setting, parts: Parts, result: Result) -> dict[str, Implementation]:
    """Those of them that can have the setting; of the others it is said why they can't."""
    found: dict[str, Implementation] = {}
    for name in names:
        try:
            found[name] = build(name, setting, parts)
        except BenchError as refusal:
            result.leave_out(f"{name}, {setting}", refusal)
    return found


def shown(count: int, setting: Setting, options: argparse.Namespace) -> np.ndarray:
    """(count, height, width, 3) uint8."""
    if options.data_dir is None:
        return pictures.generated(count, setting.size)
    return pictures.of_kolektor(count, setting.size, options.data_dir)


def batched(every: np.ndarray, rows: int) -> list[np.ndarray]:
    """Batches of as many pictures each; what is left over is dropped."""
    return [every[start : start + rows] for start in range(0, len(every) - rows + 1, rows)]


def agree(
    found: Mapping[str, Implementation],
    setting: Setting,
    batches: Sequence[np.ndarray],
    result: Result,
    *,
    models: dict[str, Any] | None = None,
) -> dict[str, Implementation]:
    """Those whose anomaly maps are ours, once ours is set to compute what they compute.

    Fitted on all batches and compared on the first two pictures of the last one. What was fitted goes into
    `models`, if that is given.
    """
    reference = found.get(OURS)
    if not isinstance(reference, ours.Ours):
        return dict(found)
    n, some = sum(map(len, batches)), batches[-1][:2]
    agreeing: dict[str, Implementation] = {}
    for name, one in found.items():
        if one is reference:
            agreeing[name] = one
            continue
        same = one.equivalent
        fitted = one.fit(batches)
        theirs = one.fetch(one.score(fitted, some))
        mine = reference.fit(batches, epsilon=same.epsilon(n), W=same.W)
        expected = reference.fetch(reference.score(mine, some)) * same.scale(n)
        del mine
        inner = slice(same.margin, -same.margin or None)
        error = relative_error(theirs[:, inner, inner], expected[:, inner, inner])
        try:
            result.agreed(f"{name}, {setting}", check(name, error, TOLERANCE), TOLERANCE)
            agreeing[name] = one
            if models is not None:
                models[name] = fitted
        except BenchError as disagreement:
            result.leave_out(f"{name}, {setting}", disagreement)
        del fitted  # before the next one takes as much
    return agreeing


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """No TF32 meanwhile, in JAX or in PyTorch."""
    try:
        import torch
    except ImportError:
        torch = None
    allowed = None
    if torch is not None:
        allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with jax.default_matmul_precision("highest"):
            yield
    finally:
        if torch is not None and allowed is not None:
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = allowed


def stage_seconds(
    stages: Mapping[str, Mapping[str, Stage]], found: Mapping[str, Implementation], rounds: int
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Of each stage by implementation: seconds, a picture's, or in all where it is done once; and how many
    cores worked.

    Args:
        stages: by implementation and stage; each stage is raced among those that have it.
        found: the implementations.
        rounds: see `bench.harness.race`.
    """
    seconds: dict[str, dict[str, float]] = {name: {} for name in stages}
    cores: dict[str, dict[str, float]] = {name: {} for name in stages}
    for stage in dict.fromkeys(itertools.chain.from_iterable(stages.values())):
        having = {name: own[stage] for name, own in stages.items() if stage in own}
        contenders = [
            Contender(name, own.call, found[name].wait, own.prepare) for name, own in having.items()
        ]
        for name, timing in race(contenders, rounds=rounds).items():
            seconds[name][stage] = timing.median / (having[name].pictures or 1)
            cores[name][stage] = timing.cores
    return seconds, cores


def ratios(result: Result, what: str, timings: Mapping[str, Timing]) -> None:
    """How many times faster ours is than each peer."""
    if OURS in timings and len(timings) > 1:
        mine = timings[OURS].median
        faster = {name: t.median / mine for name, t in timings.items() if name != OURS}
        result.derived.setdefault("ours is faster by", {})[what] = faster


def peaks(
    task: str, names: Sequence[str], setting: Setting, parts: Parts, result: Result, **arguments: Any
) -> dict[str, dict[str, Any]]:
    """Peak memory of each implementation, in a process of its own; see `bench.child.peak`."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parts.npz"
        parts.save(file)
        for name in names:
            try:
                found[name] = child.measure(
                    "peak",
                    task=task,
                    implementation=name,
                    backbone=setting.backbone,
                    size=setting.size,
                    k=setting.k,
                    pooling=setting.pooling,
                    parts=str(file),
                    **arguments,
                )
            except child.ChildFailed as error:
                result.leave_out(f"peak of {name}, {task}, {setting}", error)
    return found


def decoding(result: Result, *, quick: bool) -> None:
    """Seconds to decode and resize one picture, the same for all that follow; by one thread of ours.

    It is no part of what the implementations are timed for: they start from pictures in memory.
    """
    decode = result.optional("jaxsode.datasets.decode", "decode")
    if decode is None:
        return
    from PIL import Image

    source, target = ((80, 40), (64, 32)) if quick else ((1257, 500), (704, 256))
    file = io.BytesIO()
    Image.fromarray(pictures.generated(1, source)[0, :, :, 0]).save(file, "jpeg", quality=90)
    encoded = file.getvalue()

    def call() -> np.ndarray:
        return decode.decode_picture(encoded, size=target, channels=1, where="a generated picture")

    timing = race([Contender("decode", call, lambda picture: picture)], least_s=0.02)["decode"]
    what = (
        f"decode, s a picture, grey JPEG, {source[0]} × {source[1]} → {target[0]} × {target[1]}, one thread"
    )
    result.derived[what] = timing.median
