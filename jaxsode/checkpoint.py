"""A file format: arrays, some of them in blocks of rows, and a page of JSON that says what they are.

It knows nothing of what it keeps. The arrays are Orbax's (NumPy's where another host than the first writes);
beside them the page has the length and the CRC-32 of every file, and of itself, so that no flipped bit is
read as a number. A folder appears under its name only when all of it is written. Arrays whose first axis is
the grid's rows are written block by block, by whoever has them: a fit that never holds them all, or each of
several hosts.
"""

import json
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from jaxsode.errors import CheckpointError

FORMAT = 2
_PAGE = "detector.json"
_WHOLE = "whole"
_ROWS = "rows-"

# Orbax counts its saves and restores process-wide: two at once get into each other's way.
_orbax = threading.Lock()


class Writer:
    """A folder in the making: `whole` and `rows`, in any order, then `finish`.

    As a context it finishes nothing by itself: what isn't finished when the block ends is removed.

    Args:
        path: a folder that does not exist yet.

    Raises:
        CheckpointError: it exists, or can't be made.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).absolute()
        if self.path.exists() or self.path.is_symlink():
            raise CheckpointError(f"{self.path} exists already: choose another folder, or remove it")
        # The same name on every host, in case they share the folder's file system.
        self._partial = self.path.with_name(f".{self.path.name}.partial-{_of_first_host(os.getpid())}")
        self._finished = False
        if jax.process_index() == 0:
            try:
                self._partial.mkdir(parents=True)
            except OSError as error:
                raise CheckpointError(
                    f"{self.path} can't be written ({error.strerror}): choose another folder"
                ) from error
        _all_hosts("made")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished and jax.process_index() == 0:
            shutil.rmtree(self._partial, ignore_errors=True)

    def whole(self, arrays: Mapping[str, Any]) -> None:
        """Write arrays that have no blocks; on several hosts the first writes them.

        Args:
            arrays: by name, each whole on this host.
        """
        if jax.process_index() == 0:
            self._save(_WHOLE, {name: np.asarray(array) for name, array in arrays.items()})

    def rows(self, start: int, arrays: Mapping[str, Any]) -> None:
        """Write a block of rows.

        Args:
            start: the grid's row that the block begins with.
            arrays: by name, each (rows, …), all of equally many rows, on this host.
        """
        block = {name: np.asarray(array) for name, array in arrays.items()}
        stop = start + len(next(iter(block.values())))
        self._save(f"{_ROWS}{start:06d}-{stop:06d}", block)

    def finish(self, page: Mapping[str, Any]) -> None:
        """Write the page and give the folder its name.

        Args:
            page: what JSON can hold.

        Raises:
            CheckpointError: something took the name meanwhile.
        """
        _all_hosts("written")
        if jax.process_index() == 0:
            content = {"format": FORMAT, **page, "files": _listed(self._partial)}
            text = json.dumps(content | {"crc32": _crc(content)}, indent=2, ensure_ascii=False) + "\n"
            (self._partial / _PAGE).write_text(text, encoding="utf-8")
            try:
                self._partial.rename(self.path)
            except OSError as error:
                raise CheckpointError(
                    f"{self.path} was taken meanwhile ({error.strerror}): choose another folder"
                ) from error
        self._finished = True
        _all_hosts("named")

    def _save(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        if jax.process_index() == 0:
            with _orbax, _checkpointer() as checkpointer:
                checkpointer.save(self._partial / name, arrays)
            return
        # Of arrays that are whole on each host, Orbax lets the first one alone write.
        (self._partial / name).mkdir()
        for key, array in arrays.items():
            np.save(self._partial / name / f"{key}.npy", array, allow_pickle=False)


class Reader:
    """A folder that `Writer` finished. Its page and its files' lengths and checksums are looked at first.

    Args:
        path: the folder.

    Raises:
        CheckpointError: nothing whole is there, something is damaged, or it is of another format.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path).absolute()
        self.page = read_page(self.path)
        if self.page.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.path} is of format {self.page.get('format')}, this version reads {FORMAT}: "
                "fit it again"
            )
        stated = self.page.pop("crc32", None)
        if stated != _crc(self.page):
            raise CheckpointError(f"{self.path / _PAGE} is not as it was saved: fit and save it again")
        files: dict[str, list[int]] = self.page.pop("files")
        found = _checked(self.path, files)
        if damaged := sorted(name for name in files if found[name] != files[name]):
            raise CheckpointError(
                f"{self.path}: {damaged[0]} is not as it was saved: fit and save the detector again"
            )
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
        return restore(self.path / _WHOLE)

    def rows(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Rows of the others, by name.

        Args:
            start, stop: of the grid's rows.

        Raises:
            CheckpointError: not all of them are there.
        """
        parts: list[dict[str, np.ndarray]] = []
        at = start
        for first, last, name in self._blocks:
            if first <= at < min(last, stop):
                block = restore(self.path / name)
                parts.append({n: a[at - first : min(last, stop) - first] for n, a in block.items()})
                at = min(last, stop)
        if at < stop:
            raise CheckpointError(f"{self.path} has no row {at}: fit and save the detector again")
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def read_page(path: Path) -> dict[str, Any]:
    """The page of a folder of any format.

    Raises:
        CheckpointError: there is none that can be read.
    """
    try:
        page = json.loads((path / _PAGE).read_text(encoding="utf-8"))
        if not isinstance(page, dict):
            raise ValueError("no object")
        return page
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} holds no whole detector: fit and save it again ({error})") from error


def restore(path: Path) -> dict[str, Any]:
    """A tree of arrays that Orbax, or on another host than the first NumPy, wrote; on this host.

    Raises:
        CheckpointError: it can't be read.
    """
    import orbax.checkpoint as ocp

    try:
        if plain := sorted(path.glob("*.npy")):
            return {file.stem: np.load(file, allow_pickle=False) for file in plain}
        with _orbax, _checkpointer() as checkpointer:
            tree = checkpointer.metadata(path).item_metadata
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), dict(tree))
            return checkpointer.restore(path, restore_args=as_numpy)
    except Exception as error:  # Orbax and TensorStore raise what they like for a damaged file
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(
            f"{path.parent}: its arrays can't be read, fit and save the detector again ({first})"
        ) from error


def _checkpointer() -> Any:
    """Orbax, on this host alone: each host writes what it has, and waits for nobody."""
    import orbax.checkpoint as ocp

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"jaxsode-{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def assembled(
    shape: tuple[int, ...],
    dtype: Any,
    sharding: jax.sharding.Sharding,
    rows: Callable[[int, int], np.ndarray],
) -> jax.Array:
    """An array over several devices from the rows that each one needs.

    Args:
        shape: of the whole, (H, …).
        dtype: of the whole.
        sharding: over its first axis at most.
        rows: (start, stop) → those rows.
    """

    def part(index: Sequence[slice] | None) -> np.ndarray:
        assert index is not None
        start, stop, _ = index[0].indices(shape[0])
        return rows(start, stop)[(slice(None), *index[1:])].astype(dtype)

    return jax.make_array_from_callback(shape, sharding, part)


def _listed(folder: Path) -> dict[str, list[int]]:
    """Length and CRC-32 of every file, by its name in the folder."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return _checked(folder, names)


def _checked(folder: Path, names: Sequence[str] | Mapping[str, Any]) -> dict[str, list[int]]:
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # zlib lets other threads run
        return dict(zip(names, pool.map(lambda name: _checksum(folder / name), names), strict=True))


def _checksum(file: Path) -> list[int]:
    length = crc = 0
    try:
        with file.open("rb") as opened:
            while part := opened.read(1 << 22):
                length += len(part)
                crc = zlib.crc32(part, crc)
    except OSError:
        return [-1, 0]  # nothing that was saved is so
    return [length, crc]


def _crc(page: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(page, sort_keys=True).encode())


def _of_first_host(number: int) -> int:
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def _all_hosts(reached: str) -> None:
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"jaxsode-checkpoint-{reached}")
