"""A user's mistake as every command tells it: one line on standard error, and exit code 2."""

from rich.console import Console

from jaxsode.errors import JaxsodeError


def told(error: JaxsodeError, console: Console | None = None) -> int:
    """Print the error's line, red in a terminal.

    Args:
        error: whose message is one line: what is wrong, where, and the remedy.
        console: to print on; by default a new one on standard error.

    Returns:
        The exit code, 2.
    """
    console = console or Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"error: {error}", style="red", markup=False)
    return 2
