"""Where a backbone's weights come from: a file, the cache, an installed package, the publisher."""

import functools
import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxsode.backbones import registry
from jaxsode.backbones.download import Progress, Unreachable, download
from jaxsode.backbones.lock import locked
from jaxsode.backbones.protocol import Backbone
from jaxsode.backbones.publishers import ADDRESSES, PACKAGES, Package
from jaxsode.errors import WeightsError
from jaxsode.home import expanded, home
from pretrained_conversion import converted, engine, readers
from pretrained_conversion.name_maps import NAME_MAPS
from pretrained_conversion.name_maps.folded import FOLDED

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Weights:
    """Parameters of a backbone and their origin.

    Attributes:
        tensors: float32 by path, as `registry.with_parameters` takes them.
        source: the file's name or the address that they were made from.
        sha256: of that file.
    """

    tensors: Mapping[str, np.ndarray]
    source: str
    sha256: str


def find(
    name: str,
    *,
    weights: str | Path | None = None,
    leaves: Shapes,
    progress: Progress | None = None,
) -> Weights:
    """The weights of a backbone, from the first place that has them.

    An explicit file; else the cache, `weights/NAME.safetensors` under `jaxsode.home.home()`; else the
    installed package or the publisher that `publishers` names. A download is converted whole, all stages, and
    cached.

    Args:
        name: of the backbone.
        weights: a file in any format that `pretrained_conversion` reads, or one that it wrote.
        leaves: shape of each parameter wanted, as `shapes(backbone)` gives them.
        progress: of a download, called with bytes so far and bytes in all (None if unknown).

    Raises:
        WeightsError: the file is missing, damaged or of another backbone, or the download fails. The cache is
            left as it was.
        OutputError: the cache can't be written.
    """
    if weights is not None:
        return from_file(name, weights, leaves=leaves)
    cached = home() / "weights" / f"{name}.safetensors"
    if os.path.exists(cached):
        try:
            return from_file(name, cached, leaves=leaves)
        except WeightsError as error:
            raise WeightsError(f"{error}; it is the cached file: delete it and run again") from error
    if name in PACKAGES:
        return from_file(name, _packaged(name, PACKAGES[name]), leaves=leaves)
    if name in ADDRESSES:
        with locked(cached.parent):
            if not cached.exists():  # another process may have made it meanwhile
                _download(name, cached, progress)
        return from_file(name, cached, leaves=leaves)
    raise WeightsError(f"no publisher of weights for {name} is known: pass --weights FILE")


def from_file(name: str, path: str | Path, *, leaves: Shapes) -> Weights:
    """The weights in a file, converted if it is not one of ours.

    Args:
        name: of the backbone.
        path: of the file; `~` is the home folder.
        leaves: shape of each parameter wanted; what the file holds of the backbone's other stages is left.

    Raises:
        ArgumentError: the path is none.
        WeightsError: missing, damaged, of another backbone, or it does not hold just what it should.
    """
    path = expanded(path)
    whole = _whole(name, registry.BACKBONES.get(name))
    ours = converted.read(path)
    if ours is None:
        tensors = engine.convert(
            readers.read(path),
            name_maps=(*NAME_MAPS.get(name, ()), FOLDED),
            leaves=leaves,
            whole=whole,
            label=f"{path} does not fit {name}",
        )
        return Weights(tensors, path.name, readers.sha256(*readers.files(path)))
    description, tensors = ours
    if description.name != name:
        raise WeightsError(f"{path} holds weights of {description.name}, not of {name}: give one of {name}")
    account = engine.check(tensors, leaves=leaves, whole=whole)
    if account.problems:
        raise WeightsError(
            f"{path} does not fit {name}: {account}; convert the published file again, see --layers"
        )
    return Weights({leaf: tensors[leaf] for leaf in leaves}, description.source, description.sha256)


def shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of a backbone by its path."""
    return {path: leaf.shape for path, leaf in registry.parameters(backbone).items()}


@functools.cache
def _whole(name: str, spec: registry.Spec | None) -> Shapes:
    """The shapes of the backbone with all its stages: what else a checkpoint may hold."""
    return shapes(registry.create(name, layers=None if spec is None else spec.layers))


def _packaged(name: str, package: Package) -> Path:
    found = importlib.util.find_spec(package.module)
    if found is None or not found.submodule_search_locations:
        raise WeightsError(
            f"the weights of {name} come in the package {package.module}, which is not installed: "
            f"{package.remedy}, or pass --weights FILE"
        )
    path = Path(found.submodule_search_locations[0]) / package.file
    if not path.is_file() or readers.sha256(path) != package.sha256:
        raise WeightsError(f"{path} is missing or not the file that {name} needs: install it anew")
    return path


def _download(name: str, cached: Path, progress: Progress | None) -> None:
    """Fetches the published file, converts all stages and caches them; the published file is not kept."""
    failures = []
    for address in ADDRESSES[name]:
        fetched = cached.parent / f"{name}-{address.url.rpartition('/')[2]}"
        if not address.sha256:  # nothing would tell if what is left of another day were of another file
            fetched.with_name(f"{fetched.name}.part").unlink(missing_ok=True)
        try:
            download(address.url, fetched, sha256=address.sha256, progress=progress)
        except Unreachable as error:
            failures.append(str(error))
            continue
        try:
            found = from_file(name, fetched, leaves=_whole(name, registry.BACKBONES[name]))
            normalisation = registry.create(name).normalisation
            description = converted.Description(
                name, address.url, found.sha256, normalisation.mean, normalisation.std
            )
            converted.write(cached, found.tensors, description, overwrite=True)
        finally:
            fetched.unlink()
        return
    raise WeightsError(f"{'; '.join(failures)}: download it by hand and pass --weights FILE")
