"""Does what was written give what the detector gives? Asked of the files, before they get their name."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsode.calibration import Calibration
from jaxsode.errors import ArgumentError, NumericalError
from jaxsode.inspection import Inspector

TOLERANCE = 1e-4
"""Of the map's maximum, the most that an export's map and score may differ."""

BATCHES = (1, 5)

Judging = Callable[[np.ndarray], Mapping[str, Any]]
"""pictures (N, height, width, 3) uint8 → what `Judgement` has and isn't None, by name."""


@dataclass(frozen=True)
class Difference:
    """The largest of all pictures that were compared.

    Attributes:
        map: the largest difference of a map's pixel, of the map's maximum.
        decisions: how many decisions differ, of those whose score is further than TOLERANCE, of the map's
            maximum, from the threshold; and how many, of all, aren't what the export's own score, p-value
            and map say.
        pictures: how many were compared.
    """

    map: float
    decisions: int
    pictures: int


def pictures(size: tuple[int, int], count: int, *, seed: int) -> np.ndarray:
    """Pictures to compare by: from flat over smooth to noise, in all shades.

    Args:
        size: (height, width).
        count: N.
        seed: of them.

    Returns:
        (N, height, width, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    rows, columns = (np.linspace(-1, 1, n) for n in size)
    slopes = rng.uniform(-60, 60, (count, 2, 1, 1, 3))
    smooth = slopes[:, 0] * rows[:, None, None] + slopes[:, 1] * columns[:, None]
    noise = rng.normal(0, 1, (count, *size, 3)) * rng.uniform(0, 50, (count, 1, 1, 1))
    return np.clip(rng.uniform(40, 215, (count, 1, 1, 3)) + smooth + noise, 0, 255).astype(np.uint8)


def compared(judging: Judging, inspector: Inspector, batches: Iterable[np.ndarray]) -> Difference:
    """Compare an export with the detector in memory.

    Args:
        judging: the export.
        inspector: the detector, its threshold and what is ignored.
        batches: of pictures, (N, height, width, 3) uint8.

    Returns:
        The largest difference; infinite where one has no number and the other has, or a score is none.
    """
    largest, decisions, count = 0.0, 0, 0
    for batch in batches:
        got, wanted = {name: np.asarray(x) for name, x in judging(batch).items()}, inspector(batch)
        count += len(batch)
        finite = np.isfinite(got["map"])
        if not np.array_equal(finite, np.isfinite(wanted.maps)) or not np.isfinite(got["score"]).all():
            return Difference(float("inf"), decisions, count)
        top = np.maximum(wanted.scores, np.finfo(np.float32).tiny)
        apart = np.nanmax(np.abs(got["map"] - wanted.maps), axis=(1, 2)) / top
        apart = np.maximum(apart, np.abs(got["score"] - wanted.scores) / top)
        largest = max(largest, float(apart.max()))
        if inspector.calibration is not None and wanted.defective is not None:
            far = np.abs(wanted.scores - inspector.calibration.threshold) > TOLERANCE * top
            wrong = (got["defective"] != wanted.defective) & far
            decisions += int((wrong | _contradicts(got, inspector.calibration)).sum())
    return Difference(largest, decisions, count)


def _contradicts(got: Mapping[str, np.ndarray], calibration: Calibration) -> np.ndarray:
    """(N,) bool: whether a decision is another than its own score, p-value or map gives."""
    defective = calibration.defective(got["score"])
    pixels = (got["map"] > np.float32(calibration.threshold)).any((1, 2))
    p_values = calibration.p_values(got["score"]).astype(np.float32)
    by_p = got["p_value"] <= np.float32(calibration.level)
    others = (defective, pixels, by_p)
    return (got["p_value"] != p_values) | np.any([got["defective"] != each for each in others], axis=0)


def check(difference: Difference, what: str) -> None:
    """Refuse what differs by more than TOLERANCE.

    Args:
        difference: of an export.
        what: names it in the message.

    Raises:
        NumericalError: it does, or in a decision.
    """
    if not difference.map <= TOLERANCE or difference.decisions:
        raise NumericalError(
            f"{what} differs from the detector by {difference.map:.2g} of a map's maximum, and in "
            f"{difference.decisions} of {difference.pictures} decisions; {TOLERANCE:g} and none are allowed: "
            "nothing was exported; try another version of its runtime"
        )


def of_onnx(path: Path) -> Judging:
    """An ONNX model, run by ONNX Runtime on this machine's CPU.

    Args:
        path: of the file.

    Raises:
        ArgumentError: it refuses the model.
    """
    import onnxruntime
    from onnxruntime.capi import (
        onnxruntime_pybind11_state as states,  # pyright: ignore[reportAttributeAccessIssue]
    )

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except (states.Fail, states.InvalidArgument, states.InvalidGraph, states.NotImplemented) as error:
        told = str(error).splitlines()[0]
        raise ArgumentError(
            f"ONNX Runtime can't run it: export StableHLO, or upgrade onnxruntime ({told})"
        ) from error
    names = [output.name for output in session.get_outputs()]
    return lambda batch: dict(zip(names, session.run(names, {"pictures": batch}), strict=True))


def of_stablehlo(path: Path) -> Judging:
    """StableHLO with the arrays beside it, run by JAX.

    Args:
        path: of the file.
    """
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    with np.load(path.with_suffix(".npz")) as file:
        arrays = [jax.device_put(file[name]) for name in file.files]
    judge = jax.jit(exported.call)
    return lambda batch: judge(arrays, batch)


def batches(size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Of `pictures`, each number in BATCHES.

    Args:
        size: (height, width).
    """
    for seed, count in enumerate(BATCHES):
        yield pictures(size, count, seed=seed)
