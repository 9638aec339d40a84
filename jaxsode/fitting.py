"""Feature maps of good pictures → statistics → precision, of H·W·k² numbers that are updated in place.

The pictures are embedded a group at a time and the statistics updated once for the whole group, since an
update takes all H·W·k² numbers through memory however few pictures it adds. The state may be sharded over the
rows of the grid; every device then updates and factorises its own.
"""

import ctypes
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from jaxsode import algebra, kernels
from jaxsode.algebra import embedding, over_grid
from jaxsode.algebra.dual import cheaper
from jaxsode.algebra.moments import Moments
from jaxsode.algebra.packing import unpack_symmetric
from jaxsode.algebra.pooled import Pooled
from jaxsode.algebra.precision import FULL_RANK, PRECISIONS, Needs, Shared, Spec, Triangle, Whitener
from jaxsode.backbones.packing import Network
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.meshes import check_rows, rows_of
from jaxsode.method import Method
from jaxsode.overall import Overall, epsilon_of, of_state
from jaxsode.pictures import SLACK, own
from jaxsode.statistics import MOMENTS, Packed, Pictures, Statistic, kind_of, unpacked

FeatureMaps = tuple[jax.Array, ...]

GROUP = 16
"""Pictures embedded before the statistics are updated, at most, unless a single batch has more."""

_SCALED = 32
"""Pictures by which layers are scaled, at most."""

_MATRICES, _NUMBERS = 256, 2**25
"""Factorised at once, at most; unless a single row of the grid has more."""

NO_PICTURES = "there are no pictures to fit on: give at least one good picture"


def of_backbone(method: Method, backbone: Backbone) -> Method:
    """The method with the layers that the backbone has, which are its own if it names some.

    Args:
        method: see `Method`.
        backbone: see `Backbone`.

    Raises:
        ArgumentError: the method is of other layers, or has another number of windows.
    """
    windows = method.pooling
    if isinstance(windows, tuple) and len(windows) != len(backbone.channels):
        raise ArgumentError(
            f"pooling {','.join(map(str, windows))} for {len(backbone.channels)} feature maps: give one "
            "window, or one for each"
        )
    layers = getattr(backbone, "layers", None)
    layers = None if layers is None else tuple(layers)
    if method.layers is not None and method.layers != layers:
        raise ArgumentError(
            f"the method is of layers {method.layers} and the backbone of {layers}: create it with those"
        )
    return dataclasses.replace(method, layers=layers)


def resolved(method: Method, features: int, pictures: int | None) -> tuple[Method, Needs]:
    """The method with a precision that is made one way, and what it is made from.

    Args:
        method: its precision may be "full-rank": then the cheaper one of "local" and "dual".
        features: F of the backbone.
        pictures: N, None where it isn't known beforehand: then full rank is "local", and eigenvectors, for
            which a number above F would be cheaper from moments, are made from the pictures.

    Returns:
        The method, and one of `Needs` but "either".
    """
    k = method.size(features)
    if method.precision == FULL_RANK:
        dual = pictures is not None and cheaper(pictures, k) == "dual"
        method = method.recorded(precision="dual" if dual else "local")
    needs = PRECISIONS[method.precision].needs
    if needs == "either":
        needs = "moments" if pictures is not None and pictures > k else "pictures"
    return method, needs


def extract(backbone: Backbone, pictures: np.ndarray | jax.Array) -> FeatureMaps:
    """Feature maps of pictures.

    Args:
        backbone: see `Backbone`.
        pictures: (N, height, width, 3 or 1), uint8 or float in [0, 1]; grey is repeated to three channels.
            On CPUs that share a batch it is to be called outside of `jit`, or each does all of it.

    Returns:
        A (N, h, w, C) array for each scale, finest first; NaN around a float outside [0, 1].
    """
    return extract_(backbone, own(pictures))


def extract_(backbone: Backbone, pictures: np.ndarray | jax.Array) -> FeatureMaps:
    """As for `extract`, of pictures that nobody else writes to: it copies nothing."""
    network = Network.of(backbone, pictures)
    with kernels.evaluated(network.here):
        return _extract(network, pictures, are_shared(pictures))


def are_shared(pictures: Any) -> bool:
    """Whether several devices have a part of them each: then all are done at once."""
    if not isinstance(pictures, jax.Array) or isinstance(pictures, Tracer):
        return False
    return not pictures.sharding.is_fully_replicated


