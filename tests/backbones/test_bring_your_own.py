"""A backbone from outside the package: any callable pytree that keeps the protocol."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.backbones import registry
from jaxsode.backbones.protocol import Backbone, Normalisation


@partial(jax.tree_util.register_dataclass, data_fields=["kernels"], meta_fields=[])
@dataclass(frozen=True)
class TinyCNN:
    """Two convolutions of stride 2, each followed by a ReLU."""

    kernels: tuple[jax.Array, jax.Array]  # (3, 3, 3, 8) and (3, 3, 8, 12)

    name: ClassVar[str] = "tiny_cnn"
    strides: ClassVar[tuple[int, ...]] = (2, 4)
    channels: ClassVar[tuple[int, ...]] = (8, 12)
    normalisation: ClassVar[Normalisation] = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    def __call__(self, pictures: jax.Array, /) -> tuple[jax.Array, ...]:
        x = (pictures - 0.5) / 0.25
        maps = []
        for kernel in self.kernels:
            x = jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x)
            maps.append(x)
        return tuple(maps)


def tiny_cnn(seed):
    rng = np.random.default_rng(seed)
    shapes = ((3, 3, 3, 8), (3, 3, 8, 12))
    first, second = (jnp.asarray(0.2 * rng.standard_normal(shape), jnp.float32) for shape in shapes)
    return TinyCNN((first, second))


def test_a_network_defined_elsewhere_is_a_backbone():
    backbone = tiny_cnn(0)
    pictures = np.random.default_rng(0).random((2, 32, 24, 3), dtype=np.float32)
    run = jax.jit(lambda backbone, x: backbone(x))

    maps = run(backbone, pictures)
    run(tiny_cnn(1), pictures)

    assert isinstance(backbone, Backbone)
    assert run._cache_size() == 1
    for features, stride, channels in zip(maps, backbone.strides, backbone.channels, strict=True):
        assert features.shape == (2, 32 // stride, 24 // stride, channels)


def test_its_parameters_can_be_named_and_replaced_like_ours():
    backbone = tiny_cnn(0)
    assert list(registry.parameters(backbone)) == ["kernels.0", "kernels.1"]

    zeros = {name: jnp.zeros_like(leaf) for name, leaf in registry.parameters(backbone).items()}
    maps = registry.with_parameters(backbone, zeros)(jnp.ones((1, 8, 8, 3)))

    assert all(np.all(m == 0) for m in maps)


def test_what_lacks_strides_is_no_backbone():
    assert not isinstance(lambda pictures: (pictures,), Backbone)


def test_one_line_in_the_registry_adds_one(monkeypatch):
    def build(*, layers, dtype, rng):
        return tiny_cnn(int(rng.integers(100)))

    monkeypatch.setitem(registry.BACKBONES, "tiny_cnn", registry.Spec(build, layers=(1, 2), default=(1, 2)))

    assert registry.create("tiny_cnn").channels == (8, 12)
