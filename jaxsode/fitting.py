"""Feature maps of good pictures → moments → whitener, each number of the H·W·k² state in place.

The pictures are embedded a group at a time and the moments updated once for the whole group, since an update
takes all H·W·k² numbers through memory however few pictures it adds. The state may be sharded over the rows
of the grid; every device then updates and factorises its own.
"""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxsode import algebra
from jaxsode.algebra import Moments, over_grid
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.pictures import own

FeatureMaps = tuple[jax.Array, ...]

GROUP = 32
"""Pictures embedded before the moments are updated, at most, unless a single batch has more."""

_MATRICES = 256
"""Factorised at once."""

NO_PICTURES = "there are no pictures to fit on: give at least one good picture"


def check_range(epsilon: float, sigma: float) -> None:
    """Refuse what would fail, or come out as nonsense, only after all pictures are through.

    Raises:
        ArgumentError: ε ≤ 0 or σ < 0, or one of them not finite, in float32.
    """
    smallest, largest = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
    if not smallest <= epsilon <= largest:
        raise ArgumentError(
            f"epsilon = {epsilon} is not above 0 and finite: the paper uses 0.01 (0.3 for mSTC)"
        )
    if not 0 <= sigma <= largest:
        raise ArgumentError(f"sigma = {sigma} is not at least 0 and finite: the paper uses 4")


def embedding_matrix(name: str, seed: int, features: int, k: int) -> jax.Array:
    """`algebra.embedding` of a seed, in one compiled program."""
    return _embedding(name, jax.random.key(seed), features, k)


@partial(jax.jit, static_argnums=(0, 2, 3))
def _embedding(name: str, key: jax.Array, features: int, k: int) -> jax.Array:
    return algebra.embedding(name, key, features, k)


@jax.jit
def embed(W: jax.Array, maps: FeatureMaps) -> jax.Array:
    """Embedded features of pictures, on the finest grid.

    Args:
        W: (F, k) the embedding.
        maps: a (N, h, w, C) array for each scale.

    Returns:
        z, (N, H, W, k).
    """
    return algebra.project_then_align(maps, W)


