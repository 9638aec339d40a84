"""A network as programs that only evaluate it take it: apart, and its kernels as machine code reads them."""

import dataclasses
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


class Structure:
    """A pytree's structure as a part of a program's key.

    JAX takes two classes of dataclasses with equal fields for the same structure. Their hashes differ, but
    where a structure is static it looks at equality alone.
    """

    def __init__(self, of: Any):
        """Of a structure, of `jax.tree.structure`."""
        self.of = of
        self._hash = hash(of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._hash == other._hash and self.of == other.of

    def __hash__(self) -> int:
        return self._hash


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Network:
    """A backbone in parts; made by `of`. JAX passes it to a program in a tenth of a module's time.

    Attributes:
        arrays: of the backbone.
        kernels: packed, in place of those among the arrays; None where there are none.
        structure: what the arrays are.
        here: whether `is_here` holds for the arrays and all else that `of` was given.
    """

    arrays: list[Any]
    kernels: Kernels | None
    structure: Structure = dataclasses.field(metadata={"static": True})
    here: bool = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, backbone: Backbone, *others: Any) -> "Network":
        """Takes a backbone apart, and packs its kernels if a program of it and others is for this CPU alone.

        They are packed once, and held as long as the backbone's arrays are.

        Args:
            backbone: see `Backbone`.
            others: pytrees of what else the program is of.
        """
        arrays, structure = jax.tree.flatten(backbone)
        structure = Structure(structure)
        here = is_here(arrays, others)
        own = isinstance(backbone, nnx.Module) and all(isinstance(array, jax.Array) for array in arrays)
        kernels = _packed(backbone, arrays, structure) if here and own and arrays else None
        return cls(arrays, kernels, structure, here)

    @property
    def backbone(self) -> Backbone:
        """Put together again; it computes with the packed kernels."""
        backbone = jax.tree.unflatten(self.structure.of, self.arrays)
        convolutions = [] if self.kernels is None else _convolutions(backbone)
        if self.kernels is None or len(convolutions) != len(self.kernels):
            return backbone  # one in two places is two in a copy
        for convolution, one in zip(convolutions, self.kernels, strict=True):
            convolution.packed = one
        return backbone


def _packed(backbone: Backbone, arrays: list[jax.Array], structure: Structure) -> Kernels | None:
    key = structure, tuple(map(id, arrays))
    if key not in _made:
        kernels = tuple(convolution.pack() for convolution in _convolutions(backbone))
        kernels = jax.device_put(kernels, arrays[0].sharding)
        gone = [weakref.ref(array, lambda _: _made.pop(key, None)) for array in arrays]
        _made[key] = gone, None if all(one is None for one in kernels) else kernels
    return _made[key][1]


def _convolutions(backbone: Any) -> list[Conv]:
    return [node for _, node in nnx.iter_graph(backbone) if isinstance(node, Conv)]
