"""jaxsode convert: a published file of weights → a safetensors file."""

import argparse
from collections.abc import Sequence

from jaxsode.backbones import registry
from jaxsode.commands.exits import exit_code
from jaxsode.home import expanded, readable
from pretrained_conversion.convert import convert_file


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode convert") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    return exit_code(lambda: convert(_parser(prog).parse_args(arguments)))


def convert(given: argparse.Namespace) -> None:
    """Do what the command does.

    Args:
        given: as the parser gives it.

    Raises:
        JaxsodeError: a mistake of the user's.
    """
    layers = None if given.layers is None else tuple(given.layers)
    source, out = expanded(given.source), expanded(given.out)
    found = convert_file(given.name, source, out, layers=layers, overwrite=given.overwrite)
    made_from = f"{len(found.tensors)} tensors from {readable(found.source)} ({found.sha256})"
    print(f"{readable(out)}: {given.name}, {made_from}")


def _parser(prog: str) -> argparse.ArgumentParser:
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
    return parser
