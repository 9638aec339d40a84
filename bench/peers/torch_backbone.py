"""The same ResNets in PyTorch, batch norm folded as over here, so that a peer loses nothing by it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalised(pictures: np.ndarray) -> torch.Tensor:
    """uint8 (N, height, width, 3) in host memory → normalised (N, 3, height, width) on the device."""
    x = torch.from_numpy(pictures).to(DEVICE).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(numbers, device=DEVICE).view(1, 3, 1, 1) for numbers in IMAGENET)
    return ((x - mean) / std).contiguous()


def wait(value: Any) -> Any:
    """The value, once all work on the device is done."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return value


def device_peak() -> int | None:
    """Bytes that CUDA's allocator gave at most; None on a CPU."""
    return torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else None


class ResNet:
    """Stem and layers 1 to 3, by the names and shapes of our weights."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self.convs = {}
        for name, kernel in tensors.items():
            path, _, leaf = name.rpartition(".")
            if leaf == "kernel":
                oihw = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
                bias = torch.tensor(tensors[f"{path}.bias"])
                self.convs[path] = (oihw.to(DEVICE), bias.to(DEVICE))

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Normalised (N, 3, height, width) → three maps (N, C, h, w), finest first."""
        x = F.max_pool2d(F.relu(self._conv("conv1", x, 2)), 3, stride=2, padding=1)
        maps = []
        for layer in (1, 2, 3):
            block = 0
            while f"layer{layer}.{block}.conv1" in self.convs:
                x = self._block(f"layer{layer}.{block}", x, 2 if layer > 1 and block == 0 else 1)
                block += 1
            maps.append(x)
        return maps

    def _block(self, path: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        shortcut = f"{path}.downsample"
        y = self._conv(shortcut, x, stride) if shortcut in self.convs else x
        bottleneck = f"{path}.conv3" in self.convs
        x = F.relu(self._conv(f"{path}.conv1", x, 1 if bottleneck else stride))
        x = self._conv(f"{path}.conv2", x, stride if bottleneck else 1)
        if bottleneck:
            x = self._conv(f"{path}.conv3", F.relu(x), 1)
        return F.relu(x + y)

    def _conv(self, path: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        kernel, bias = self.convs[path]
        return F.conv2d(x, kernel, bias, stride=stride, padding=kernel.shape[-1] // 2)
