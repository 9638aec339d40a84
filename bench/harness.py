"""Honest timing: agreement first; compilation apart; then rounds in which every contender takes its turn."""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from bench.errors import BenchError
from jaxsode.experiment.record import Stopwatch

ROUNDS = 5
PAUSE = 0.02
"""Seconds between two contenders, at least, see `rest`."""
PATIENCE = 1.0
"""Seconds in which a library's threads come to rest, at most."""
LONG = 5.0
"""Seconds of a call that needs no second one to be warm."""

_compiled = Stopwatch()


class Disagreement(BenchError):
    """A contender computes something else, so its time means nothing."""


class TooSlow(BenchError):
    """The rounds would take longer than the time that is left."""


@dataclass(frozen=True)
class Contender:
    """Something to be timed.

    Attributes:
        name: in tables and plots.
        call: what is timed.
        wait: blocks until the result of `call` is there.
        prepare: called before each `call`, untimed; its results are the arguments. For work that consumes
            its input.
    """

    name: str
    call: Callable[..., Any]
    wait: Callable[[Any], Any] = jax.block_until_ready
    prepare: Callable[[], tuple[Any, ...]] | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds of one call.

    Attributes:
        first_s: of the first call, compilation included.
        compile_s: of it, what XLA compiled; 0 for libraries that don't.
        seconds: of each round; where a call is short, the mean over `calls` of them.
        calls: in a round.
        cores: how many of them worked, in the median: the process's CPU time over the seconds.
    """

    first_s: float
    compile_s: float
    seconds: tuple[float, ...]
    calls: int = 1
    cores: float = math.nan

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.seconds))

    def record(self, *, scale: float = 1.0) -> dict[str, Any]:
        """For the JSON: median, quartiles and extremes, times `scale`."""
        low, high = np.percentile(self.seconds, (25, 75))
        return {
            "median_s": self.median * scale,
            "quartiles_s": [float(low) * scale, float(high) * scale],
            "range_s": [min(self.seconds) * scale, max(self.seconds) * scale],
            "rounds": len(self.seconds),
            "calls_a_round": self.calls,
            "cores": None if math.isnan(self.cores) else self.cores,
            "first_s": self.first_s,
            "compile_s": self.compile_s,
        }


@dataclass
class Deadline:
    """The time that a suite may take. Its first setting is measured however long it takes."""

    minutes: float
    start: float = field(default_factory=time.perf_counter)
    first: bool = True

    @property
    def left_s(self) -> float:
        """Seconds; below 0 once it has passed."""
        return self.start + 60 * self.minutes - time.perf_counter()

    @property
    def over(self) -> bool:
        """Whether nothing new may be begun."""
        return not self.first and self.left_s <= 0

    def limit_s(self) -> float:
        """Seconds for the next measurement."""
        if self.first:
            self.first = False
            return math.inf
        return self.left_s


def relative_error(value: Any, reference: Any) -> float:
    """max |value − reference| / max |reference|; infinite where a number is not finite or shapes differ."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if value.shape != reference.shape or not (np.isfinite(value).all() and np.isfinite(reference).all()):
        return math.inf
    return float(np.max(np.abs(value - reference)) / np.max(np.abs(reference)))


def check(name: str, error: float, tolerance: float) -> float:
    """The error, once it is found to be within the tolerance.

    Raises:
        Disagreement: it is not.
    """
    if not error <= tolerance:
        raise Disagreement(f"{name} is off by {error:.1e}, more than {tolerance:.0e}: it is not timed")
    return error


