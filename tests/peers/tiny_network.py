"""A backbone that compiles at once: means of 4 × 4 and 8 × 8 pixels, mixed by fixed matrices."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.backbones.protocol import IMAGENET, Normalisation


def _matrix(channels, seed):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((3, channels)), jnp.float32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tiny:
    fine: jax.Array = field(default_factory=lambda: _matrix(6, 0))
    coarse: jax.Array = field(default_factory=lambda: _matrix(5, 1))
    name: str = field(default="tiny", metadata={"static": True})
    strides: tuple[int, ...] = field(default=(4, 8), metadata={"static": True})
    channels: tuple[int, ...] = field(default=(6, 5), metadata={"static": True})
    normalisation: Normalisation = field(default=IMAGENET, metadata={"static": True})

    def __call__(self, pictures, /):
        n, height, width, _ = pictures.shape
        maps = []
        for stride, mix in ((4, self.fine), (8, self.coarse)):
            blocks = pictures.reshape(n, height // stride, stride, width // stride, stride, 3)
            maps.append(jnp.tanh(jnp.einsum("nhawbc,ck->nhwk", blocks, mix) / stride**2))
        return tuple(maps)
