"""The processor that machine code is written for."""

import dataclasses
import platform
import sys

import llvmlite.binding as llvm


@dataclasses.dataclass(frozen=True)
class Target:
    """What of a processor shapes the code.

    Attributes:
        name, features: LLVM's.
        lanes: float32 numbers in a vector.
        vectors: of a panel of channels.
        pixels: at once, at most; times `vectors` as many sums as there are registers, less a few.
    """

    name: str
    features: str
    lanes: int
    vectors: int
    pixels: int

    @property
    def panel(self) -> int:
        """Channels of a panel."""
        return self.lanes * self.vectors

    def padded(self, channels: int) -> int:
        """So many channels up to whole panels."""
        return -(-channels // self.panel) * self.panel


def here() -> Target | None:
    """This machine; None where it has no multiply-add of vectors, or its system isn't one that is known."""
    if sys.platform not in ("linux", "darwin"):
        return None
    name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
    flat = features.flatten()
    if platform.machine() in ("x86_64", "AMD64"):
        if features.get("avx512f"):
            return Target(name, flat, lanes=16, vectors=2, pixels=14)
        if features.get("avx2") and features.get("fma"):
            return Target(name, flat, lanes=8, vectors=2, pixels=6)
    elif platform.machine() in ("aarch64", "arm64"):
        return Target(name, flat, lanes=4, vectors=4, pixels=6)
    return None