def accumulate(
    embedded: Iterable[tuple[jax.Array | np.ndarray, int]], *, sharding: NamedSharding | None = None
) -> Moments:
    """The moments, at each location, of all pictures' embedded features.

    Args:
        embedded: pairs of (B, H, W, k) embedded features and how many of their first rows count; every batch
            has as many rows.
        sharding: of the state over the rows of the grid; `over_rows` makes one.

    Returns:
        Moments on the grid, (H, W, …); parts gathered apart merge by `over_grid(merge)`.

    Raises:
        DataError: no batches.
        ArgumentError: the grid's rows don't divide evenly among the devices.
    """
    moments = group = None
    weight = np.zeros(0, np.float32)
    filled = 0
    for z, valid in embedded:
        rows = z.shape[0]
        if moments is None or group is None:
            weight = np.zeros(rows * max(1, GROUP // rows), np.float32)
            moments, group = _nothing(z.shape[1:3], len(weight), z.shape[3], sharding)
        group = _place(group, own(z), filled, sharding)
        weight[filled : filled + rows] = np.arange(rows) < valid
        filled += rows
        if filled == len(weight):
            moments = _update(moments, group, weight, sharding)
            weight[:] = 0
            filled = 0
    if moments is None or group is None:
        raise DataError(NO_PICTURES)
    if filled:
        moments = _update(moments, group, weight, sharding)
    return moments


def factorise(moments: Moments, epsilon: float) -> jax.Array:
    """The whitener at each location, in the memory of the moments' scatter, which is used up.

    Args:
        moments: on the grid, (H, W, …), of at least one picture; sharded over rows or not.
        epsilon: ε > 0.

    Returns:
        (H, W, k, k) lower triangular, sharded as the scatter was.

    Raises:
        NumericalError: C + εI is not positive definite, or not finite, at some location.
    """
    sharding = moments.scatter.sharding
    over = sharding if isinstance(sharding, NamedSharding) and sharding.num_devices > 1 else None
    whitener = _factorise(moments.scatter, moments.count, epsilon, over)
    bad, first = (int(number) for number in _failed(whitener))
    if bad:
        i, j = divmod(first, whitener.shape[1])
        raise NumericalError(
            f"C + εI can't be factorised at location ({i}, {j}), nor at {bad - 1} others: "
            "its features are not finite or far out of scale; raise epsilon or check the pictures and weights"
        )
    return whitener


def over_rows(mesh: jax.sharding.Mesh, axis: str = "locations") -> NamedSharding:
    """The sharding of an (H, W, …) state over the rows of the grid.

    Args:
        mesh: of devices, of one host or several.
        axis: of the mesh, along which the rows are dealt out.

    Raises:
        ArgumentError: the mesh has no such axis.
    """
    if axis not in mesh.axis_names:
        raise ArgumentError(f"the mesh has the axes {mesh.axis_names} and none called {axis!r}: name one so")
    return NamedSharding(mesh, PartitionSpec(axis))


def _nothing(
    grid: tuple[int, ...], rows: int, k: int, sharding: NamedSharding | None
) -> tuple[Moments, jax.Array]:
    """Moments of no pictures, and a group (H, W, rows, k) with nothing in it."""
    if sharding is not None:
        try:
            sharding.shard_shape(grid)
        except ValueError as error:
            raise ArgumentError(
                f"the grid's {grid[0]} rows don't divide along {sharding.spec} of the mesh "
                f"{dict(sharding.mesh.shape)}: choose one whose size there divides them"
            ) from error
    return jax.jit(_zeros, static_argnums=(0, 1, 2), out_shardings=sharding)(grid, rows, k)


def _zeros(grid: tuple[int, ...], rows: int, k: int) -> tuple[Moments, jax.Array]:
    return algebra.empty(k, grid=grid), jnp.zeros((*grid, rows, k), jnp.float32)


@partial(jax.jit, donate_argnums=0, static_argnums=3)
def _place(group: jax.Array, z: jax.Array, start: jax.Array, sharding: NamedSharding | None) -> jax.Array:
    """Put a batch (B, H, W, k) into the group (H, W, G, k) at `start` of its third axis."""
    z = _kept(jnp.moveaxis(z, 0, 2), sharding)
    return _kept(jax.lax.dynamic_update_slice_in_dim(group, z, start, axis=2), sharding)


def _update(
    moments: Moments, group: jax.Array, weight: np.ndarray, sharding: NamedSharding | None
) -> Moments:
    # No more at once than are summed without another array as large as the state.
    for start in range(0, len(weight), GROUP):
        moments = _update_by(moments, group, weight[start : start + GROUP].copy(), start, sharding)
    return moments


@partial(jax.jit, donate_argnums=0, static_argnums=4)
def _update_by(
    moments: Moments, group: jax.Array, weight: jax.Array, start: jax.Array, sharding: NamedSharding | None
) -> Moments:
    part = jax.lax.dynamic_slice_in_dim(group, start, weight.shape[0], axis=2)
    updated = over_grid(algebra.update, in_axes=(0, 0, None))(moments, part, weight)
    return jax.tree.map(lambda x: _kept(x, sharding), updated)


@partial(jax.jit, donate_argnums=0, static_argnums=3)
def _factorise(
    scatter: jax.Array, count: jax.Array, epsilon: jax.Array, sharding: NamedSharding | None
) -> jax.Array:
    if sharding is None:
        return _factorise_rows(scatter, count, epsilon)
    # A library's factorisation is a call that the partitioner can't look into: it would gather the grid.
    own_rows = jax.shard_map(
        _factorise_rows,
        mesh=sharding.mesh,
        in_specs=(sharding.spec, sharding.spec, PartitionSpec()),
        out_specs=sharding.spec,
    )
    return own_rows(scatter, count, epsilon)


def _factorise_rows(scatter: jax.Array, count: jax.Array, epsilon: jax.Array) -> jax.Array:
    """A few rows of the grid after the other, so that little is held besides the state itself."""
    H, width = count.shape
    # As many as make a batch worth the name, and divide H: a row must not be factorised twice.
    rows = max(n for n in range(1, max(1, _MATRICES // width) + 1) if H % n == 0)

    def block(i: jax.Array, state: jax.Array) -> jax.Array:
        start = i * rows
        part, n = (jax.lax.dynamic_slice_in_dim(x, start, rows) for x in (state, count))
        C = part / n[:, :, None, None]
        M = over_grid(algebra.whitener, in_axes=(0, None))(C, epsilon)
        return jax.lax.dynamic_update_slice_in_dim(state, M, start, axis=0)

    return jax.lax.fori_loop(0, H // rows, block, scatter)


@jax.jit
def _failed(whitener: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How many locations have a whitener that is not finite, and the first of them, counted row by row."""
    failed = ~jnp.isfinite(jnp.diagonal(whitener, axis1=-2, axis2=-1)).all(-1)
    return failed.sum(), failed.argmax()


def _kept(x: jax.Array, sharding: NamedSharding | None) -> jax.Array:
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)
