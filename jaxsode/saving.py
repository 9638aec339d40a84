"""A detector's page and arrays, as `jaxsode.checkpoint` keeps them: what is written, and what it means."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsode import checkpoint
from jaxsode.backbones import registry
from jaxsode.backbones.protocol import Backbone, Normalisation
from jaxsode.errors import ArgumentError, CheckpointError
from jaxsode.meshes import over_rows
from jaxsode.method import Method


def fingerprint(backbone: Backbone) -> str:
    """The SHA-256 of a backbone's name, shapes and numbers, wherever they came from.

    Args:
        backbone: see `Backbone`.
    """
    digest = hashlib.sha256(backbone.name.encode())
    for leaf in jax.tree.leaves(backbone):
        array = np.asarray(leaf)
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Saved:
    """A saved detector, opened: what the page says, and the network; its rows are read when asked for.

    Attributes:
        reader: of the folder.
        backbone, W, method, size, count: see `Detector`.
        kind: of what was saved, see `jaxsode.statistics.named`.
        moments: whether that is the statistics, of which the precision is made; else the precision.
        whole: arrays that have no rows.
        shapes: (shape, dtype) of those that have, by name.
    """

    reader: checkpoint.Reader
    backbone: Backbone
    W: jax.Array
    method: Method
    size: tuple[int, int]
    count: int
    kind: str
    moments: bool
    whole: dict[str, Any]
    shapes: dict[str, tuple[tuple[int, ...], str]]

    @classmethod
    def open(cls, path: Path, backbone: Backbone | None) -> Self:
        """Open a saved detector.

        Args:
            path: its folder.
            backbone: as for `Detector.load`.

        Raises:
            CheckpointError: see `Detector.load`.
        """
        reader = checkpoint.Reader(path)
        try:
            return cls._of(reader, backbone)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} holds no whole detector: fit and save it again ({error})"
            ) from error

    @classmethod
    def _of(cls, reader: checkpoint.Reader, backbone: Backbone | None) -> Self:
        page, whole = reader.page, reader.whole()
        method = page["method"]
        layers = method["layers"] and tuple(method["layers"])
        W = jnp.asarray(whole.pop("W"))
        leaves = [whole.pop(f"backbone-{i:05d}") for i in range(page["backbone"]["leaves"])]
        return cls(
            reader=reader,
            backbone=network_of(reader.path, page["backbone"], layers, leaves, backbone),
            W=W,
            method=Method(**(method | {"layers": layers})),
            size=(page["size"][0], page["size"][1]),
            count=page["count"],
            kind=page["kind"],
            moments=page["moments"],
            whole=whole,
            shapes={name: (tuple(shape), dtype) for name, (shape, dtype) in page["rows"].items()},
        )

    def rows(self, start: int, stop: int) -> dict[str, jax.Array]:
        """Some of the grid's rows of every array but the network's, by name, on the default device."""
        read = self.reader.rows(start, stop) if self.shapes else {}
        return {name: jnp.asarray(array) for name, array in (read | self.whole).items()}

    def on_device(self, mesh: Mesh | None) -> dict[str, jax.Array]:
        """All arrays but the network's, by name: on the default device, or dealt out over a mesh."""
        if mesh is None or "locations" not in mesh.axis_names:
            return self.rows(0, next(iter(self.shapes.values()))[0][0] if self.shapes else 0)
        sharding = over_rows(mesh)
        everywhere = NamedSharding(mesh, PartitionSpec())
        blocks: dict[tuple[int, int], dict[str, np.ndarray]] = {}

        def part(name: str, start: int, stop: int) -> np.ndarray:
            if (start, stop) not in blocks:
                blocks[start, stop] = self.reader.rows(start, stop)
            return blocks[start, stop][name]

        arrays = {}
        for name, (shape, dtype) in self.shapes.items():
            try:
                sharding.shard_shape(shape)
            except ValueError as error:
                raise ArgumentError(
                    f"the grid's {shape[0]} rows don't divide among {mesh.shape['locations']} devices: "
                    "choose a mesh whose axis 'locations' divides them"
                ) from error
            arrays[name] = checkpoint.assembled(
                shape, dtype, sharding, lambda start, stop, name=name: part(name, start, stop)
            )
        return arrays | {name: jax.device_put(array, everywhere) for name, array in self.whole.items()}


def page_of(
    backbone: Backbone,
    method: Method,
    *,
    size: tuple[int, int],
    count: int,
    kind: str,
    moments: bool,
    rows: dict[str, tuple[tuple[int, ...], str]],
) -> dict[str, Any]:
    """The page of a saved detector, as `Saved` reads it; arguments as its attributes."""
    return {
        "backbone": {
            "name": backbone.name,
            "dtype": str(jnp.dtype(getattr(backbone, "dtype", jnp.float32))),
            "normalisation": asdict(backbone.normalisation),
            "leaves": len(jax.tree.leaves(backbone)),
            "sha256": fingerprint(backbone),
        },
        "method": method.page(),
        "size": list(size),
        "count": count,
        "kind": kind,
        "moments": moments,
        "rows": rows,
    }


def network_arrays(backbone: Backbone, W: jax.Array) -> dict[str, jax.Array]:
    """A backbone's arrays by number, and W (F, k)."""
    leaves = {f"backbone-{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(backbone))}
    return leaves | {"W": W}


def network_of(
    path: Path,
    page: dict[str, Any],
    layers: tuple[int, ...] | None,
    leaves: Sequence[Any],
    backbone: Backbone | None,
) -> Backbone:
    """The saved backbone: one of this package, or the structure that was given, with the saved arrays."""
    name = page["name"]
    if backbone is None:
        if name not in registry.BACKBONES:
            raise CheckpointError(
                f"{path} was fitted with the backbone {name!r}: pass it to load as `backbone`"
            )
        backbone = registry.create(name, layers=layers, dtype=jnp.dtype(page["dtype"]))
    normalisation = Normalisation(**{key: tuple(v) for key, v in page["normalisation"].items()})
    own_leaves, structure = jax.tree.flatten(backbone)
    saved = (name, normalisation, [np.shape(leaf) for leaf in leaves])
    if saved != (backbone.name, backbone.normalisation, [np.shape(leaf) for leaf in own_leaves]):
        raise CheckpointError(
            f"{path} was fitted with another backbone than the one given ({name}, not {backbone.name}, "
            "or one of other arrays): give the backbone that it was fitted with"
        )
    return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in leaves])


def row_blocks(rows: dict[str, jax.Array]) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The rows that this host has to write, block by block: of a sharded array one for each device."""
    if not rows:
        return
    blocks: dict[int, dict[str, np.ndarray]] = {}
    for name, array in rows.items():
        for shard in array.addressable_shards:
            if shard.replica_id == 0:
                start = shard.index[0].start or 0
                blocks.setdefault(start, {})[name] = np.asarray(shard.data)
    yield from sorted(blocks.items())
