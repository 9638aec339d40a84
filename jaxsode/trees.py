"""A tree of arrays in a folder: Orbax's; NumPy's where another host than the first writes.

Orbax takes a path for a pattern and for an address: it loses what is saved below `[1]` or `a\\b`, and can't
open a name that isn't UTF-8. There it is given a link of a plain name. Its own reports of an error, pages
long, are kept back: the error says all.
"""

import errno
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsode._imports import uncollected
from jaxsode.errors import CheckpointError

# Orbax counts its saves and restores process-wide: two at once get into each other's way.
_orbax = threading.Lock()

_PLAIN = re.compile(r"[\w/. +,=@~-]*")
_CAUSES = [
    os.strerror(number)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)
]


def save(path: Path, arrays: Mapping[str, np.ndarray], *, rows: bool = False) -> None:
    """Write arrays into a new folder.

    Args:
        path: the folder; the one above is there.
        arrays: by name.
        rows: whether their first axes are rows. Each is then a part of the file: several are written, and
            read, at the same time.

    Raises:
        OSError: it can't be written.
    """
    if jax.process_index() != 0:
        # Of arrays that are whole on each host, Orbax lets the first one alone write.
        path.mkdir()
        for name, array in arrays.items():
            np.save(path / f"{name}.npy", array, allow_pickle=False)
        return
    one = import_orbax().SaveArgs(shard_axes=(0,) if rows else ())
    try:
        with _plainly_named(path.parent) as folder, _checkpointer(folder) as checkpointer:
            checkpointer.save(folder / path.name, dict(arrays), save_args=dict.fromkeys(arrays, one))
    except OSError:
        raise
    except Exception as error:  # Orbax and TensorStore raise what they like
        raise OSError(None, cause(error)) from error


def restore(path: Path, files: Sequence[str]) -> dict[str, Any]:
    """The tree of arrays, on this host.

    Args:
        path: the folder.
        files: what was written, by the names in the folder: others may lie beside it.

    Raises:
        CheckpointError: it can't be read.
    """
    ocp = import_orbax()
    try:
        if plain := [path / name for name in sorted(files) if name.endswith(".npy")]:
            return {file.stem: _numpys(file) for file in plain}
        with _plainly_named(path.parent) as folder, _checkpointer(folder) as checkpointer:
            tree = checkpointer.metadata(folder / path.name).item_metadata
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), dict(tree))
            return checkpointer.restore(folder / path.name, restore_args=as_numpy)
    except MemoryError:
        raise
    except Exception as error:  # Orbax and TensorStore raise what they like for a damaged file
        where, why = shown(path.parent), cause(error)
        raise CheckpointError(
            f"{where}: its arrays can't be read ({why}): fit and save the detector again"
        ) from error


def _numpys(file: Path) -> np.ndarray:
    # Not `np.load`, which advises to read what it doesn't know in a way that runs it.
    with file.open("rb") as opened:
        return np.lib.format.read_array(opened, allow_pickle=False)


def shown(path: str | os.PathLike[str]) -> str:
    """A path as one line that any terminal takes.

    Args:
        path: whatever is in it.
    """
    text = os.fsdecode(path).encode(errors="backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def cause(error: BaseException) -> str:
    """What the system says of an error, in few words.

    Args:
        error: of reading or writing.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    known = next((words for words in _CAUSES if words in text), None)
    return known or (text.splitlines() or [type(error).__name__])[0][:200]


def import_orbax() -> Any:
    """Orbax: a third of a second, the first time."""
    with uncollected():
        import orbax.checkpoint as ocp
    return ocp


@contextmanager
def _checkpointer(folder: Path) -> Iterator[Any]:
    """Orbax in a folder, on this host alone: each host writes what it has, and waits for nobody."""
    ocp = import_orbax()
    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"jaxsode-{me}"
    )
    # A compressor saves a few parts in a hundred of such numbers, and takes longer than the disk.
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone, use_compression=False)
    with _orbax, _quiet(folder), ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
        yield checkpointer


@contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    logger = logging.getLogger("absl")  # Orbax writes to it
    abandoned, loop = _Abandoned(str(folder)), logging.getLogger("asyncio")

    def of_others(record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname

    logger.addFilter(of_others)
    loop.addFilter(abandoned)
    # Not as a context: other threads have warnings too.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning, module=r"orbax\.")
    _unraisable.install()
    try:
        yield
        _unraisable.remove()
        loop.removeFilter(abandoned)
    finally:
        logger.removeFilter(of_others)


@dataclass(frozen=True)
class _Abandoned:
    """A filter of what an event loop reports: reads that failed beside the one whose error was raised.

    They are reported when the error is forgotten; so after a failure the filter stays.
    """

    folder: str

    def __call__(self, record: logging.LogRecord) -> bool:
        return record.exc_info is None or self.folder not in str(record.exc_info[1])


class _Unraisable:
    """A hook for what can't be raised, but of writes that outlive the one that failed.

    They tell an event loop that is closed, in their own time; so after a failure the hook stays.
    """

    def __init__(self) -> None:
        self._former = sys.unraisablehook

    def __call__(self, unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            self._former(unraisable)

    def install(self) -> None:
        if sys.unraisablehook is not self:
            self._former, sys.unraisablehook = sys.unraisablehook, self

    def remove(self) -> None:
        if sys.unraisablehook is self:
            sys.unraisablehook = self._former


_unraisable = _Unraisable()


@contextmanager
def _plainly_named(folder: Path) -> Iterator[Path]:
    """The folder under a name that Orbax takes as it is."""
    if _PLAIN.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxsode-") as beside:
        link = Path(beside) / "folder"
        if not _PLAIN.fullmatch(str(link)):
            raise OSError(
                None, "its name and TMPDIR's have characters other than letters, digits and ._+,=@~-"
            )
        link.symlink_to(folder)
        yield link