def race(
    contenders: Sequence[Contender],
    *,
    rounds: int = ROUNDS,
    least_s: float = 0.0,
    limit_s: float = math.inf,
    pause_s: float = PAUSE,
) -> Mapping[str, Timing]:
    """Time contenders against each other: whatever disturbs the machine meanwhile disturbs all of them.

    Each is called once, timed apart, and once more to warm up unless the first call was a long one; then in
    every round each takes its turn, and the one that begins moves on by one from round to round.

    Args:
        contenders: of different names.
        rounds: at least `ROUNDS`.
        least_s: calls shorter than this are repeated within a round until they add up to it.
        limit_s: what all rounds together may take.
        pause_s: between two turns, at least; see `rest`.

    Returns:
        Timings by name.

    Raises:
        TooSlow: the rounds would take longer than the limit.
        BenchError: fewer rounds than `ROUNDS`, two contenders of one name, something was compiled while it
            was timed, or threads that don't come to rest.
    """
    if rounds < ROUNDS:
        raise BenchError(f"{rounds} rounds have no spread: give at least {ROUNDS}")
    if len({contender.name for contender in contenders}) < len(contenders):
        raise BenchError("two contenders have the same name")
    warm = {contender.name: warm_up(contender) for contender in contenders}
    calls = {name: max(1, min(1000, math.ceil(least_s / w.warm_s))) for name, w in warm.items()}
    expected = rounds * sum(calls[name] * w.warm_s for name, w in warm.items())
    if expected > limit_s:
        raise TooSlow(f"{rounds} rounds would take about {expected:.0f} s, {max(limit_s, 0):.0f} s are left")
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    cores: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds):
        shift = turn % len(contenders)
        for contender in (*contenders[shift:], *contenders[:shift]):
            rest(pause_s)
            before = _compiled.seconds["compile_s"]
            wall, cpu = _timed(contender, calls[contender.name])
            seconds[contender.name].append(wall)
            cores[contender.name].append(cpu / wall)
            if _compiled.seconds["compile_s"] > before:
                raise BenchError(f"{contender.name} was compiled anew while it was timed")
    return {
        name: Timing(
            warm[name].first_s, warm[name].compile_s, tuple(taken), calls[name], float(np.median(cores[name]))
        )
        for name, taken in seconds.items()
    }


def rest(pause_s: float = PAUSE) -> None:
    """Sleep until the process's threads sleep too.

    A library's threads go on spinning for a while after its work is done, in case there is more: ONNX
    Runtime's for 50 ms here, on a core that the next contender would miss.

    Args:
        pause_s: at least; 0 sleeps not at all.

    Raises:
        BenchError: they are busy for longer than `PATIENCE`.
    """
    if pause_s == 0:
        return
    end = time.perf_counter() + PATIENCE
    while True:
        start, cpu = time.perf_counter(), time.process_time()
        time.sleep(pause_s)
        if time.process_time() - cpu < 0.1 * (time.perf_counter() - start):
            return
        if time.perf_counter() > end:
            raise BenchError(
                "threads of what ran last don't come to rest: the next turn would be measured wrong"
            )


@dataclass(frozen=True)
class WarmUp:
    """Seconds of the first call, what XLA compiled of them, and of a call after it."""

    first_s: float
    compile_s: float
    warm_s: float


def warm_up(contender: Contender) -> WarmUp:
    """Call it once, and once more unless the first call was a long one."""
    before = _compiled.seconds["compile_s"]
    first_s, _ = _timed(contender, 1)
    compile_s = _compiled.seconds["compile_s"] - before
    long = first_s - compile_s > LONG
    return WarmUp(first_s, compile_s, first_s - compile_s if long else _timed(contender, 1)[0])


def _timed(contender: Contender, calls: int) -> tuple[float, float]:
    """Seconds of one call, and of all cores together, the means of so many; garbage is collected before, not
    meanwhile."""
    gc.collect(1)  # what earlier calls left behind is young still; all that the libraries made is not
    collecting = gc.isenabled()
    gc.disable()
    try:
        if contender.prepare is not None:
            each = [_prepared(contender, contender.prepare()) for _ in range(calls)]
            wall, cpu = (sum(taken) / calls for taken in zip(*each, strict=True))
            return wall, cpu
        result = None
        start, began = time.perf_counter(), time.process_time()
        for _ in range(calls):
            result = contender.call()
        contender.wait(result)
        return (time.perf_counter() - start) / calls, (time.process_time() - began) / calls
    finally:
        if collecting:
            gc.enable()


def _prepared(contender: Contender, arguments: tuple[Any, ...]) -> tuple[float, float]:
    start, began = time.perf_counter(), time.process_time()
    contender.wait(contender.call(*arguments))
    return time.perf_counter() - start, time.process_time() - began
