"""This package as an implementation to be measured: `Detector` whole, and its steps one by one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from bench.setting import EPSILON, SIGMA, Equivalent, Parts, Setting, Stage
from jaxsode import kernels
from jaxsode.algebra.moments import Moments
from jaxsode.algebra.packing import shapes_of
from jaxsode.algebra.precision import Triangle
from jaxsode.backbones import registry
from jaxsode.blocks import fit_and_score, rows_per_block
from jaxsode.detector import Detector
from jaxsode.fitting import accumulate, embed, extract, factorise, grid_of
from jaxsode.kernels.native import code
from jaxsode.method import Method
from jaxsode.scoring import anomaly_maps, distances

# A part of the key of each program that is traced within.
_is_without_code = jax.make_user_context(default_value=False)


def parts(setting: Setting, *, weights: Path | None = None, seed: int = 0) -> Parts:
    """What every implementation starts from.

    Args:
        setting: names the backbone and k.
        weights: file of the backbone's; random ones if None. Times don't depend on it.
        seed: of W.
    """
    if weights is None:
        backbone = registry.create(setting.backbone)
    else:
        from jaxsode.backbones import load  # needs what reads files of weights

        backbone = load(setting.backbone, weights=weights)
    tensors = {name: np.asarray(tensor) for name, tensor in registry.parameters(backbone).items()}
    W = Method(k=setting.k, seed=seed).matrix(sum(backbone.channels))
    return Parts(tensors, np.asarray(W))


def build(setting: Setting, parts: Parts) -> "Ours":
    """See `bench.setting.build`."""
    return Ours(setting, parts)


def without_code(setting: Setting, parts: Parts) -> "WithoutCode":
    """See `bench.setting.build`."""
    return WithoutCode(setting, parts)


class Ours:
    """See `bench.setting.Implementation`."""

    equivalent = Equivalent()

    def __init__(self, setting: Setting, parts: Parts):
        self.setting = setting
        self.backbone = registry.with_parameters(registry.create(setting.backbone), parts.tensors)
        self.W = jnp.asarray(parts.W)

    def fit(self, batches: Iterable[np.ndarray], *, epsilon: float = EPSILON, W: Any = None) -> Detector:
        method = Method(
            embedding=self.W if W is None else W, epsilon=epsilon, sigma=SIGMA, pooling=self.setting.pooling
        )
        # What the peers end with can score and no more: ours keeps no moments for later either.
        return Detector.fit(batches, self.backbone, method, keep_moments=False)

    def score(self, model: Detector, pictures: np.ndarray) -> jax.Array:
        return model.anomaly_map(pictures)

    def fetch(self, maps: jax.Array) -> np.ndarray:
        return np.asarray(maps)

    def wait(self, value: Any) -> Any:
        return jax.block_until_ready(value)

    def blank(self) -> Detector:
        H, width, k = (*self._grid(), self.setting.k)
        pooling = self.setting.pooling
        method = Method(embedding=self.W, epsilon=EPSILON, sigma=SIGMA, pooling=pooling).recorded()
        mean = jnp.zeros((H, width, k))
        precision = Triangle(panels=tuple(jnp.ones((H, width, *shape)) for shape in shapes_of(k)))
        count = jnp.asarray(1, jnp.int32)
        return Detector(self.backbone, self.W, mean, precision, count, method, None, self.setting.size)

    def in_blocks(self, batches: Callable[[], Iterable[np.ndarray]], state_gb: float) -> np.ndarray:
        """Maps of the pictures that it is fitted on, with so much memory for the state of a block."""

        def maps() -> Iterable[tuple[tuple[jax.Array, ...], int]]:
            return ((extract(self.backbone, pictures), len(pictures)) for pictures in batches())

        method = Method(embedding=self.W, epsilon=EPSILON, sigma=SIGMA)
        rows = rows_per_block(self._grid(), method, self.W.shape[0], int(state_gb * 1e9))
        scored = fit_and_score(maps, maps, self.backbone, method, size=self.setting.size, rows=rows)
        return np.concatenate([batch[:valid] for batch, valid in scored])

    def fit_stages(self, batches: Sequence[np.ndarray]) -> dict[str, Stage]:
        rows, n = len(batches[0]), sum(map(len, batches))
        maps = extract(self.backbone, batches[0])
        z = [(embed(self.W, extract(self.backbone, pictures)), rows) for pictures in batches]
        moments = accumulate(z)

        def copied() -> tuple[Moments]:
            return (jax.block_until_ready(jax.tree.map(jnp.copy, moments)),)

        return {
            "CNN": Stage(lambda: extract(self.backbone, batches[0]), rows),
            "embedding": Stage(lambda: embed(self.W, maps), rows),
            "moments": Stage(lambda: accumulate(z), n),
            "factorisation": Stage(lambda moments: factorise(moments, EPSILON), 0, copied),
        }

    def score_stages(self, model: Detector, pictures: np.ndarray) -> dict[str, Stage]:
        rows = len(pictures)
        maps = extract(self.backbone, pictures)
        pooling = self.setting.pooling
        z = embed(self.W, maps, pooling=pooling)

        def measured() -> jax.Array:
            with kernels.evaluated(kernels.is_here(z, model.mean, model.precision)):
                return distances(z, model.mean, model.precision)

        d = measured()
        return {
            "CNN": Stage(lambda: extract(self.backbone, pictures), rows),
            "embedding": Stage(lambda: embed(self.W, maps, pooling=pooling), rows),
            "distance": Stage(measured, rows),
            "map": Stage(lambda: anomaly_maps(d, self.setting.size, SIGMA), rows),
        }

    def device_peak(self) -> int | None:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")

    def _grid(self) -> tuple[int, int]:
        return grid_of(self.backbone, self.setting.size)


class WithoutCode(Ours):
    """As where llvmlite is not installed."""

    def fit(self, *arguments: Any, **options: Any) -> Detector:
        with _without_code():
            return super().fit(*arguments, **options)

    def score(self, model: Detector, pictures: np.ndarray) -> jax.Array:
        with _without_code():
            return super().score(model, pictures)

    def fit_stages(self, batches: Sequence[np.ndarray]) -> dict[str, Stage]:
        with _without_code():
            return _all_without_code(super().fit_stages(batches))

    def score_stages(self, model: Detector, pictures: np.ndarray) -> dict[str, Stage]:
        with _without_code():
            return _all_without_code(super().score_stages(model, pictures))


@contextmanager
def _without_code() -> Iterator[None]:
    with _is_without_code(True), mock.patch.object(code, "_code", False):
        yield


def _all_without_code(stages: dict[str, Stage]) -> dict[str, Stage]:
    def inside(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any) -> Any:
            with _without_code():
                return call(*given)

        return called

    return {name: replace(stage, call=inside(stage.call)) for name, stage in stages.items()}
