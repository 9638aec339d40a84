"""Several devices: a state dealt out over the rows of the grid, a batch over its pictures.

A mesh's axes are left to XLA's partitioner, however the mesh was made: `jax.make_mesh` makes them explicit,
part of every array's type, and a mesh that `jax.set_mesh` made active is a context of every call. Both would
ask every operation of a backbone to name the sharding of its result.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsode.errors import ArgumentError

P = ParamSpec("P")
R = TypeVar("R")

ROWS, PICTURES = "locations", "pictures"
"""The axes of a mesh that mean something here; either may be missing, and others are ignored."""


def automatic(mesh: Mesh) -> Mesh:
    """The same mesh with all axes left to XLA's partitioner.

    Args:
        mesh: of devices, of one host or several.
    """
    return Mesh(mesh.devices, mesh.axis_names)


def check_mesh(mesh: Any) -> None:
    """Refuse what is no mesh of devices.

    Args:
        mesh: what was given for one; None is none, and right.

    Raises:
        ArgumentError: it is something else.
    """
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ArgumentError(f"the mesh is a {type(mesh).__name__}: give one that jax.make_mesh made, or none")


def over_rows(mesh: Mesh, axis: str = ROWS) -> NamedSharding:
    """The sharding of an (H, W, …) state over the rows of the grid.

    Args:
        mesh: of devices, of one host or several.
        axis: of the mesh, along which the rows are dealt out.

    Raises:
        ArgumentError: the mesh has no such axis.
    """
    if axis not in mesh.axis_names:
        raise ArgumentError(f"the mesh has the axes {mesh.axis_names} and none called {axis!r}: name one so")
    return NamedSharding(automatic(mesh), PartitionSpec(axis))


def rows_of(array: jax.Array) -> NamedSharding | None:
    """The sharding of a state over several devices; None on one.

    Args:
        array: of the state, (H, W, …).
    """
    sharding = array.sharding
    return sharding if isinstance(sharding, NamedSharding) and sharding.num_devices > 1 else None


def check_rows(grid: tuple[int, ...], sharding: NamedSharding) -> None:
    """Refuse a grid whose rows don't divide evenly among the devices.

    Args:
        grid: (H, W, …).
        sharding: by `over_rows`.

    Raises:
        ArgumentError: they don't.
    """
    try:
        sharding.shard_shape(grid)
    except ValueError as error:
        raise ArgumentError(
            f"the grid's {grid[0]} rows don't divide along {sharding.spec} of the mesh "
            f"{dict(sharding.mesh.shape)}: choose one whose size there divides them"
        ) from error


def dealt_out(pictures: np.ndarray | jax.Array, mesh: Mesh | None) -> np.ndarray | jax.Array:
    """The batch, spread over the mesh's axis `pictures`; if it has none, whole on every device.

    Args:
        pictures: (N, height, width, C).
        mesh: of devices, or None.

    Raises:
        ArgumentError: N doesn't divide among them.
    """
    if mesh is None:
        return pictures
    axis = PICTURES if PICTURES in mesh.axis_names else None
    if axis is not None and len(pictures) % mesh.shape[axis]:
        raise ArgumentError(
            f"a batch of {len(pictures)} pictures doesn't divide among the {mesh.shape[axis]} devices along "
            f"the mesh's axis {axis!r}: give batches that do"
        )
    sharding = NamedSharding(automatic(mesh), PartitionSpec(axis))
    elsewhere = isinstance(pictures, jax.Array) and not pictures.is_fully_addressable
    if sharding.is_fully_addressable or elsewhere:
        return jax.device_put(pictures, sharding)
    # Not `device_put`, which has the hosts compare what they put: NaN is not itself.
    array = np.asarray(pictures)
    return jax.make_array_from_callback(array.shape, sharding, array.__getitem__)


def relaxed(array: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """An array that is dealt out over explicit axes, over the same ones left to XLA; others as they are.

    Args:
        array: of any shape, or a tracer.
    """
    if not isinstance(array, jax.Array) or isinstance(array, Tracer):
        return array
    sharding = array.sharding
    if not isinstance(sharding, NamedSharding) or sharding.mesh.are_all_axes_auto:
        return array
    mesh = sharding.mesh
    assert isinstance(mesh, Mesh)  # an array lies on real devices
    return jax.device_put(array, NamedSharding(automatic(mesh), sharding.spec))


def set_aside(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator: the function, or generator, runs as if no mesh had been made active by `jax.set_mesh`.

    Inside of a `jax.jit`, where a mesh can't be changed, it changes nothing.
    """
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def steps(*arguments: Any, **options: Any) -> Iterator[Any]:
            made: Any = function(*arguments, **options)
            end = object()
            try:
                while True:
                    with _no_mesh():
                        one = next(made, end)
                    if one is end:
                        return
                    yield one
            finally:
                made.close()

        return steps  # pyright: ignore[reportReturnType]

    @functools.wraps(function)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        with _no_mesh():
            return function(*arguments, **options)

    return call


def _no_mesh() -> AbstractContextManager[Any]:
    try:
        active = jax.sharding.get_mesh()
    except ValueError:  # inside of a jit
        return nullcontext()
    return nullcontext() if active.empty else jax.set_mesh(None)
