"""A backbone's kernels as machine code reads them, for programs that only evaluate it."""

import weakref
from typing import Any

import jax
from flax import nnx
from jax.core import Tracer

from jaxsode.backbones.layers import Conv
from jaxsode.backbones.protocol import Backbone
from jaxsode.kernels import Packed

Kernels = tuple[Packed | None, ...]
"""Of each convolution of a backbone, in order."""

# By the identity of a backbone's arrays, which never change, though which of them a module holds may. An
# entry goes when one of its arrays does.
_made: dict[tuple[int, ...], tuple[list[weakref.ref], Kernels | None]] = {}


def packed(backbone: Backbone, *others: Any) -> Kernels | None:
    """The kernels, if a program of the backbone and others is for this CPU alone; packed once.

    Args:
        backbone: see `Backbone`.
        others: pytrees of what else the program is of.

    Returns:
        For `with_packed`; None where an array is traced, or lies elsewhere or on several devices, or where no
        convolution is faster so.
    """
    arrays = jax.tree.leaves(backbone)
    if not isinstance(backbone, nnx.Module) or not all(map(_is_here, jax.tree.leaves((arrays, others)))):
        return None
    key = tuple(map(id, arrays))
    if key not in _made:
        kernels = tuple(convolution.pack() for convolution in _convolutions(backbone))
        gone = [weakref.ref(array, lambda _: _made.pop(key, None)) for array in arrays]
        _made[key] = gone, None if all(one is None for one in kernels) else kernels
    return _made[key][1]


def with_packed(backbone: Backbone, kernels: Kernels | None) -> Backbone:
    """A backbone that computes with packed kernels; None leaves it as it is."""
    if kernels is None:
        return backbone
    backbone = jax.tree.map(lambda array: array, backbone)
    for convolution, one in zip(_convolutions(backbone), kernels, strict=True):
        convolution.packed = one
    return backbone


def _convolutions(backbone: Any) -> list[Conv]:
    return [node for _, node in nnx.iter_graph(backbone) if isinstance(node, Conv)]


def _is_here(leaf: Any) -> bool:
    if isinstance(leaf, Tracer):
        return False
    if not isinstance(leaf, jax.Array):
        return jax.default_backend() == "cpu"
    devices = leaf.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"
