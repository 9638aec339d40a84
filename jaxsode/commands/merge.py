"""jaxsode merge: one detector of several that were fitted on different pictures, exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxsode.commands.detectors import Fitted, check_new, existing, made
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.detector import Detector
from jaxsode.errors import ArgumentError
from jaxsode.home import expanded, readable


@dataclass(frozen=True)
class Merge:
    """Join detectors of the same settings: the result is that of a fit on all their pictures.

    It has no threshold: jaxsode calibrate makes one.
    """

    detectors: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that jaxsode fit left, with --shard or without."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder for the detector, which isn't there yet."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode merge") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return exit_code(lambda: merge(tyro.cli(Merge, prog=prog, args=arguments), console))


def merge(asked: Merge, console: Console) -> None:
    """Do what the command does.

    Args:
        asked: what was asked for.
        console: for what is said.

    Raises:
        JaxsodeError: a mistake of the user's. Nothing is written then.
    """
    check_device()
    if len(asked.detectors) < 2:
        raise ArgumentError("there is nothing to merge: name at least two detectors")
    check_new(expanded(asked.output))
    folders = [existing(path) for path in asked.detectors]
    record = Fitted.read(folders[0])
    for folder in folders[1:]:
        record = record.joined(Fitted.read(folder))
    record = replace(record, about=record.about | {"shards": None})
    detector = Detector.load(folders[0])
    for folder in folders[1:]:
        detector = Detector.merge(detector, Detector.load(folder))
    with made(asked.output) as stage:
        detector.save(stage)
        record.write(stage)
    console.print(
        f"{readable(asked.output)}: fitted on {int(detector.count)} pictures, without a threshold: jaxsode "
        "calibrate makes one",
        markup=False,
    )
