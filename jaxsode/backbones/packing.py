"""A backbone's kernels as machine code reads them, for programs that only evaluate it."""

import weakref
from typing import Any

import jax
from flax import nnx

from jaxsode.backbones.layers import Conv
from jaxsode.backbones.protocol import Backbone
from jaxsode.kernels import Packed, is_here

Kernels = tuple[Packed | None, ...]
"""Of each convolution of a backbone, in order."""

# By the identity of a backbone's arrays, which never change, though which of them a module holds may. An
# entry goes when one of its arrays does.
_made: dict[Any, tuple[list[weakref.ref], Kernels | None]] = {}


def packed(backbone: Backbone, *others: Any) -> Kernels | None:
    """The kernels, if a program of the backbone and others is for this CPU alone; packed once.

    They are held as long as the backbone's arrays are; one of 3 × 3 at stride 1 with four times its numbers.

    Args:
        backbone: see `Backbone`.
        others: pytrees of what else the program is of.

    Returns:
        For `with_packed`; None while anything is traced, where an array lies elsewhere or on several devices,
        or where no convolution is faster so.
    """
    arrays, structure = jax.tree.flatten(backbone)
    own = isinstance(backbone, nnx.Module) and all(isinstance(array, jax.Array) for array in arrays)
    if not own or not arrays or not is_here(arrays, others):
        return None
    key = structure, tuple(map(id, arrays))
    if key not in _made:
        kernels = tuple(convolution.pack() for convolution in _convolutions(backbone))
        kernels = jax.device_put(kernels, arrays[0].sharding)
        gone = [weakref.ref(array, lambda _: _made.pop(key, None)) for array in arrays]
        _made[key] = gone, None if all(one is None for one in kernels) else kernels
    return _made[key][1]


def with_packed(backbone: Backbone, kernels: Kernels | None) -> Backbone:
    """A backbone that computes with packed kernels; None leaves it as it is."""
    if kernels is None:
        return backbone
    copy = jax.tree.map(lambda array: array, backbone)
    convolutions = _convolutions(copy)
    if len(convolutions) != len(kernels):  # one in two places is two in a copy
        return backbone
    for convolution, one in zip(convolutions, kernels, strict=True):
        convolution.packed = one
    return copy


def _convolutions(backbone: Any) -> list[Conv]:
    return [node for _, node in nnx.iter_graph(backbone) if isinstance(node, Conv)]
