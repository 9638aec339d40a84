"""A backbone small enough to test with: two scales of fixed random features, not of this package."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.backbones.protocol import IMAGENET, Normalisation


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tiny:
    """Average-pools 4 × 4 and 8 × 8 blocks of a nonlinear function of the pixels."""

    kernel: jax.Array  # (3, 12)
    name: str = field(default="tiny", metadata={"static": True})
    strides: tuple[int, ...] = field(default=(4, 8), metadata={"static": True})
    channels: tuple[int, ...] = field(default=(12, 12), metadata={"static": True})
    normalisation: Normalisation = field(default=IMAGENET, metadata={"static": True})

    @classmethod
    def make(cls) -> "Tiny":
        rng = np.random.default_rng(0)
        return cls(jnp.asarray(rng.standard_normal((3, 12)), jnp.float32))

    def __call__(self, pictures: jax.Array, /) -> tuple[jax.Array, ...]:
        x = jnp.tanh(3 * pictures @ self.kernel)
        return tuple(_pooled(x, stride) for stride in self.strides)


def _pooled(x: jax.Array, stride: int) -> jax.Array:
    n, height, width, c = x.shape
    blocks = x.reshape(n, height // stride, stride, width // stride, stride, c)
    return blocks.mean((2, 4)) + blocks.std((2, 4))


def pictures(n: int, *, seed: int = 0, size: tuple[int, int] = (32, 24)) -> np.ndarray:
    """(n, *size, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (n, *size, 3), dtype=np.uint8)
