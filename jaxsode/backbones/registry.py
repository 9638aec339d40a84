"""Every backbone by name, and its parameters by module path."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jaxsode.backbones import efficientnet_lite, mobilenet_v3, resnet
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import ArgumentError, WeightsError


@dataclass(frozen=True)
class Spec:
    """How a backbone is made.

    Attributes:
        builder: called with `layers`, `dtype` and `rng`; makes the backbone with random weights, built no
            deeper than the last of `layers`.
        layers: all there are to choose from, finest first.
        default: those taken when none are named.
    """

    builder: Callable[..., Backbone]
    layers: tuple[int, ...] = (1, 2, 3)
    default: tuple[int, ...] = (1, 2, 3)


BACKBONES: dict[str, Spec] = {
    "resnet18": Spec(resnet.resnet18, layers=(1, 2, 3, 4)),
    "resnet34": Spec(resnet.resnet34, layers=(1, 2, 3, 4)),
    "resnet50": Spec(resnet.resnet50, layers=(1, 2, 3, 4)),
    "resnet101": Spec(resnet.resnet101, layers=(1, 2, 3, 4)),
    "wide_resnet50_2": Spec(resnet.wide_resnet50_2, layers=(1, 2, 3, 4)),
    "mobilenet_v3_small": Spec(mobilenet_v3.mobilenet_v3_small),
    "mobilenet_v3_large": Spec(mobilenet_v3.mobilenet_v3_large),
    "mobilenet_v3_small_d_li14": Spec(mobilenet_v3.mobilenet_v3_small_d_li14),
    "mobilenet_v3_large_d_li14": Spec(mobilenet_v3.mobilenet_v3_large_d_li14),
    "efficientnet_lite0": Spec(efficientnet_lite.EfficientNetLite0),
}


def create(
    name: str,
    *,
    layers: tuple[int, ...] | None = None,
    dtype: DTypeLike = jnp.float32,
    seed: int | None = 0,
) -> Backbone:
    """A backbone with random weights, built no deeper than the last of `layers`.

    Args:
        name: one of BACKBONES.
        layers: whose feature maps are returned, ascending; None takes the backbone's default.
        dtype: of the computation, float32 or bfloat16; parameters and feature maps are float32.
        seed: of the weights; the same seed gives the same, whatever `layers`. None makes them zeros.

    Raises:
        ArgumentError: an unknown name, a layer it does not have, or another dtype.
    """
    if name not in BACKBONES:
        raise ArgumentError(f"there is no backbone {name!r}: choose one of {', '.join(BACKBONES)}")
    spec = BACKBONES[name]
    if layers is not None and not isinstance(layers, Iterable):
        raise ArgumentError(f"layers {layers!r}: give their numbers, such as (1, 2, 3)")
    layers = spec.default if layers is None else tuple(layers)
    if not layers or not set(layers) <= set(spec.layers) or list(layers) != sorted(set(layers)):
        have = ", ".join(map(str, spec.layers))
        raise ArgumentError(f"layers {layers} of {name}: choose some of {have}, each once, ascending")
    if jnp.dtype(dtype) not in (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)):
        raise ArgumentError(f"{name} can't compute in {jnp.dtype(dtype)}: choose float32 or bfloat16")
    return spec.builder(
        layers=layers, dtype=dtype, rng=_Zeros() if seed is None else np.random.default_rng(seed)
    )


def structure(
    name: str, *, layers: tuple[int, ...] | None = None, dtype: DTypeLike = jnp.float32
) -> Backbone:
    """`create`, but for shapes in place of arrays: made at once, to be filled with those of a file.

    Args:
        name, layers, dtype: see `create`.

    Raises:
        ArgumentError: see `create`.
    """
    return jax.eval_shape(lambda: create(name, layers=layers, dtype=dtype, seed=None))


class _Zeros:
    """What a backbone asks of a generator."""

    def standard_normal(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        return np.zeros(shape, dtype)


def parameters(backbone: Backbone) -> dict[str, jax.Array]:
    """Every array of a backbone by its path, such as `layer1.0.conv1.kernel`."""
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(backbone)}


def with_parameters(backbone: Backbone, tensors: Mapping[str, ArrayLike]) -> Backbone:
    """The same backbone with other weights.

    Args:
        backbone: gives structure, names and shapes.
        tensors: one array for each name of `parameters(backbone)`, of its shape; cast to its dtype.

    Raises:
        WeightsError: names or shapes differ; lists which.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(backbone)
    named = {_name(path): leaf for path, leaf in leaves}
    wrong = [f"{name} is missing" for name in named if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in named]
    for name, leaf in named.items():
        if name in tensors and np.shape(tensors[name]) != leaf.shape:
            wrong.append(f"{name} has shape {np.shape(tensors[name])}, not {leaf.shape}")
    if wrong:
        raise WeightsError(f"weights do not fit {backbone.name}: {'; '.join(wrong)}")
    # Copied: on a CPU JAX would alias an array that the caller may go on writing to.
    new = [jax.device_put(np.array(tensors[name], leaf.dtype)) for name, leaf in named.items()]
    return jax.tree.unflatten(structure, new)


def _name(path: tuple) -> str:
    # an NNX parameter's array is the child `value` of the Param node, which is no part of the name
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
