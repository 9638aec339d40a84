"""A published file of weights → ours, as `jaxsode convert` makes it."""

import os
from pathlib import Path

from jaxsode.backbones import registry, weights
from jaxsode.errors import OutputError
from pretrained_conversion import converted


def convert_file(
    name: str,
    source: str | Path,
    out: str | Path,
    *,
    layers: tuple[int, ...] | None = None,
    overwrite: bool = False,
) -> weights.Weights:
    """Converts a published file of weights into ours.

    Args:
        name: of the backbone.
        source: `.pth`, `.safetensors` (or the index of shards) or folded `.npz`.
        out: the safetensors file to write.
        layers: those the file shall serve, and all before the deepest; None takes the backbone's default.
        overwrite: replace a file that exists.

    Returns:
        What was written.

    Raises:
        ArgumentError: an unknown name or layer.
        WeightsError: the source is missing, damaged, or does not hold just what it should.
        OutputError: `out` exists or can't be written.
    """
    if os.path.exists(out) and not overwrite:
        raise OutputError(f"{out} exists already: choose another name, or overwrite it with --overwrite")
    backbone = registry.create(name, layers=layers)
    found = weights.from_file(name, source, leaves=weights.shapes(backbone))
    normalisation = backbone.normalisation
    description = converted.Description(
        name, found.source, found.sha256, normalisation.mean, normalisation.std
    )
    converted.write(out, found.tensors, description, overwrite=overwrite)
    return found
