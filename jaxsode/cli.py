"""jaxsode COMMAND …: each command is a file of `jaxsode.commands`, imported when it is called."""

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn

from jaxsode._imports import at_start
from jaxsode.errors import ArgumentError
from jaxsode.home import readable

COMMANDS = {
    "run": "fit on a data set's good pictures, score its test pictures, report",
    "fit": "from a folder of good pictures to a detector with a threshold",
    "calibrate": "a threshold from unseen good pictures, or from the fitted ones, each left out",
    "predict": "scores, decisions, regions and overlays of pictures",
    "export": "write a detector as one function, in ONNX and StableHLO",
    "serve": "a detector as a service, with a page to show it on",
    "update": "fit a detector on more good pictures, exactly",
    "merge": "join detectors that were fitted on different pictures, exactly",
    "inspect": "say what a folder of pictures is taken for, before anything is computed",
    "compare": "print the settings of several runs side by side",
    "reproduce": "a table or a figure of the paper's, ours beside it",
    "demo": "draw pictures to try the other commands on",
    "convert": "turn a published file of weights into a safetensors file",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 2 for a mistake of the user's, or what a signal makes.

    Args:
        arguments: its name, and what it is given; by default the process's own.
    """
    return _chosen(list(sys.argv[1:] if arguments is None else arguments))()


def _chosen(given: list[str]) -> Callable[[], int]:
    """What a command line asks for, with all that it needs imported."""
    from jaxsode.commands.exits import exit_code

    name = given[0] if given else "--help"
    if name in COMMANDS:
        command = importlib.import_module(f"jaxsode.commands.{name}")
        return partial(command.main, given[1:], prog=f"jaxsode {name}")
    return partial(exit_code, _help if name in ("-h", "--help") else partial(_refuse, name))


def _help() -> None:
    width = max(map(len, COMMANDS))
    lines = [f"  {command.ljust(width)}  {says}" for command, says in COMMANDS.items()]
    print("\n".join(["usage: jaxsode COMMAND …", "", *lines, "", "jaxsode COMMAND --help tells the rest."]))


def _refuse(name: str) -> None:
    raise ArgumentError(f"there is no command {readable(name)!r}: choose one of {', '.join(COMMANDS)}")


def script() -> NoReturn:
    """The console script `jaxsode`: `main`, then the process's end."""
    with at_start():
        from jaxsode.commands import programs
        from jaxsode.commands.exits import leave

        action = _chosen(sys.argv[1:])
    programs.keep()
    leave(action())


if __name__ == "__main__":
    script()
