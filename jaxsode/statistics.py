"""What a fit gathers on the grid, whole: four kinds of state, each with the same four functions.

`MOMENTS` of every location are the method's; one pooled scatter, and all vectors as one set, are what the
paper's global precision needs; `Pictures` keeps the embedded features themselves, for what is cheaper from
the pictures' side. States of the same kind merge exactly, in any order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.algebra import moments, over_grid, pooled
from jaxsode.algebra.dual import Dual
from jaxsode.algebra.moments import Moments
from jaxsode.algebra.packing import pack_lower, pack_symmetric, unpack_lower, unpack_symmetric
from jaxsode.algebra.pooled import Pooled
from jaxsode.algebra.precision import Needs, Shared, Triangle, Whitener


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Packed:
    """Moments on the grid with half of each scatter: 2·H·W·k·(k + 1) bytes.

    Attributes:
        count: (H, W) int32.
        origin, offset: (H, W, k).
        scatter: (H, W, r, h), see `jaxsode.algebra.packing`.
    """

    count: jax.Array
    origin: jax.Array
    offset: jax.Array
    scatter: jax.Array

    @property
    def mean(self) -> jax.Array:
        """(H, W, k) μ."""
        return self.origin + self.offset


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pictures:
    """The embedded features of all pictures.

    Attributes:
        z: (H, W, N, k).
    """

    z: jax.Array


@dataclass(frozen=True)
class Statistic:
    """A kind of state that is a sum over pictures.

    Attributes:
        init: (k, grid) → the state of no pictures.
        update: (state, z (H, W, N, k), where (N,) bool) → the state with those that count.
        merge: (state, state) → the state of both.
        remove: (state, part) → the state without the part.
        whole: names of the state's arrays that don't begin with the grid's rows.
    """

    init: Callable[[int, tuple[int, int]], Any]
    update: Callable[[Any, jax.Array, jax.Array], Any]
    merge: Callable[[Any, Any], Any]
    remove: Callable[[Any, Any], Any]
    whole: tuple[str, ...] = ()


def _update_one_set(state: Moments, z: jax.Array, where: jax.Array) -> Moments:
    H, W, N, k = z.shape
    everywhere = jnp.broadcast_to(where[None, :], (H * W, N)).reshape(-1)
    return moments.update(state, z.reshape(-1, k), everywhere)


MOMENTS = Statistic(
    init=lambda k, grid: moments.init(k, grid=grid),
    update=over_grid(moments.update, in_axes=(0, 0, None)),
    merge=over_grid(moments.merge),
    remove=over_grid(moments.remove),
)
POOLED = Statistic(
    init=lambda k, grid: pooled.init(k, grid=grid),
    update=pooled.update,
    merge=pooled.merge,
    remove=pooled.remove,
    whole=("scatter",),
)
ONE_SET = Statistic(
    init=lambda k, grid: moments.init(k),
    update=_update_one_set,
    merge=moments.merge,
    remove=moments.remove,
    whole=("count", "origin", "offset", "scatter"),
)

STATISTICS: dict[Needs, Statistic] = {"moments": MOMENTS, "pooled": POOLED, "one set": ONE_SET}


# What these two return shares no memory with what they are given, for who updates moments gives theirs away.


@jax.jit
def pack(state: Moments) -> Packed:
    """The same in half the memory, in memory of its own.

    Args:
        state: moments on the grid.
    """
    return Packed(
        count=jnp.copy(state.count),
        origin=jnp.copy(state.origin),
        offset=jnp.copy(state.offset),
        scatter=pack_symmetric(state.scatter),
    )


@jax.jit
def unpack(packed: Packed) -> Moments:
    """Moments on the grid again, in memory of their own.

    Args:
        packed: by `pack`.
    """
    return by_columns(unpacked, packed)


def merged(a: Any, b: Any) -> Any:
    """The state of both, in memory of its own, with nothing else of its size beside it.

    Args:
        a, b: as a detector keeps them, packed or not; not both `Pictures`.
    """
    if isinstance(a, Packed) and isinstance(b, Packed):
        return _merged_packed(a, b)
    a, b = summed(unkept(a)), summed(unkept(b))
    return jax.jit(statistic_of(a).merge)(a, b)


@jax.jit
def _merged_packed(a: Packed, b: Packed) -> Moments:
    return by_columns(lambda a, b: MOMENTS.merge(unpacked(a), unpacked(b)), a, b)


def unpacked(packed: Packed) -> Moments:
    """Moments of one location or more, all at once, in a program that goes through a grid; see `unpack`.

    Args:
        packed: its arrays begin with no axis, or more than the grid's.
    """
    return Moments(packed.count, packed.origin, packed.offset, unpack_symmetric(packed.scatter))


def by_columns(function: Callable[..., Any], *states: Any) -> Any:
    """A function of states on the grid, a column of it after the other.

    At once, XLA holds copies of all matrices. Not row by row: rows may be dealt out.

    Args:
        function: of some columns of the states, (H, n, …); so is its result.
        states: pytrees of arrays (H, W, …).
    """
    structures = []
    function = jax.jit(function, inline=True)  # traced once, though `column` is twice

    def column(j: Any) -> list[jax.Array]:
        part = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, j, 1, axis=1), states)
        leaves, structure = jax.tree.flatten(function(*part))
        structures.append(structure)
        return leaves

    def put(j: Any, made: list[jax.Array]) -> list[jax.Array]:
        put_in = partial(jax.lax.dynamic_update_slice_in_dim, start_index=j, axis=1)
        return [put_in(x, one) for x, one in zip(made, column(j), strict=True)]

    columns = jax.tree.leaves(states)[0].shape[1]
    shapes = jax.eval_shape(column, 0)
    nothing = [jnp.zeros((x.shape[0], columns, *x.shape[2:]), x.dtype) for x in shapes]
    return jax.tree.unflatten(structures[0], jax.lax.fori_loop(0, columns, put, nothing))


def kept(state: Any) -> Any:
    """A state as a detector keeps it, in memory of its own: moments on the grid packed, others as they are.

    Args:
        state: of a fit.
    """
    if isinstance(state, Pictures):  # which nothing updates in place
        return state
    return pack(state) if kind_of(state) == "moments" else jax.tree.map(jnp.copy, state)


def pack_up(state: Any) -> tuple[Any, Any]:
    """A state as a detector keeps it, and what its precision is to be made of.

    Args:
        state: of a fit, packed or not. The scatter of moments on the grid is given back, so that there aren't
            both when the precision is made.

    Returns:
        `kept` of the state; and the same where that is packed, otherwise the state.
    """
    if isinstance(state, Packed):
        return state, state
    made = kept(state)
    if not isinstance(made, Packed):
        return made, state
    state.scatter.delete()
    return made, made


def unkept(state: Any) -> Any:
    """A state as a fit takes it again, in memory of its own.

    Args:
        state: by `kept`.
    """
    if isinstance(state, Pictures):
        return state
    return unpack(state) if isinstance(state, Packed) else jax.tree.map(jnp.copy, state)


def summed(state: Any) -> Any:
    """A state that is a sum over pictures: of `Pictures` the moments on the grid, others as they are.

    Args:
        state: of a fit, not packed.
    """
    return _moments_of(state.z) if isinstance(state, Pictures) else state


@jax.jit
def _moments_of(z: jax.Array) -> Moments:
    return over_grid(moments.of_batch)(z)


def kind_of(state: Any) -> Needs:
    """What a precision can be made from a state for.

    Args:
        state: of a fit, packed or not.

    Returns:
        One of `Needs` but "either".
    """
    if isinstance(state, Pictures):
        return "pictures"
    if isinstance(state, Pooled):
        return "pooled"
    return "moments" if state.count.ndim else "one set"


def pictures_of(state: Any) -> int:
    """N of a state on the grid.

    Args:
        state: of a fit, packed or not, but not one set of all locations' vectors.
    """
    if isinstance(state, Pictures):
        return state.z.shape[2]
    # On several hosts not every one has the first row.
    return int(np.asarray(state.count.addressable_shards[0].data)[0, 0])


def statistic_of(state: Any) -> Statistic:
    """The kind of a state that is a sum over pictures.

    Args:
        state: of a fit, packed or not.
    """
    return STATISTICS[kind_of(state)]


def named(state: Any) -> tuple[str, dict[str, jax.Array], dict[str, jax.Array]]:
    """A state of a fit, or a precision, as a file keeps it.

    Args:
        state: of this page, or a precision.

    Returns:
        The name of its kind; its arrays by name that have the grid's rows as first axis; the others.
    """
    if isinstance(state, Triangle):
        return "triangular", {"packed": _pack_lower(state)}, {}
    kind = next(name for name, (made, _) in _KINDS.items() if isinstance(state, made))
    whole = _KINDS[kind][1]
    one = state.one if isinstance(state, Shared) else state
    arrays = {"matrix": one.matrix} if isinstance(one, Whitener) else vars(one)
    rows = {name: array for name, array in arrays.items() if name not in whole}
    return kind, rows, {name: array for name, array in arrays.items() if name in whole}


def of_named(kind: str, arrays: dict[str, jax.Array]) -> Any:
    """The state, or the precision, that `named` took apart.

    Args:
        kind: its name.
        arrays: all of its arrays by name.
    """
    if kind == "triangular":
        return _unpack_lower(arrays["packed"])
    if kind == "whitener":
        return Whitener.of(arrays["matrix"])
    if kind == "shared":
        return Shared(Whitener.of(arrays["matrix"]))
    return _KINDS[kind][0](**arrays)


@jax.jit
def matrices_of(triangle: Triangle) -> jax.Array:
    """M of each location, with nothing else of its size beside it.

    Args:
        triangle: on the grid.

    Returns:
        (H, W, k, k).
    """
    return by_columns(lambda some: some.matrix, triangle)


@jax.jit
def _pack_lower(triangle: Triangle) -> jax.Array:
    return by_columns(lambda some: pack_lower(some.matrix), triangle)


@jax.jit
def _unpack_lower(packed: jax.Array) -> Triangle:
    return by_columns(lambda some: Triangle.of(unpack_lower(some)), packed)


# By name: the class, and which of its arrays don't begin with the grid's rows.
_KINDS: dict[str, tuple[type, tuple[str, ...]]] = {
    "moments": (Packed, ()),
    "pooled": (Pooled, POOLED.whole),
    "one set": (Moments, ONE_SET.whole),
    "pictures": (Pictures, ()),
    "whitener": (Whitener, ()),
    "shared": (Shared, ("matrix",)),
    "dual": (Dual, ()),
}
