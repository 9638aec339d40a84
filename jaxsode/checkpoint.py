"""A file format: arrays, some of them in blocks of rows, and a page of JSON that says what they are.

It knows nothing of what it keeps. The arrays are as `jaxsode.trees` writes them; beside them the page has the
length and the CRC-32 of every file, and of itself, so that no flipped bit is read as a number. A folder
appears under its name only when all of it is written. Arrays whose first axis is the grid's rows are written
block by block, by whoever has them: a fit that never holds them all, or each of several hosts.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxsode import hosts, making, trees
from jaxsode.errors import ArgumentError, CheckpointError
from jaxsode.trees import shown

FORMAT = 2
PAGE = "detector.json"
"""What says what the arrays are."""
_WHOLE = "whole"
_ROWS = "rows-"


class Writer:
    """A folder in the making: `whole` and `rows`, in any order, then `finish`.

    As a context it finishes nothing by itself: what isn't finished when the block ends is removed. On several
    hosts, which must share the folder's file system, each has one, and what fails on one fails on all.
    What a killed process left of a folder of the same name is removed.

    Args:
        path: a folder that does not exist yet, the same on all hosts.

    Raises:
        CheckpointError: it exists, or can't be made, or the hosts don't mean the same one.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self._finished = False
        self._told = True
        self._lock: int | None = None
        self._above: list[Path] = []
        try:
            with hosts.in_step():
                self.path = folder_at(path)
            said = hosts.first_says(f"{secrets.randbits(32):08x}".encode() + os.fsencode(self.path))
            with hosts.in_step():
                self._check_one(os.fsdecode(said[8:]))
            with hosts.in_step():
                self._make(int(said[:8], 16))
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        self._told = False

    def _check_one(self, first: str) -> None:
        if str(self.path) != first:
            raise CheckpointError(
                f"the hosts save one detector together, and here it is {shown(self.path)} while the first "
                f"host has {shown(first)}: give all of them the same folder"
            )

    def _make(self, number: int) -> None:
        self._partial = making.beside(self.path, number)
        with self._writing():
            if os.path.lexists(self.path):
                raise CheckpointError(
                    f"{shown(self.path)} exists already: choose another folder, or remove it"
                )
            if jax.process_index() == 0:
                making.sweep(self.path)
                self._above = making.above(self.path)
                self._lock = making.locked(self._partial)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not self._told:
            with contextlib.suppress(CheckpointError):  # that another one is gone: this one has its own error
                hosts.tell(error)
        if self._lock is not None and not self._finished:
            shutil.rmtree(self._partial, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if not self._finished:
            making.unmake(self._above)

    def whole(self, arrays: Mapping[str, Any]) -> None:
        """Write arrays that have no blocks; on several hosts the first writes them.

        Args:
            arrays: by name, each whole on this host.

        Raises:
            CheckpointError: they can't be written.
        """
        if jax.process_index() == 0:
            self._save(_WHOLE, arrays, rows=False)

    def rows(self, start: int, arrays: Mapping[str, Any]) -> None:
        """Write a block of rows.

        Args:
            start: the grid's row that the block begins with.
            arrays: by name, each (rows, …), all of equally many rows, on this host.

        Raises:
            CheckpointError: they can't be written.
        """
        stop = start + len(next(iter(arrays.values())))
        self._save(f"{_ROWS}{start:06d}-{stop:06d}", arrays, rows=True)

    def finish(self, page: Mapping[str, Any]) -> None:
        """Write the page and give the folder its name.

        Args:
            page: what JSON can hold.

        Raises:
            CheckpointError: it can't be written, something took the name meanwhile, or another host failed.
        """
        self._told = True
        with hosts.in_step():
            pass
        with hosts.in_step(), self._writing():
            if jax.process_index() == 0:
                content = {"format": FORMAT, **page, "files": _listed(self._partial)}
                text = json.dumps(content | {"crc32": _crc(content)}, indent=2, ensure_ascii=False) + "\n"
                (self._partial / PAGE).write_text(text, encoding="utf-8")
                self._partial.rename(self.path)
            self._finished = True

    def _save(self, name: str, arrays: Mapping[str, Any], *, rows: bool) -> None:
        with self._writing():
            arrays = {key: np.asarray(array) for key, array in arrays.items()}
            trees.save(self._partial / name, arrays, rows=rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            taken = error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
            if taken and os.path.lexists(self.path):
                text = f"{shown(self.path)} was taken meanwhile: choose another folder"
            else:
                text = f"{shown(self.path)} can't be written ({trees.cause(error)}): choose another folder"
            raise CheckpointError(text) from error


class Reader:
    """A folder that `Writer` finished. Its page and its files' lengths and checksums are looked at first.

    Args:
        path: the folder.

    Raises:
        CheckpointError: nothing whole is there, something is damaged, or it is of another format.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = folder_at(path)
        self.page = read_page(self.path)
        if self.page.get("format") != FORMAT:
            raise CheckpointError(
                f"{shown(self.path)} is of format {self.page.get('format')}, this version reads {FORMAT}: "
                "fit it again"
            )
        stated = self.page.pop("crc32", None)
        if stated != _crc(self.page):
            raise CheckpointError(f"{shown(self.path / PAGE)} is not as it was saved: fit and save it again")
        files: dict[str, list[int]] = self.page.pop("files")
        try:
            found = _checked(self.path, files)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if damaged := sorted(name for name in files if found[name] != files[name]):
            raise CheckpointError(
                f"{shown(self.path)}: {damaged[0]} is not as it was saved: fit and save the detector again"
            )
        self._files = list(files)
        names = {name.split("/")[0] for name in files}
        self._blocks = sorted(
            (*map(int, name.removeprefix(_ROWS).split("-")), name) for name in names if name.startswith(_ROWS)
        )

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(first row, row after the last) of each block, in order."""
        return [(start, stop) for start, stop, _ in self._blocks]

    def whole(self) -> dict[str, np.ndarray]:
        """The arrays that have no blocks, by name."""
        return self._restored(_WHOLE)

    def rows(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Rows of the others, by name.

        Args:
            start, stop: of the grid's rows.

        Raises:
            CheckpointError: not all of them are there.
        """
        rows: dict[str, np.ndarray] = {}
        at = start
        for first, last, name in self._blocks:
            end = min(last, stop)
            if first <= at < end:
                block = self._restored(name)
                if (first, last) == (start, stop):
                    return block
                for key in block:
                    # Copied: a part would keep the whole block in memory.
                    if key not in rows:
                        rows[key] = np.empty((stop - start, *block[key].shape[1:]), block[key].dtype)
                    rows[key][at - start : end - start] = block[key][at - first : end - first]
                at = end
                del block
        if at < stop:
            raise CheckpointError(f"{shown(self.path)} has no row {at}: fit and save the detector again")
        return rows

    def _restored(self, name: str) -> dict[str, np.ndarray]:
        below = f"{name}/"
        files = [file.removeprefix(below) for file in self._files if file.startswith(below)]
        return trees.restore(self.path / name, files)


def folder_at(path: str | os.PathLike[str]) -> Path:
    """A user's path, absolute, `~` in it too.

    Raises:
        ArgumentError: it is no text.
        CheckpointError: there is no such home folder, or it is an address, or no path.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        raise ArgumentError(f"{path!r} is no path: give the path of a folder")
    text = os.path.expanduser(os.fsdecode(path))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
        raise CheckpointError(f"{shown(text)} is an address: give a folder, or mount it as one")
    name = text.split("/")[0]
    if name.startswith("~"):
        raise CheckpointError(
            f"{shown(text)}: {name} is nobody's home folder: write the folder out, or ./{name}"
        )
    if "\0" in text:
        raise CheckpointError(f"{shown(text)} is no path, for the NUL in it: choose another one")
    return Path(text).absolute()


def state(path: Path) -> str:
    """What a saved detector is, its arrays included: the SHA-256 of its page, which has their checksums.

    Args:
        path: the folder.

    Raises:
        CheckpointError: there is none that can be read.
    """
    try:
        return hashlib.sha256((path / PAGE).read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_page(path: Path) -> dict[str, Any]:
    """The page of a folder of any format.

    Raises:
        CheckpointError: there is none that can be read.
    """
    try:
        page = json.loads((path / PAGE).read_text(encoding="utf-8"))
        if not isinstance(page, dict):
            raise ValueError("no object")
        return page
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{shown(path)} holds no whole detector: fit and save it again ({PAGE}: {error})"
        ) from error


def _unreadable(path: Path, error: OSError) -> CheckpointError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        lacking = os.path.relpath(os.fsdecode(error.filename), path)
        return CheckpointError(
            f"{shown(path)} holds no whole detector: fit and save it again (there is no {shown(lacking)})"
        )
    return CheckpointError(f"{shown(path)} can't be read ({trees.cause(error)}): make it readable")


def _listed(folder: Path) -> dict[str, list[int]]:
    """Length and CRC-32 of every file, by its name in the folder."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return _checked(folder, names)


def _checked(folder: Path, names: Sequence[str] | Mapping[str, Any]) -> dict[str, list[int]]:
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # zlib lets other threads run
        sums = pool.map(lambda name: _checksum(folder / name), names)
        trees.import_orbax()  # meanwhile
        return dict(zip(names, sums, strict=True))


def _checksum(file: Path) -> list[int]:
    length = crc = 0
    with file.open("rb") as opened:
        while part := opened.read(1 << 22):
            length += len(part)
            crc = zlib.crc32(part, crc)
    return [length, crc]


def _crc(page: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(page, sort_keys=True).encode())