@partial(jax.jit, static_argnums=2)
def _extract(network: Network, pictures: jax.Array, shared: bool) -> FeatureMaps:
    features = partial(_features, network.backbone)
    return features(pictures) if shared else kernels.few_at_once(features, pictures)


def embedded(
    backbone: Backbone,
    W: jax.Array,
    pictures: jax.Array,
    *,
    shared: bool = False,
    pooling: int | tuple[int, ...] = 1,
    align: str = "nearest",
) -> jax.Array:
    """`extract`, then `embed`, in one program: no feature maps of all pictures lie between the two.

    Args:
        backbone, pictures: see `extract_`.
        W, pooling, align: see `embed`.
        shared: see `are_shared`.

    Returns:
        z, (N, H, W, k).
    """

    def of_some(pictures: jax.Array) -> jax.Array:
        return embed(W, _features(backbone, pictures), pooling=pooling, align=align)

    return of_some(pictures) if shared else kernels.few_at_once(of_some, pictures)


def embed_pictures(backbone: Backbone, W: jax.Array, pictures: Any, method: Method) -> jax.Array:
    """`extract_`, then `embed`, in one program, of pictures that nobody else writes to.

    Args:
        backbone, pictures: see `extract_`.
        W: (F, k) the embedding.
        method: whose pooling and alignment is wanted.

    Returns:
        z, (N, H, W, k).
    """
    network = Network.of(backbone, W, pictures)
    with kernels.evaluated(network.here):
        return _embed_pictures(network, W, pictures, are_shared(pictures), method.pooling, method.align)


@partial(jax.jit, static_argnums=(3, 4, 5))
def _embed_pictures(
    network: Network,
    W: jax.Array,
    pictures: jax.Array,
    shared: bool,
    pooling: int | tuple[int, ...],
    align: str,
) -> jax.Array:
    return embedded(network.backbone, W, pictures, shared=shared, pooling=pooling, align=align)


def _features(backbone: Backbone, pictures: jax.Array) -> FeatureMaps:
    x = pictures.astype(jnp.float32)
    # What lies outside [0, 1] is made NaN: it would make a finite feature that means nothing.
    x = x / 255 if pictures.dtype == jnp.uint8 else jnp.where((x >= -SLACK) & (x <= 1 + SLACK), x, jnp.nan)
    with kernels.evaluated(False):  # a backbone may be anybody's
        return backbone(jnp.broadcast_to(x, (*x.shape[:3], 3)))


