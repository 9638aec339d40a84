"""How the grid's rows lie on devices and hosts: put there from a file, and cut into blocks for one."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsode.errors import ArgumentError
from jaxsode.meshes import ROWS, automatic, over_rows

BLOCK = 2**28
"""Bytes of a block of rows in a file, at most, unless a single row has more."""


def dealt(shape: tuple[int, ...], mesh: Mesh) -> NamedSharding:
    """How an array of the grid's rows lies on a mesh: by its axis `locations`, if it has one, else whole.

    Args:
        shape: (H, …).
        mesh: of devices.

    Raises:
        ArgumentError: the rows don't divide evenly among the devices.
    """
    if ROWS not in mesh.axis_names:
        return _everywhere(mesh)
    sharding = over_rows(mesh)
    try:
        sharding.shard_shape(shape)
    except ValueError as error:
        raise ArgumentError(
            f"the grid's {shape[0]} rows don't divide among {mesh.shape[ROWS]} devices: "
            f"choose a mesh whose axis {ROWS!r} divides them"
        ) from error
    return sharding


def everywhere(array: Any, mesh: Mesh) -> jax.Array:
    """A host's array, whole on each of a mesh's devices.

    Args:
        array: of any shape, the same on every host.
        mesh: of devices.

    Returns:
        The array, of the same shape.
    """
    array = np.asarray(array)
    # Not `device_put`, which has the hosts compare what they put.
    return jax.make_array_from_callback(array.shape, _everywhere(mesh), array.__getitem__)


def assembled(
    shape: tuple[int, ...],
    dtype: Any,
    sharding: jax.sharding.Sharding,
    rows: Callable[[int, int], np.ndarray],
) -> jax.Array:
    """An array over several devices from the rows that each one needs.

    Args:
        shape: of the whole, (H, …).
        dtype: of the whole.
        sharding: over its first axis at most.
        rows: (start, stop) → those rows.
    """

    def part(index: Sequence[slice] | None) -> np.ndarray:
        assert index is not None
        start, stop, _ = index[0].indices(shape[0])
        return rows(start, stop)[(slice(None), *index[1:])].astype(dtype)

    return jax.make_array_from_callback(shape, sharding, part)


def gathered(array: jax.Array) -> np.ndarray:
    """An array, whole in this host's memory, however it lies on devices and hosts.

    Args:
        array: of any shape. Every host that has a part of it calls this.
    """
    if array.is_fully_addressable:
        return np.asarray(array)
    assert isinstance(array.sharding, NamedSharding)
    return np.asarray(_whole_on(NamedSharding(array.sharding.mesh, PartitionSpec()))(array))


@functools.cache
def _whole_on(sharding: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=sharding)


def row_blocks(rows: dict[str, jax.Array]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The rows that this host has to write, block by block: at most `BLOCK` bytes, of one device each.

    Args:
        rows: arrays by name, (H, …). Every host calls this with all of them.
    """
    if not rows:
        return iter(())
    layouts = [_by_rows(array) for array in rows.values()]
    if layouts[0] is None or any(layout != layouts[0] for layout in layouts):
        parts = [(0, {name: gathered(array) for name, array in rows.items()})]
        parts = parts if jax.process_index() == 0 else []
    else:
        found: dict[int, dict[str, Any]] = {}
        for name, array in rows.items():
            alone = array.is_fully_addressable and jax.process_index() != 0
            for shard in () if alone else array.addressable_shards:
                if shard.replica_id == 0:
                    found.setdefault(shard.index[0].start or 0, {})[name] = shard.data
        parts = sorted(found.items())
    return _cut(parts)


def _cut(parts: Sequence[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    for start, arrays in parts:
        count = len(next(iter(arrays.values())))
        each = sum(array.nbytes for array in arrays.values()) // count
        blocks = -(-count // max(1, BLOCK // max(1, each)))
        size = -(-count // blocks)
        for at in range(0, count, size):
            stop = min(at + size, count)
            yield start + at, {name: _some(array, at, stop) for name, array in arrays.items()}


def _some(array: Any, start: int, stop: int) -> np.ndarray:
    if (start, stop) == (0, len(array)) or isinstance(array, np.ndarray):
        return np.asarray(array)[start:stop]
    # Cut where it is: a host needn't have room for all of a device's rows.
    return np.asarray(jax.lax.dynamic_slice_in_dim(array, start, stop - start))


def _by_rows(array: jax.Array) -> dict[Any, tuple[int, int]] | None:
    """Which rows each device has; None if one has less than whole rows."""
    layout = {}
    for device, index in array.sharding.devices_indices_map(array.shape).items():
        spans = [part.indices(size) for part, size in zip(index, array.shape, strict=True)]
        if any(span != (0, size, 1) for span, size in zip(spans[1:], array.shape[1:], strict=True)):
            return None
        layout[device] = spans[0][:2]
    return layout


def _everywhere(mesh: Mesh) -> NamedSharding:
    return NamedSharding(automatic(mesh), PartitionSpec())
