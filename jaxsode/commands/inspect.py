"""jaxsode inspect: what a folder of pictures is taken for, before anything is computed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxsode.commands.progress import bars
from jaxsode.datasets import folder
from jaxsode.datasets.preparation import MAX_PIXELS, Resize
from jaxsode.errors import JaxsodeError


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
    """Run the command; returns its exit code: 0, or 2 for a mistake of the user's."""
    asked = tyro.cli(Inspect, prog=prog, args=arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        progress = bars(console)
        progress.disable = not console.is_terminal
        with progress:
            task = progress.add_task("looking", total=None, visible=False)

            def looked(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total, visible=True)

            options = {name: value for name, value in vars(asked).items() if name != "directory"}
            dataset = folder.load(data_dir=asked.directory, progress=looked, **options)
    except JaxsodeError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    sys.stdout.write("".join(f"{line}\n" for line in dataset.notes))
    return 0
