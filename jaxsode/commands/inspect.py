"""jaxsode inspect: what a folder of pictures is taken for, before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxsode.commands.exits import exit_code
from jaxsode.commands.progress import Shown
from jaxsode.datasets import folder
from jaxsode.home import expanded, readable
from jaxsode.preparation import MAX_PIXELS, Resize


@dataclass(frozen=True)
class Inspect:
    """Say what a folder of pictures is taken for: layout, counts, sizes, pixels, what is passed over and why.

    All pictures and masks are decoded once, and nothing is computed. A run says the same first.
    """

    directory: Annotated[Path, tyro.conf.Positional]
    """The folder, a zip of it, or its CSV path,split,label,mask."""
    size: tuple[int, int] | None = None
    """Height and width that pictures are resized to; by default the shorter side is 256, in their aspect."""
    hold_out: float | None = None
    """Fraction of the good pictures that is set apart for testing; by default none is."""
    resize: Resize = "squeeze"
    """What becomes of another aspect. What is cropped or padded isn't judged."""
    range: Literal[255, 1023, 4095, 16383, 65535] | None = None
    """What is white in files of 16 bits; by default the least that no training picture passes."""
    max_pixels: int = MAX_PIXELS
    """A picture of more is refused."""
    on_bad_picture: Literal["stop", "skip"] = "skip"
    """One that can't be used ends it, or is counted and named."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode inspect") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    return exit_code(lambda: inspect(tyro.cli(Inspect, prog=prog, args=arguments)))


def inspect(asked: Inspect) -> None:
    """Print what the command says.

    Args:
        asked: what was asked for.

    Raises:
        JaxsodeError: a mistake of the user's.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    options = {name: value for name, value in vars(asked).items() if name != "directory"}
    with Shown(console) as shown, shown.task("looking") as task:
        dataset = folder.load(data_dir=expanded(asked.directory), progress=task.reach, **options)
    print("\n".join(map(readable, dataset.notes)))