def grid_of(backbone: Backbone, size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of the finest feature map.

    Args:
        backbone: see `Backbone`.
        size: (height, width) of the pictures.
    """
    picture = jax.ShapeDtypeStruct((1, *size, 3), np.uint8)
    H, W = jax.eval_shape(extract_, backbone, picture)[0].shape[1:3]
    return H, W


@partial(jax.jit, static_argnames=("pooling", "align"))
def embed(
    W: jax.Array, maps: FeatureMaps, *, pooling: int | tuple[int, ...] = 1, align: str = "nearest"
) -> jax.Array:
    """Embedded features of pictures, on the finest grid.

    Args:
        W: (F, k) the embedding.
        maps: a (N, h, w, C) array for each scale.
        pooling, align: see `Method`.

    Returns:
        z, (N, H, W, k).
    """
    return algebra.pyramid.project_then_align(maps, W, pooling=pooling, method=align)


def each_embedded(
    W: jax.Array, batches: Iterable[tuple[FeatureMaps, int]], method: Method
) -> Iterator[tuple[jax.Array, int]]:
    """`embed` of batch after batch, which holds no more than one at a time.

    Args:
        W: (F, k) the embedding.
        batches: pairs of feature maps, a (B, h, w, C) array for each scale, and how many rows count.
        method: whose pooling and alignment is wanted.

    Yields:
        z, (B, H, W, k), and how many rows count.
    """
    for maps, valid in batches:
        z = embed(W, maps, pooling=method.pooling, align=method.align)
        del maps
        yield z, valid
        del z


def scaled(
    W: jax.Array, batches: Iterable[tuple[FeatureMaps, int]], method: Method
) -> tuple[jax.Array, Iterator[tuple[FeatureMaps, int]]]:
    """W with each layer's scale folded in, if the method scales its layers; and the batches, all of them.

    A layer's scale is 1 over the root of its mean variance, over the first pictures, at each location of its
    own grid, as it is pooled. The first batches, up to 32 pictures, are held until it is known.

    Args:
        W: (F, k) the embedding, Q.
        batches: pairs of feature maps, a (B, h, w, C) array for each scale, and how many rows count.
        method: see `Method`.

    Returns:
        diag(s) · Q, (F, k), and the batches. Of a method that scales nothing, both as they were.

    Raises:
        DataError: fewer than two pictures.
        NumericalError: a layer's features don't vary, or are not finite.
    """
    batches = iter(batches)
    if method.scale == "none":
        return W, batches
    first, held = [], 0
    while held < _SCALED and (batch := next(batches, None)) is not None:
        first.append(batch)
        held += batch[1]
    if held < 2:
        raise DataError(f"scale 'layer' is of how pictures vary, and there are {held}: give at least two")
    parts = [[m[:valid] for m in maps] for maps, valid in first]
    windows = [method.pooling] * len(parts[0]) if isinstance(method.pooling, int) else method.pooling
    scales = []
    for number, (layer, window) in enumerate(zip(zip(*parts, strict=True), windows, strict=True), start=1):
        variance = float(_variance(layer, window))
        if not (variance > 0 and np.isfinite(variance)):
            raise NumericalError(
                f"the mean variance of feature map {number} is {variance} over the first "
                f"{min(held, _SCALED)} pictures, and no scale comes of it: check them, or set scale to none"
            )
        scales.append(np.full(layer[0].shape[-1], variance**-0.5, np.float32))
    return W * jnp.asarray(np.concatenate(scales))[:, None], chain(first, batches)


@partial(jax.jit, static_argnums=1)
def _variance(parts: Sequence[jax.Array], window: int) -> jax.Array:
    x = algebra.pyramid.pool(jnp.concatenate(parts)[:_SCALED], window)
    return jnp.mean(jnp.var(x, axis=0))


def accumulate(
    embedded: Iterable[tuple[jax.Array | np.ndarray, int]],
    *,
    statistic: Statistic = MOMENTS,
    state: Any = None,
    sharding: NamedSharding | None = None,
) -> Any:
    """The statistics, at each location, of all pictures' embedded features.

    Args:
        embedded: pairs of (B, H, W, k) embedded features and how many of their first rows count; every batch
            has as many rows.
        statistic: which; by default each location's moments.
        state: of pictures that were gathered before, whose memory is used up; none by default.
        sharding: of the state over the rows of the grid; `jaxsode.meshes.over_rows` makes one.

    Returns:
        The statistic's state on the grid, (H, W, …); parts gathered apart merge by `statistic.merge`.

    Raises:
        DataError: no batches.
        ArgumentError: the grid's rows don't divide evenly among the devices.
    """
    group = None
    where = np.zeros(0, bool)
    filled = 0
    for z, valid in embedded:
        rows = z.shape[0]
        if group is None:
            where = np.zeros(rows * max(1, GROUP // rows), bool)
            state, group = _nothing(
                statistic, state, (z.shape[1], z.shape[2]), len(where), z.shape[3], sharding
            )
        group = _place(group, own(z), filled, sharding)
        del z  # not held while the next are extracted
        where[filled : filled + rows] = np.arange(rows) < valid
        filled += rows
        if filled == len(where):
            state = _update(statistic, state, group, where, sharding)
            where[:] = False
            filled = 0
    if group is None:
        raise DataError(NO_PICTURES)
    if filled:
        state = _update(statistic, state, group, where, sharding)
    return state


def collect(
    embedded: Iterable[tuple[jax.Array | np.ndarray, int]], *, sharding: NamedSharding | None = None
) -> Pictures:
    """The embedded features of all pictures, kept: H·W·N·k numbers.

    Args:
        embedded, sharding: as for `accumulate`.

    Returns:
        The pictures, (H, W, N, k).

    Raises:
        DataError: no batches.
        ArgumentError: the grid's rows don't divide evenly among the devices.
    """
    batches = [own(z)[:valid] for z, valid in embedded]
    if not batches:
        raise DataError(NO_PICTURES)
    if sharding is not None:
        check_rows(batches[0].shape[1:3], sharding)
    return Pictures(_collected(batches, sharding))


def spec_of(state: Any, method: Method) -> Spec:
    """How a method's precision is made of a state.

    Raises:
        ArgumentError: it is made from another kind of state.
    """
    spec = PRECISIONS.get(method.precision)
    kind = kind_of(state)
    either = ("moments", "pictures")
    if spec is None or kind not in (either if spec.needs == "either" else (spec.needs,)):
        raise ArgumentError(f"precision {method.precision!r} isn't made from {kind}: gather what it needs")
    return spec


def precision_of(state: Any, method: Method, overall: Overall | None = None) -> tuple[jax.Array, Any]:
    """Mean and precision of gathered statistics.

    Args:
        state: moments on the grid, packed, or not: then their scatter is used up, see `factorise`; or another
            kind of `jaxsode.statistics`. Sharded over rows or not.
        method: whose precision is wanted, one that is made from this kind of state.
        overall: of all locations, see `jaxsode.overall.of_state`; of the state where it is None.

    Returns:
        The mean (H, W, k), and the precision, of each location or shared by all; sharded as the state was.

    Raises:
        ArgumentError: the precision is made from another kind of state.
        NumericalError: it can't be factorised, or isn't finite, at some location.
    """
    spec = spec_of(state, method)
    overall = of_state(state, method) if overall is None else overall
    epsilon = epsilon_of(method, overall)
    if isinstance(state, Moments | Packed) and spec.needs == "moments":
        mean = state.mean
        whole = overall if overall is not None else Overall(jnp.zeros(()))
        blend = None if whole.covariance is None else (method.shrinkage, whole.covariance)
        weight = (method.variance_weight, whole.variance) if bool(method.variance_weight) else None
        return mean, factorise(state, epsilon, blend=blend, weight=weight)
    made = _made(state, spec, method, epsilon)
    bad, first = map(int, _failed(made[1]))
    if bad:
        shared = isinstance(made[1], Shared)
        raise NumericalError(_failure(bad, None if shared else divmod(first, made[0].shape[1])))
    return made


def factorise(moments: Moments | Packed, epsilon: Any, *, blend: Any = None, weight: Any = None) -> Triangle:
    """The whitener at each location.

    It takes about 2·H·W·k·(k + 32) bytes beside the moments, whose scatter is given back then if it is whole.

    Args:
        moments: on the grid, (H, W, …), of at least one picture; sharded over rows or not. Packed they stay
            as they are, otherwise their scatter is used up.
        epsilon: ε > 0.
        blend: (α, C̄), see `jaxsode.algebra.precision.blended`; None blends nothing.
        weight: (γ, v̄), see `jaxsode.algebra.precision.weight`; None multiplies by nothing.

    Returns:
        Of each location, M lower triangular, sharded as the scatter was.

    Raises:
        NumericalError: C + εI is not positive definite, or not finite, at some location.
    """
    settings = (epsilon, blend, weight)
    packed = isinstance(moments, Packed)
    _trim()
    with kernels.evaluated(kernels.is_here(moments.scatter, moments.count, settings)):
        made, failed = _factorise(moments.scatter, moments.count, settings, rows_of(moments.scatter), packed)
    bad, first = map(int, failed)
    if not packed:
        moments.scatter.delete()
    if bad:
        raise NumericalError(_failure(bad, divmod(first, moments.count.shape[1])))
    return made


def _trim() -> None:
    """Gives back what the C library keeps of freed memory: compiling leaves .1 GB, and the peak comes now."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


def _failure(bad: int, place: tuple[int, int] | None) -> str:
    where = "" if place is None else f" at location ({place[0]}, {place[1]}), nor at {bad - 1} others"
    return (
        f"C + εI can't be factorised{where}: its features are not finite or far out of scale, as of floats "
        "outside [0, 1], or pictures were removed that were never in; raise epsilon or check the pictures "
        "and weights"
    )


def _nothing(
    statistic: Statistic,
    state: Any,
    grid: tuple[int, int],
    rows: int,
    k: int,
    sharding: NamedSharding | None,
) -> tuple[Any, jax.Array]:
    """The state of no pictures, unless there is one, and a group (H, W, rows, k) with nothing in it."""
    if sharding is not None:
        check_rows(grid, sharding)
    nothing, group = _zeros(statistic if state is None else None, grid, rows, k, sharding)
    return nothing if state is None else state, group


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _zeros(
    statistic: Statistic | None, grid: tuple[int, int], rows: int, k: int, sharding: NamedSharding | None
) -> tuple[Any, jax.Array]:
    state = None if statistic is None else statistic.init(k, grid)
    if statistic is not None and sharding is not None:
        state = _dealt(statistic, state, sharding)
    return state, _kept(jnp.zeros((*grid, rows, k), jnp.float32), sharding)


def _dealt(statistic: Statistic, state: Any, sharding: NamedSharding) -> Any:
    """The state's arrays that begin with the grid's rows dealt out, and the others everywhere."""
    everywhere = NamedSharding(sharding.mesh, PartitionSpec())
    named = {
        name: _kept(array, everywhere if name in statistic.whole else sharding)
        for name, array in vars(state).items()
    }
    return type(state)(**named)


@partial(jax.jit, donate_argnums=0, static_argnums=3)
def _place(group: jax.Array, z: jax.Array, start: jax.Array, sharding: NamedSharding | None) -> jax.Array:
    """Put a batch (B, H, W, k) into the group (H, W, G, k) at `start` of its third axis."""
    z = _kept(jnp.moveaxis(z, 0, 2), sharding)
    return _kept(jax.lax.dynamic_update_slice_in_dim(group, z, start, axis=2), sharding)


def _update(
    statistic: Statistic, state: Any, group: jax.Array, where: np.ndarray, sharding: NamedSharding | None
) -> Any:
    # No more at once than are summed without another array as large as the state.
    with kernels.evaluated(kernels.is_here(state, group)):
        for start in range(0, len(where), GROUP):
            some = where[start : start + GROUP].copy()
            state = _update_by(statistic, state, group, some, start, sharding)
    return state


@partial(jax.jit, donate_argnums=1, static_argnums=(0, 5))
def _update_by(
    statistic: Statistic,
    state: Any,
    group: jax.Array,
    where: jax.Array,
    start: jax.Array,
    sharding: NamedSharding | None,
) -> Any:
    part = jax.lax.dynamic_slice_in_dim(group, start, where.shape[0], axis=2)
    if sharding is not None:
        return _dealt(statistic, statistic.update(state, part, where), sharding)
    if statistic is MOMENTS:
        return kernels.update_moments(state, part, where, plain=statistic.update)
    return statistic.update(state, part, where)


@partial(jax.jit, static_argnums=1)
def _collected(batches: list[jax.Array], sharding: NamedSharding | None) -> jax.Array:
    return _kept(jnp.concatenate([jnp.moveaxis(z, 0, 2) for z in batches], axis=2), sharding)


@partial(jax.jit, static_argnums=(3, 4))
def _factorise(
    scatter: jax.Array, count: jax.Array, settings: Any, sharding: NamedSharding | None, packed: bool
) -> tuple[Triangle, tuple[jax.Array, jax.Array]]:
    """Of scatters that are packed or not; and what `_failed` says of it."""
    of_rows = partial(_factorise_rows, packed=packed)
    if sharding is not None:
        # A library's factorisation is a call that the partitioner can't look into: it would gather the grid.
        of_rows = _on_own_rows(of_rows, sharding, arrays=2)
    made = of_rows(scatter, count, settings)
    return made, _failed(made)


def _on_own_rows(function: Callable[..., Any], sharding: NamedSharding, *, arrays: int) -> Callable[..., Any]:
    """Each device does its own rows of the first arguments; the last one is everywhere."""
    rows = PartitionSpec(*tuple(sharding.spec)[:1])
    return jax.shard_map(
        function, mesh=sharding.mesh, in_specs=(*[rows] * arrays, PartitionSpec()), out_specs=rows
    )


def _factorise_rows(scatter: jax.Array, count: jax.Array, settings: Any, *, packed: bool) -> Triangle:
    """A few rows of the grid after the other, so that little is held besides the state and what is made."""
    H, width = count.shape
    # As many as make a batch worth the name, and divide H: a row must not be factorised twice.
    most = min(_MATRICES, _NUMBERS // scatter.shape[-2] ** 2)
    rows = max(n for n in range(1, max(1, most // width) + 1) if H % n == 0)

    def block(first: jax.Array) -> Triangle:
        # Mapped over instead, they would be copied where a block is one row.
        part, n = (jax.lax.dynamic_slice_in_dim(x, first, rows) for x in (scatter, count))
        part = unpack_symmetric(part) if packed else part
        C = part / n[:, :, None, None].astype(part.dtype)
        M = over_grid(_whitener, in_axes=(0, None))(C, settings)
        return Triangle.of(M)

    made = jax.lax.map(block, jnp.arange(0, H, rows))
    return jax.tree.map(lambda x: x.reshape(H, *x.shape[2:]), made)


def _whitener(C: jax.Array, settings: Any) -> jax.Array:
    """Of one location."""
    epsilon, blend, weight = settings
    regular = C if blend is None else algebra.precision.blended(C, blend[1], blend[0])
    M = algebra.precision.whitener(regular, epsilon)
    if weight is None:
        return M
    return M * algebra.precision.weight(jnp.trace(C) / C.shape[-1], weight[1], weight[0])


def _made(state: Any, spec: Spec, method: Method, epsilon: Any) -> tuple[jax.Array, Any]:
    """Mean and precision of the kinds that are made of other things than each location's own moments."""
    key = embedding.as_key(0 if method.seed is None else method.seed)
    k = method.k or 0
    if isinstance(state, Pooled):
        return state.mean, Shared(_shared(state, epsilon, spec))
    if isinstance(state, Moments) and spec.needs == "one set":
        return state.mean, Shared(_shared(state, epsilon, spec))
    over = rows_of(jax.tree.leaves(state)[-1])
    if isinstance(state, Pictures):
        return _of_pictures(state.z, epsilon, key, spec, k, over)
    return state.mean, _of_moments(state, epsilon, key, spec, k, over)


@partial(jax.jit, static_argnums=2)
def _shared(state: Any, epsilon: jax.Array, spec: Spec) -> Whitener:
    assert spec.of_moments is not None
    return spec.of_moments(state, epsilon, 0, None)


@partial(jax.jit, static_argnums=(3, 4, 5))
def _of_pictures(
    z: jax.Array, epsilon: jax.Array, key: jax.Array, spec: Spec, k: int, sharding: NamedSharding | None
) -> tuple[jax.Array, Any]:
    assert spec.of_pictures is not None

    def one(z: jax.Array, settings: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        mean = jnp.mean(z, axis=0)
        return mean, spec.of_pictures(z - mean[None, :], settings[0], k, settings[1])  # pyright: ignore[reportOptionalCall]

    return _row_by_row(one, z, (epsilon, key), sharding)


@partial(jax.jit, static_argnums=(3, 4, 5))
def _of_moments(
    state: Moments | Packed,
    epsilon: jax.Array,
    key: jax.Array,
    spec: Spec,
    k: int,
    sharding: NamedSharding | None,
) -> Any:
    def one(state: Any, settings: tuple[jax.Array, jax.Array]) -> Any:
        state = unpacked(state) if isinstance(state, Packed) else state
        return spec.of_moments(state, settings[0], k, settings[1])  # pyright: ignore[reportOptionalCall]

    return _row_by_row(one, state, (epsilon, key), sharding)


def _row_by_row(
    function: Callable[..., Any], state: Any, settings: Any, sharding: NamedSharding | None
) -> Any:
    """A function of one location, over the grid: a row at a time, so that little is held besides."""

    def rows(state: Any, settings: Any) -> Any:
        of_row = jax.vmap(lambda one: function(one, settings))
        return jax.lax.map(of_row, state)

    return (rows if sharding is None else _on_own_rows(rows, sharding, arrays=1))(state, settings)


@jax.jit
def _failed(precision: Any) -> tuple[jax.Array, jax.Array]:
    """How many locations have a precision that is not finite, and the first of them, counted row by row; a
    shared one fails at the first."""
    if isinstance(precision, Shared):
        failed = jnp.array([~jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(precision)]).any()[None]
    else:
        leaves = jax.tree.leaves(precision)
        failed = jnp.stack([~jnp.isfinite(x).all(tuple(range(2, x.ndim))) for x in leaves]).any(0)
    return failed.sum(), failed.argmax()


def _kept(x: jax.Array, sharding: NamedSharding | None) -> jax.Array:
    return x if sharding is None else jax.lax.with_sharding_constraint(x, sharding)
