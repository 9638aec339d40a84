"""jaxsode demo: pictures to try the other commands on, drawn into a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxsode.commands.detectors import made
from jaxsode.commands.exits import exit_code
from jaxsode.commands.progress import Shown
from jaxsode.datasets.demo import files
from jaxsode.home import expanded, readable


@dataclass(frozen=True)
class Demo:
    """Draw pictures to try the other commands on, the same ones each time, with no download.

    good/ to fit on, unseen/ of the same light, warmer/ when the lamp has aged (6 % less blue), bad/KIND/ with
    a defect each, which masks/KIND/ marks.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
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
    total = files.total(asked.item)
    with made(asked.output) as folder, Shown(console) as shown, shown.task("drawing", total) as task:
        for drawn in files.files(asked.item):
            for file in drawn:
                path = folder / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.content)
            task.advance(1)
    name = readable(expanded(asked.output))
    print(f"{name}: {total} pictures in good/, unseen/, warmer/ and bad/; masks in masks/")
