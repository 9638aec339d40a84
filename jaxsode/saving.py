"""A detector's page and arrays, as `jaxsode.checkpoint` keeps them: what is written, and what it means."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsode import checkpoint
from jaxsode.backbones import registry
from jaxsode.backbones.protocol import Backbone
from jaxsode.choice import Choice
from jaxsode.errors import ArgumentError, CheckpointError
from jaxsode.layout import assembled, dealt, everywhere
from jaxsode.method import Method
from jaxsode.overall import Overall
from jaxsode.preparation import Preparation
from jaxsode.trees import cause, shown

_SHARED = "shared-covariance"


def description(backbone: Backbone) -> dict[str, Any]:
    """All that makes a backbone's maps besides its numbers, as JSON holds it.

    Args:
        backbone: see `Backbone`.
    """
    layers = getattr(backbone, "layers", None)
    normalisation = asdict(backbone.normalisation)
    return {
        "name": backbone.name,
        "dtype": str(jnp.dtype(getattr(backbone, "dtype", jnp.float32))),
        "normalisation": {name: [float(x) for x in each] for name, each in normalisation.items()},
        "layers": None if layers is None else [int(layer) for layer in layers],
        "strides": [int(stride) for stride in backbone.strides],
        "channels": [int(number) for number in backbone.channels],
    }


def fingerprint(backbone: Backbone) -> str:
    """The SHA-256 of a backbone's description, shapes and numbers, wherever they came from.

    Args:
        backbone: see `Backbone`.
    """
    digest = hashlib.sha256(json.dumps(description(backbone), sort_keys=True).encode())
    for leaf in jax.tree.leaves(backbone):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{np.shape(leaf)} {array.dtype}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
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
        overall, choice, preparation: see `Detector`.
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
    overall: Overall | None
    choice: Choice | None
    preparation: Preparation | None

    @classmethod
    def open(cls, path: Path, backbone: Backbone | None) -> Self:
        """Open a saved detector.

        Args:
            path: its folder.
            backbone: as for `Detector.load`.

        Raises:
            CheckpointError, ArgumentError: see `Detector.load`.
        """
        check_network(backbone)
        reader = checkpoint.Reader(path)
        try:
            return cls._of(reader, backbone)
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{shown(path)} holds no whole detector: fit and save it again ({cause(error)})"
            ) from error

    @classmethod
    def _of(cls, reader: checkpoint.Reader, backbone: Backbone | None) -> Self:
        page, whole = reader.page, reader.whole()
        method = page["method"]
        layers = method["layers"] and tuple(method["layers"])
        W = jax.device_put(whole.pop("W"))
        # An older page has none of them.
        variance, choice, preparation = map(page.get, ("mean_variance", "choice", "preparation"))
        shared = whole.pop(_SHARED, None)
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
            overall=None if variance is None else Overall(*jax.device_put((np.float32(variance), shared))),
            choice=None if choice is None else Choice.of_page(choice),
            preparation=None if preparation is None else Preparation.of_page(preparation),
        )

    def rows(self, start: int, stop: int) -> dict[str, jax.Array]:
        """Some of the grid's rows of every array but the network's, by name, on the default device."""
        read = self.reader.rows(start, stop) if self.shapes else {}
        # Not `jnp.asarray`, which copies twice, and compiles a program for each shape.
        return {name: jax.device_put(array) for name, array in (read | self.whole).items()}

    def on_device(self, mesh: Mesh | None) -> dict[str, jax.Array]:
        """All arrays but the network's, by name: on the default device, or dealt out over a mesh.

        Raises:
            ArgumentError: see `Detector.load`.
        """
        if mesh is None:
            return self.rows(0, next(iter(self.shapes.values()))[0][0] if self.shapes else 0)
        blocks: dict[tuple[int, int], dict[str, np.ndarray]] = {}

        def part(name: str, start: int, stop: int) -> np.ndarray:
            if (start, stop) not in blocks:
                blocks[start, stop] = self.reader.rows(start, stop)
            return blocks[start, stop][name]

        arrays = {}
        for name, (shape, dtype) in self.shapes.items():
            arrays[name] = assembled(
                shape, dtype, dealt(shape, mesh), lambda start, stop, name=name: part(name, start, stop)
            )
        return arrays | {name: everywhere(array, mesh) for name, array in self.whole.items()}


def page_of(
    backbone: Backbone,
    method: Method,
    *,
    size: tuple[int, int],
    count: int,
    kind: str,
    moments: bool,
    rows: dict[str, tuple[tuple[int, ...], str]],
    overall: Overall | None = None,
    choice: Choice | None = None,
    preparation: Preparation | None = None,
) -> dict[str, Any]:
    """The page of a saved detector, as `Saved` reads it; arguments as its attributes."""
    return {
        "backbone": description(backbone)
        | {"leaves": len(jax.tree.leaves(backbone)), "fingerprint": fingerprint(backbone)},
        "method": method.page(),
        "size": [int(side) for side in size],
        "count": count,
        "kind": kind,
        "moments": moments,
        "rows": rows,
        "mean_variance": None if overall is None else float(overall.variance),
        "choice": None if choice is None else choice.page(),
        "preparation": None if preparation is None else preparation.page(),
    }


def network_arrays(backbone: Backbone, W: jax.Array) -> dict[str, jax.Array]:
    """A backbone's arrays by number, and W (F, k)."""
    leaves = {f"backbone-{i:05d}": leaf for i, leaf in enumerate(jax.tree.leaves(backbone))}
    return leaves | {"W": W}


def check_network(backbone: Any) -> None:
    """Refuse what is no backbone, before a fault of its own is taken for the saved detector's.

    Args:
        backbone: as for `Detector.load`, None too.

    Raises:
        ArgumentError: it is none.
    """
    if backbone is None:
        return
    try:
        description(backbone)
    except (AttributeError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"backbone is a {type(backbone).__name__}: it must be a network with name, strides, channels and "
            f"normalisation, as jaxsode.load_backbone makes it, or None for one of this package "
            f"({cause(error)})"
        ) from error


def overall_arrays(overall: Overall | None) -> dict[str, jax.Array]:
    """The array that all locations share, if the precision has one."""
    return {} if overall is None or overall.covariance is None else {_SHARED: overall.covariance}


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
                f"{shown(path)} was fitted with the backbone {name!r}: pass it to load as `backbone`"
            )
        backbone = registry.structure(name, layers=layers, dtype=jnp.dtype(page["dtype"]))
    if differing := _differing(page, leaves, backbone):
        raise CheckpointError(
            f"{shown(path)} was fitted with another backbone than the one given ({differing}): "
            "give the backbone that it was fitted with"
        )
    restored = jax.tree.unflatten(jax.tree.structure(backbone), [jax.device_put(leaf) for leaf in leaves])
    # An older page has none.
    if "fingerprint" in page and page["fingerprint"] != fingerprint(restored):
        raise CheckpointError(
            f"{shown(path)}: its backbone is not the one that was saved: fit and save the detector again"
        )
    return restored


def _differing(page: dict[str, Any], leaves: Sequence[Any], backbone: Backbone) -> str | None:
    """What the saved backbone has otherwise; None if nothing."""
    own = description(backbone)
    for name in own:
        if name in page and page[name] != own[name]:
            return f"{name} {page[name]}, not {own[name]}"
    if [np.shape(leaf) for leaf in leaves] != [np.shape(leaf) for leaf in jax.tree.leaves(backbone)]:
        return "arrays of other shapes"
    return None
