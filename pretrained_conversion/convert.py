"""python -m pretrained_conversion.convert NAME --from SOURCE --out FILE"""

import argparse
import sys
from pathlib import Path

from jaxsode.backbones import registry, weights
from jaxsode.errors import JaxsodeError, OutputError
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
        source: `.pth`, `.safetensors` or folded `.npz`.
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
    if Path(out).exists() and not overwrite:
        raise OutputError(f"{out} exists already: choose another name, or overwrite it with --overwrite")
    backbone = registry.create(name, layers=layers)
    found = weights.from_file(name, source, leaves=weights.shapes(backbone))
    normalisation = backbone.normalisation
    description = converted.Description(
        name, found.source, found.sha256, normalisation.mean, normalisation.std
    )
    converted.write(out, found.tensors, description, overwrite=overwrite)
    return found


def main(arguments: list[str] | None = None, *, prog: str = "python -m pretrained_conversion.convert") -> int:
    """The command; returns the exit code, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Turn a published file of weights into a safetensors file for jaxsode.",
    )
    parser.add_argument("name", choices=registry.BACKBONES, metavar="NAME", help="%(choices)s")
    parser.add_argument(
        "--from", dest="source", required=True, metavar="SOURCE", help=".pth, .safetensors or folded .npz"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument(
        "--layers", nargs="+", type=int, help="layers that the file shall serve (default: the backbone's)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    given = parser.parse_args(arguments)
    layers = None if given.layers is None else tuple(given.layers)
    try:
        found = convert_file(given.name, given.source, given.out, layers=layers, overwrite=given.overwrite)
    except JaxsodeError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{given.out}: {given.name}, {len(found.tensors)} tensors from {found.source} ({found.sha256})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
