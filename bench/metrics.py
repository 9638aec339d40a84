"""ROC and PRO of 10⁷ scores: exact here, against a loop over thresholds and scikit-learn."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from bench.harness import Contender, Deadline, check, race
from bench.record import Result
from jaxsode import metrics

LIMIT = 0.3
EXACT = 1e-6
"""Between two exact computations, one of them in float32 steps."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pictures", type=int, default=56)
    parser.add_argument("--size", type=int, nargs=2, default=(704, 256))
    parser.add_argument("--thresholds", type=int, default=200, help="of the loop, evenly spaced over scores")
    parser.add_argument("--loop-tolerance", type=float, default=0.03, help="the loop is only near the truth")


def quick(options: argparse.Namespace) -> None:
    options.pictures, options.size = 6, (64, 48)


def run(options: argparse.Namespace, result: Result) -> None:
    deadline = Deadline(options.minutes)
    maps, masks = scores(options.pictures, (options.size[0], options.size[1]))
    for metric, contenders in _contenders(maps, masks, options.thresholds, result).items():
        exact = contenders["ours"]()
        values = {name: call() for name, call in contenders.items()}
        for name, value in values.items():
            loop = name.endswith("thresholds")
            tolerance = options.loop_tolerance if loop else EXACT
            result.agreed(f"{metric}, {name}", check(name, abs(value - exact), tolerance), tolerance)
        timings = race(
            [Contender(name, call, lambda value: value) for name, call in contenders.items()],
            rounds=options.rounds,
            limit_s=deadline.left_s,
        )
        for name, timing in timings.items():
            result.row(
                metric=metric,
                implementation=name,
                scores=maps.size,
                seconds=timing.median,
                value=values[name],
                timing=timing.record(),
            )


def scores(count: int, size: tuple[int, int], *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps, higher on the average in the defects of every second picture.

    Args:
        count: N.
        size: (height, width).
        seed: of all.

    Returns:
        maps (N, height, width) float32; masks, of the same shape, uint8, 0 or 255.
    """
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, *size), np.uint8)
    for mask in masks[::2]:
        for _ in range(3):
            y, x = (rng.integers(0, side - 8) for side in size)
            mask[y : y + rng.integers(4, size[0] // 8), x : x + rng.integers(4, size[1] // 4)] = 255
    noise = rng.standard_normal((count, *size), np.float32)
    maps = ndimage.gaussian_filter(noise, (0, 3, 3)) * 10 + ndimage.gaussian_filter(
        masks.astype(np.float32) / 255, (0, 2, 2)
    )
    return maps - maps.min(), masks


def _contenders(
    maps: np.ndarray, masks: np.ndarray, thresholds: int, result: Result
) -> dict[str, dict[str, Callable[[], float]]]:
    """What is computed, by metric and implementation."""
    truth = masks > 127
    made: dict[str, dict[str, Callable[[], Any]]] = {
        "pixel ROC": {
            "ours": lambda: metrics.pixel_auroc(maps, masks),
            f"{thresholds} thresholds": lambda: loop(maps, truth, thresholds, regions=False),
        },
        "PRO": {
            "ours": lambda: metrics.pro(maps, masks, limit=LIMIT),
            f"{thresholds} thresholds": lambda: loop(maps, truth, thresholds, regions=True),
        },
    }
    sklearn = result.optional("sklearn.metrics", "scikit-learn")
    if sklearn is not None:
        made["pixel ROC"]["scikit-learn"] = lambda: float(sklearn.roc_auc_score(truth.ravel(), maps.ravel()))
        made["PRO"]["scikit-learn"] = lambda: _pro_by_roc(sklearn.roc_curve, maps, truth)
    return made


def loop(maps: np.ndarray, truth: np.ndarray, thresholds: int, *, regions: bool) -> float:
    """Area under the curve at evenly spaced thresholds: as the metric is often written.

    Args:
        maps, truth: (N, height, width), scores and whether defective.
        thresholds: how many.
        regions: PRO up to LIMIT; else ROC.
    """
    labels = _labels(truth) if regions else truth.astype(np.int64)
    sizes = np.bincount(labels.ravel())[1:]
    fpr, tpr = [0.0], [0.0]
    for threshold in np.linspace(maps.max(), maps.min(), thresholds):
        found = maps >= threshold
        fpr.append(float((found & ~truth).sum() / (~truth).sum()))
        hits = np.bincount(labels[found], minlength=len(sizes) + 1)[1:]
        tpr.append(float((hits / sizes).mean()))
    return _area(np.array(fpr), np.array(tpr), LIMIT if regions else 1.0)


def _pro_by_roc(roc_curve: Any, maps: np.ndarray, truth: np.ndarray) -> float:
    """A region's pixels weigh 1 / its size: PRO is then a weighted ROC."""
    labels = _labels(truth)
    weights = np.where(labels > 0, 1 / np.bincount(labels.ravel())[labels], 1.0)
    fpr, tpr, _ = roc_curve(truth.ravel(), maps.ravel(), sample_weight=weights.ravel())
    return _area(fpr, tpr, LIMIT)


def _labels(truth: np.ndarray) -> np.ndarray:
    """Regions of all pictures, numbered on from one picture to the next; 0 outside."""
    # Connected within a picture by edges and corners, and never across pictures.
    structure = np.zeros((3, 3, 3), bool)
    structure[1] = True
    labels = np.empty(truth.shape, np.int64)
    ndimage.label(truth, structure, output=labels)
    return labels


def _area(fpr: np.ndarray, tpr: np.ndarray, limit: float) -> float:
    inside = fpr <= limit
    x = np.append(fpr[inside], limit)
    y = np.append(tpr[inside], np.interp(limit, fpr, tpr))
    return float(np.trapezoid(y, x) / limit)
