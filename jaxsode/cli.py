"""jaxsode COMMAND …: each command is a file of `jaxsode.commands`, imported when it is called."""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "run": "fit on a data set's good pictures, score its test pictures, report",
    "inspect": "say what a folder of pictures is taken for, before anything is computed",
    "convert": "turn a published file of weights into a safetensors file",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, or 2 for a mistake of the user's.

    Args:
        arguments: its name, and what it is given; by default the process's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {command.ljust(width)}  {says}" for command, says in COMMANDS.items()]
        print(
            "\n".join(["usage: jaxsode COMMAND …", "", *lines, "", "jaxsode COMMAND --help tells the rest."])
        )
        return 0
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}: choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    command = importlib.import_module(f"jaxsode.commands.{name}")
    return command.main(given[1:], prog=f"jaxsode {name}")


if __name__ == "__main__":
    sys.exit(main())
