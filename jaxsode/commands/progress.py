"""What is under way: bars on a terminal; elsewhere, as in a log file, a plain line now and then."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as Row
from rich.text import Text

INTERVAL_S = 30.0
"""Between plain lines."""


class Shown:
    """A context in which tasks are shown.

    Args:
        console: to show them on.
    """

    def __init__(self, console: Console):
        self._console = console
        self._bars = _bars(console) if console.is_terminal else None
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator["Task"]:
        """Something that is done bit by bit.

        Args:
            what: is done.
            total: bits; None where it isn't known yet, and there may be nothing to do.
        """
        bars = self._bars
        row = None if bars is None else bars.add_task(what, total=total, visible=total is not None)
        try:
            yield Task(self, what, total, row)
        finally:
            if bars is not None and row is not None:
                bars.remove_task(row)

    def say(self, line: str) -> None:
        """A line of a log; none on a terminal, which has the bars."""
        if self._bars is None:
            self._console.print(line, markup=False)
            self._said = time.monotonic()

    def _reached(self, task: "Task") -> None:
        if self._bars is not None and task.row is not None:
            self._bars.update(task.row, completed=task.done, total=task.total, visible=True)
        elif time.monotonic() - self._said >= INTERVAL_S:
            self.say(f"{task.what}: {task.done}" + ("" if task.total is None else f" of {task.total}"))


@dataclass
class Task:
    """Of `Shown`."""

    shown: Shown
    what: str
    total: int | None
    row: TaskID | None
    done: int = 0

    def advance(self, bits: int) -> None:
        """So many more are done."""
        self.reach(self.done + bits, self.total)

    def reach(self, done: int, total: int | None) -> None:
        """So many are done, of so many."""
        self.done, self.total = done, total
        self.shown._reached(self)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class _Rate(ProgressColumn):
    """Pictures per second."""

    def render(self, task: Row) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="cyan")
