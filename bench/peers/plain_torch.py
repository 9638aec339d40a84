"""The algorithm as it is commonly written in PyTorch: align, concatenate, embed; einsum; inverse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from bench.peers import torch_backbone
from bench.peers.torch_backbone import DEVICE, ResNet, normalised
from bench.setting import EPSILON, SIGMA, Equivalent, Parts, Setting, Stage

CHUNK = 256
"""Matrices a call of `inv` on a CPU: MKL fails on very large batches with more than one thread."""


@dataclass(frozen=True)
class Model:
    """mean (H·W, k) and precision (H·W, k, k), of a grid (H, W)."""

    mean: torch.Tensor
    precision: torch.Tensor
    grid: tuple[int, int]


def build(setting: Setting, parts: Parts) -> "PlainTorch":
    """See `bench.setting.build`."""
    setting.unpooled("the reference algorithm")
    return PlainTorch(setting, parts)


class PlainTorch:
    """See `bench.setting.Implementation`."""

    equivalent = Equivalent()

    def __init__(self, setting: Setting, parts: Parts):
        self.setting = setting
        self.network = ResNet(parts.tensors)
        self.W = torch.tensor(parts.W, device=DEVICE)
        self.kernel = _gaussian().to(DEVICE)

    @torch.inference_mode()
    def fit(self, batches: Iterable[np.ndarray]) -> Model:
        embedded = [self._embed(self.network(normalised(pictures))) for pictures in batches]
        grid = embedded[0].shape[1:3]
        z = torch.cat(embedded).flatten(1, 2)
        mean, C = _moments(z)
        return Model(mean, _inverse(C), (grid[0], grid[1]))

    @torch.inference_mode()
    def score(self, model: Model, pictures: np.ndarray) -> torch.Tensor:
        z = self._embed(self.network(normalised(pictures)))
        return self._map(_distance(model, z))

    def fetch(self, maps: torch.Tensor) -> np.ndarray:
        return maps.cpu().numpy()

    def wait(self, value: Any) -> Any:
        return torch_backbone.wait(value)

    @torch.inference_mode()
    def blank(self) -> Model:
        picture = np.zeros((1, *self.setting.size, 3), np.uint8)
        H, width = self.network(normalised(picture))[0].shape[-2:]
        k = self.setting.k
        mean = torch.ones((H * width, k), device=DEVICE)
        return Model(mean, torch.ones((H * width, k, k), device=DEVICE), (H, width))

    @torch.inference_mode()
    def fit_stages(self, batches: Sequence[np.ndarray]) -> dict[str, Stage]:
        rows, pictures = len(batches[0]), sum(map(len, batches))
        maps = self.network(normalised(batches[0]))
        z = torch.cat([self._embed(self.network(normalised(batch))) for batch in batches]).flatten(1, 2)
        _, C = _moments(z)
        return {
            "CNN": _stage(lambda: self.network(normalised(batches[0])), rows),
            "embedding": _stage(lambda: self._embed(maps), rows),
            "moments": _stage(lambda: _moments(z), pictures),
            "factorisation": _stage(lambda: _inverse(C), 0),
        }

    @torch.inference_mode()
    def score_stages(self, model: Model, pictures: np.ndarray) -> dict[str, Stage]:
        rows = len(pictures)
        maps = self.network(normalised(pictures))
        z = self._embed(maps)
        d = _distance(model, z)
        return {
            "CNN": _stage(lambda: self.network(normalised(pictures)), rows),
            "embedding": _stage(lambda: self._embed(maps), rows),
            "distance": _stage(lambda: _distance(model, z), rows),
            "map": _stage(lambda: self._map(d), rows),
        }

    def device_peak(self) -> int | None:
        return torch_backbone.device_peak()

    def _embed(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """(N, H, W, k)."""
        grid = maps[0].shape[-2:]
        x = torch.cat([maps[0], *(F.interpolate(m, size=grid, mode="nearest") for m in maps[1:])], dim=1)
        return torch.einsum("nfhw,fk->nhwk", x, self.W)

    def _map(self, distance: torch.Tensor) -> torch.Tensor:
        x = F.interpolate(distance[:, None], size=self.setting.size, mode="bilinear", align_corners=False)
        radius = len(self.kernel) // 2
        x = F.conv2d(_mirrored(x, radius, 2), self.kernel.view(1, 1, -1, 1))
        x = F.conv2d(_mirrored(x, radius, 3), self.kernel.view(1, 1, 1, -1))
        return x[:, 0]


def _moments(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """z (N, H·W, k) → mean (H·W, k), covariance (H·W, k, k) + εI."""
    mean = z.mean(0)
    centred = z - mean
    C = torch.einsum("nli,nlj->lij", centred, centred) / len(z)
    C.diagonal(dim1=-2, dim2=-1).add_(EPSILON)
    return mean, C


def _inverse(C: torch.Tensor) -> torch.Tensor:
    if C.is_cuda:
        return torch.linalg.inv(C)
    return torch.cat([torch.linalg.inv(part) for part in C.split(CHUNK)])


def _distance(model: Model, z: torch.Tensor) -> torch.Tensor:
    """z (N, H, W, k) → (N, H, W)."""
    centred = z.flatten(1, 2) - model.mean
    half = torch.einsum("nli,lij->nlj", centred, model.precision)
    squared = torch.einsum("nlj,nlj->nl", half, centred)
    return squared.clamp(min=0).sqrt().unflatten(1, model.grid)


def _mirrored(x: torch.Tensor, radius: int, axis: int) -> torch.Tensor:
    """Padded by so many on both sides of an axis, the edge repeated, which PyTorch's own padding can't."""
    size = x.shape[axis]
    index = torch.arange(-radius, size + radius, device=x.device) % (2 * size)
    return x.index_select(axis, torch.where(index < size, index, 2 * size - 1 - index))


def _gaussian() -> torch.Tensor:
    radius = int(4 * SIGMA + 0.5)
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (x / SIGMA) ** 2)
    return kernel / kernel.sum()


def _stage(call: Any, pictures: int) -> Stage:
    return Stage(torch.inference_mode()(call), pictures)
