"""jaxsode convert: a published file of weights → a safetensors file."""

import argparse
from collections.abc import Sequence

from jaxsode.backbones import registry
from jaxsode.commands.errors import told
from jaxsode.errors import JaxsodeError
from pretrained_conversion.convert import convert_file


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode convert") -> int:
    """The command; returns the exit code, 2 for a mistake of the user's."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Turn a published file of weights into a safetensors file for jaxsode.",
    )
    parser.add_argument("name", choices=registry.BACKBONES, metavar="NAME", help="%(choices)s")
    sources = ".pth, .safetensors (or the index of its shards) or folded .npz"
    parser.add_argument("--from", dest="source", required=True, metavar="SOURCE", help=sources)
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
        return told(error)
    print(f"{given.out}: {given.name}, {len(found.tensors)} tensors from {found.source} ({found.sha256})")
    return 0
