"""jaxsode export: from a detector to files that other programs score with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxsode.commands.detectors import check_new, existing, made
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.ignoring import ignored as ignored_by
from jaxsode.errors import OutputError
from jaxsode.export import folder as exports
from jaxsode.home import expanded, readable
from jaxsode.inspection import Inspector


@dataclass(frozen=True)
class Export:
    """Write a fitted detector as one function: uint8 pictures in; map, score, p-value and decision out.

    OUTPUT gets the function in each format, model.json, which says what pictures it takes and how files
    become such, and examples that start from a picture's file. What was written is run and compared with the
    detector before OUTPUT has its name.
    """

    detector: Annotated[Path, tyro.conf.Positional]
    """Folder that jaxsode fit left."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the export, which isn't there yet."""
    formats: tuple[exports.Format, ...] = exports.FORMATS
    """What to write: ONNX for any runtime, StableHLO for JAX."""
    float16: bool = False
    """Store the precision in float16: half the file. What that changes is measured and said, not refused."""
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = ("cpu", "cuda")
    """Of StableHLO: where it can be run, beside the platform that this is run on."""
    ignore_mask: Path | None = None
    """A picture that is white where nothing matters; by default the one that the threshold was made with."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode export") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    return exit_code(lambda: export(tyro.cli(Export, prog=prog, args=arguments)))


def export(asked: Export) -> None:
    """Do what the command does.

    Args:
        asked: what was asked for.

    Raises:
        JaxsodeError: a mistake of the user's.
    """
    check_device()
    exports.check_installed(asked.formats)
    check_new(expanded(asked.output))
    folder = existing(asked.detector)
    if expanded(asked.output).resolve().is_relative_to(folder.resolve()):
        raise OutputError(
            f"{readable(asked.output)} is in the detector's own folder: choose another --output"
        )
    inspector = Inspector.load(folder)
    if asked.ignore_mask is not None:
        own = inspector.detector
        mask = ignored_by(asked.ignore_mask, own.size, own.preparation)
        inspector = Inspector.load(folder, ignored=mask)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if inspector.why_no_threshold is not None:
        console.print(
            f"map and score alone are exported: {inspector.why_no_threshold}", style="yellow", markup=False
        )
    with made(asked.output) as staging:
        page = exports.export(
            inspector, staging, formats=asked.formats, half=asked.float16, platforms=asked.platforms
        )
    itself = "the detector with its precision in float16" if asked.float16 else "the detector"
    for name, about in page["formats"].items():
        found = about["difference"]
        print(
            f"{name}: {found['map']:.1e} of a map's maximum is the largest difference from {itself}, of "
            f"{found['pictures']} pictures; {found['decisions']} decisions differ"
        )
    if (effect := page.get("effect")) is not None:
        print(
            f"float16: {effect['map']:.1e} of a map's maximum is what it changes of those at the most; "
            f"{effect['decisions']} of {effect['pictures']} decisions"
        )
    print(f"exported to {readable(asked.output)}")
