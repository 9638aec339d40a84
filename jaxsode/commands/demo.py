"""jaxsode demo: pictures to try the other commands on, drawn into a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxsode.commands.detectors import new_folder
from jaxsode.commands.exits import exit_code
from jaxsode.commands.progress import Shown
from jaxsode.datasets.demo import files
from jaxsode.home import expanded, readable


@dataclass(frozen=True)
class Demo:
    """Draw pictures to try the other commands on, the same ones each time, with no download.

    good/ to fit on, unseen/ of the same light, darker/ in 90 % of it, bad/KIND/ with a defect each, which
    masks/KIND/ marks.
    """

    directory: Annotated[Path, tyro.conf.Positional]
    """A new folder for them."""
    item: Literal["object", "texture"] = "object"
    """What they show: a machined flange, or a twill."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode demo") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    return exit_code(lambda: demo(tyro.cli(Demo, prog=prog, args=arguments)))


def demo(asked: Demo) -> None:
    """Draw them, all or none.

    Args:
        asked: what was asked for.

    Raises:
        OutputError: the folder is there already, or can't be written.
    """
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    folder = expanded(asked.directory)
    total = files.total(asked.item)
    with new_folder(folder) as stage, Shown(console) as shown, shown.task("drawing", total) as task:
        for drawn in files.files(asked.item):
            for file in drawn:
                path = stage.path / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)
            task.advance(1)
    print(f"{readable(folder)}: {total} pictures in good/, unseen/, darker/ and bad/; masks in masks/")
