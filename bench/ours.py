"""This package as an implementation to be measured: `Detector` whole, and its steps one by one."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.setting import EPSILON, SIGMA, Equivalent, Parts, Setting, Stage
from jaxsode import algebra
from jaxsode.algebra import Moments, over_grid
from jaxsode.backbones import registry
from jaxsode.detector import Detector, Settings, extract
from jaxsode.fitting import GROUP, factorise


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
    W = algebra.semi_orthogonal(seed, sum(backbone.channels), setting.k)
    return Parts(tensors, np.asarray(W))


def build(setting: Setting, parts: Parts) -> "Ours":
    """See `bench.setting.build`."""
    return Ours(setting, parts)


class Ours:
    """See `bench.setting.Implementation`."""

    equivalent = Equivalent()

    def __init__(self, setting: Setting, parts: Parts):
        self.setting = setting
        self.backbone = registry.with_parameters(registry.create(setting.backbone), parts.tensors)
        self.W = jnp.asarray(parts.W)

    def fit(self, batches: Iterable[np.ndarray], *, epsilon: float = EPSILON, W: Any = None) -> Detector:
        W = self.W if W is None else jnp.asarray(W)
        return Detector.fit(batches, self.backbone, W=W, epsilon=epsilon, sigma=SIGMA)

    def score(self, model: Detector, pictures: np.ndarray) -> jax.Array:
        return model.anomaly_map(pictures)

    def fetch(self, maps: jax.Array) -> np.ndarray:
        return np.asarray(maps)

    def wait(self, value: Any) -> Any:
        return jax.block_until_ready(value)

    def blank(self) -> Detector:
        k = self.setting.k
        picture = jax.ShapeDtypeStruct((1, *self.setting.size, 3), np.uint8)
        _, H, width, _ = jax.eval_shape(extract, self.backbone, picture)[0].shape
        settings = Settings(self.setting.size, "given", EPSILON, SIGMA, None, 1)
        return Detector(self.backbone, self.W, jnp.zeros((H, width, k)), jnp.ones((H, width, k, k)), settings)

    def fit_stages(self, batches: Sequence[np.ndarray]) -> dict[str, Stage]:
        rows = len(batches[0])
        maps = extract(self.backbone, batches[0])
        z = jnp.concatenate([_embed_for_moments(maps, self.W)] * -(-GROUP // rows), axis=2)
        # Donated from call to call, as `Detector.fit` does.
        state = {"moments": _update(algebra.empty(self.setting.k, grid=z.shape[:2]), z)}

        def update() -> Moments:
            state["moments"] = _update(state["moments"], z)
            return state["moments"]

        def copied() -> tuple[Moments]:
            return (jax.block_until_ready(jax.tree.map(jnp.copy, state["moments"])),)

        return {
            "CNN": Stage(lambda: extract(self.backbone, batches[0]), rows),
            "embedding": Stage(lambda: _embed_for_moments(maps, self.W), rows),
            "moments": Stage(update, z.shape[2]),
            "factorisation": Stage(lambda moments: factorise(moments, EPSILON), 0, copied),
        }

    def score_stages(self, model: Detector, pictures: np.ndarray) -> dict[str, Stage]:
        rows = len(pictures)
        maps = extract(self.backbone, pictures)
        z = _embed(maps, self.W)
        d = _distance(z, model.mean, model.whitener)
        return {
            "CNN": Stage(lambda: extract(self.backbone, pictures), rows),
            "embedding": Stage(lambda: _embed(maps, self.W), rows),
            "distance": Stage(lambda: _distance(z, model.mean, model.whitener), rows),
            "map": Stage(lambda: _map(d, self.setting.size), rows),
        }

    def device_peak(self) -> int | None:
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


_embed = jax.jit(algebra.project_then_align)


@jax.jit
def _embed_for_moments(maps: tuple[jax.Array, ...], W: jax.Array) -> jax.Array:
    return jnp.moveaxis(algebra.project_then_align(maps, W), 0, 2)


@partial(jax.jit, donate_argnums=0)
def _update(moments: Moments, z: jax.Array) -> Moments:
    return over_grid(algebra.update)(moments, z)


@jax.jit
def _distance(z: jax.Array, mean: jax.Array, whitener: jax.Array) -> jax.Array:
    return jax.vmap(over_grid(algebra.mahalanobis), in_axes=(0, None, None))(z, mean, whitener)


@partial(jax.jit, static_argnums=1)
def _map(distance: jax.Array, size: tuple[int, int]) -> jax.Array:
    return jax.vmap(lambda d: algebra.anomaly_map(d, size, sigma=SIGMA))(distance)
