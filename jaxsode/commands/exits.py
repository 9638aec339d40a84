"""How a command ends: its exit code, and one line on standard error where something went wrong."""

import os
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn

import jax
from rich.console import Console

from jaxsode.errors import ArgumentError, JaxsodeError

_TO_STOP = (signal.SIGTERM, signal.SIGHUP)  # SIGINT is Python's own KeyboardInterrupt


class Stopped(BaseException):
    """A signal asked the process to end. As KeyboardInterrupt, it is no error that anything may handle."""

    def __init__(self, number: int):
        self.number = number


def exit_code(action: Callable[[], object]) -> int:
    """Do what a command does, to its end or to the first mistake.

    Args:
        action: the command.

    Returns:
        0; 2 for what the user can mend; 130, 143 and 129 after SIGINT, SIGTERM and SIGHUP, 141 where nobody
        reads standard output any more: 128 and the signal's number, as a shell has it.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what the locale can't show is shown by its number
            stream.reconfigure(errors="backslashreplace")
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def failed(error: BaseException, line: str) -> int:
        console.print("; ".join([line, *getattr(error, "__notes__", ())]), style="red", markup=False)
        return 2

    try:
        with _signals():
            try:
                action()
            finally:
                sys.stdout.flush()
    except JaxsodeError as error:
        return failed(error, f"error: {error}")
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        says = (str(error).splitlines() or [type(error).__name__])[0]
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in says:
            raise
        remedy = "give a smaller --memory-gb, --batch-size or --size"
        return failed(error, f"error: out of memory ({says}): {remedy}")
    except (KeyboardInterrupt, Stopped) as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        notes = getattr(error, "__notes__", ["no results were written"])
        console.print(f"stopped by {signal.Signals(number).name}: {'; '.join(notes)}", markup=False)
        return 128 + number
    except BrokenPipeError:
        _to_nowhere(sys.stdout.fileno())  # or Python would flush into it once more
        return 128 + signal.SIGPIPE
    return 0


def leave(code: int) -> NoReturn:
    """End the process that a command was all of.

    After a signal XLA's threads may still compute. The interpreter's own end, which takes from under them
    what they compute with, would make a crash of it: so it is left out. What a command made besides its
    results is cleared away by then, and nothing of ours waits for the interpreter's end.

    Args:
        code: as `exit_code` gives it.
    """
    if code < 128:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(code)


@contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Stopped`, unless they are ignored or somebody else's."""

    def stop(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        raise Stopped(number)

    here = threading.current_thread() is threading.main_thread()
    mine = [number for number in _TO_STOP if here and signal.getsignal(number) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def _leave_terminal() -> None:
    """It may have been closed, and then a word to it, of the progress or of the end, is an error."""
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            _to_nowhere(descriptor)


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def check_device() -> None:
    """Refuse a JAX that finds nothing to compute on, before anything is begun.

    Raises:
        ArgumentError: naming JAX_PLATFORMS, if it is set.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter without a word: CUDA's where there is no GPU
        asked = os.environ.get("JAX_PLATFORMS")
        if asked:
            install = ", or install jaxsode[cuda12] on a machine that has one"
            remedy = f"unset it{install if {'cuda', 'gpu'} & set(asked.lower().split(',')) else ''}"
            raise ArgumentError(f"JAX_PLATFORMS={asked}: JAX finds no such device here: {remedy}") from error
        says = (str(error).splitlines() or ["no word why"])[0]
        raise ArgumentError(f"JAX finds no device ({says}): set JAX_PLATFORMS=cpu to use none") from error
