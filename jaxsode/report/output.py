"""An output folder, whole or not there; what is finished of it waits beside it under another name."""

import errno
import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import IO, Any, Self

from jaxsode.errors import CheckpointError, OutputError
from jaxsode.home import readable

SCHEMA = 2
"""Of metrics.json and summary.json; one more whenever their shape changes."""

_FULL = (errno.ENOSPC, errno.EDQUOT)

# What a run can go on from, of one method here and of several a folder deeper: its numbers, and the steps of
# a training on a split, training/SPLIT/NETWORK/STEP.
_WORTH = ("metrics.json", "training/*/*/*")


class Output:
    """The folder NAME.partial, which gets the name NAME when the block ends well.

    It lies beside NAME; where NAME exists, empty, within it: that may be someone's working folder, a link or
    a mount point, and stays the same one. Parts are made in `now` and moved to where they belong by `keep`.
    If the block ends early and neither a metrics.json was written nor a checkpoint of a training, nothing
    stays; else all that is finished does.
    The process that writes holds a lock, which goes with it however it ends.

    Args:
        folder: NAME; new, or an empty folder.
        resume: go on in NAME.partial, if a run that ended early left one.

    Attributes:
        path: NAME.partial, for what is finished.
        now: a folder within for what isn't.

    Raises:
        OutputError: NAME holds something or can't be made, NAME.partial is there and `resume` is not, or
            another process writes there; also, when the block ends, if the disk is full or something was put
            into NAME meanwhile.
    """

    def __init__(self, folder: Path, *, resume: bool = False):
        self.name = readable(folder)
        try:
            self.folder, self.path = _places(folder, self.name)
            self._own = self.path / ".run"
            self.now = self._own / "now"
            self._begin(resume)
        except OSError as error:
            raise OutputError(
                f"--output {self.name} can't be written ({error.strerror}): choose another"
            ) from error

    def same(self, **facts: Any) -> None:
        """Write down what the run depends on; where it is resumed, hold it to what is written there.

        Args:
            facts: what JSON can hold, by name.

        Raises:
            OutputError: one differs.
        """
        plan = self._own / "plan.json"
        known = read_json(plan) or {}
        for name, value in json.loads(json.dumps(facts)).items():
            if known.setdefault(name, value) != value:
                raise OutputError(
                    f"--resume: {readable(self.path)} was begun with {name} {_shown(known[name])}, not "
                    f"{_shown(value)}: ask for the same, or remove that folder"
                )
        write_json(plan, known)

    def keep(self, *parts: Path) -> None:
        """Move what is finished out of `now`, and forget what else is there.

        Args:
            parts: folders, relative to both; what isn't there is left out.
        """
        for part in parts:
            # Of a run that was killed between this and what says that it is finished.
            shutil.rmtree(self.path / part, ignore_errors=True)
            if (self.now / part).exists():
                (self.path / part).parent.mkdir(parents=True, exist_ok=True)
                (self.now / part).rename(self.path / part)
        shutil.rmtree(self.now, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        try:
            if error is None:
                self._give_name()
            else:
                self._end_early(error)
        finally:
            self._lock.close()

    def _begin(self, resume: bool) -> None:
        """Make the folder, or find it, and lock it."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._own.is_dir() and any(self.path.iterdir()):
            raise OutputError(
                f"--output {self.name}: {readable(self.path)} holds something else: choose another name"
            )
        # Without either, it is what a writer's last thread made again of a folder that was removed.
        unfinished = (self._own / "lock").exists() or any(c != self._own for c in self.path.iterdir())
        self._own.mkdir(exist_ok=True)
        self._lock: IO[bytes] = (self._own / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._lock.fileno()), os.stat(self._own / "lock")):
                raise FileNotFoundError  # it has just got its name, and another took its place
        except (BlockingIOError, FileNotFoundError) as error:
            self._lock.close()
            raise OutputError(
                f"--output {self.name} is being written by another process: choose another, or wait"
            ) from error
        if unfinished and not resume:
            self._lock.close()
            raise OutputError(
                f"--output {self.name}: a run that ended early lies in {readable(self.path)}: go on with "
                "--resume, or remove that folder"
            )
        shutil.rmtree(self.now, ignore_errors=True)

    def _end_early(self, error: BaseException) -> None:
        finished = any(any(self.path.glob(each)) for what in _WORTH for each in (what, f"*/{what}"))
        _remove(self.now if finished else self.path)
        raised = error
        if (number := self._number(error)) is not None:
            room = "make room, or choose another" if number in _FULL else "choose another"
            raised = OutputError(f"--output {self.name}: {os.strerror(number)}: {room}")
        if finished and "--resume" not in str(raised):
            raised.add_note(f"what was finished is in {readable(self.path)}: --resume goes on there")
        if raised is not error:
            raise raised from error

    def _number(self, error: BaseException) -> int | None:
        """What the system said of a file of this folder; of a detector's, its error says it in words."""
        if isinstance(error, CheckpointError) and readable(self.now) in str(error):
            return next((number for number in _FULL if os.strerror(number) in str(error)), None)
        if not isinstance(error, OSError):
            return None
        here = isinstance(error.filename, str | Path) and self.path in Path(error.filename).parents
        return error.errno if here or error.errno in _FULL else None

    def _give_name(self) -> None:
        try:
            if not self.folder.exists():
                self.path.rename(self.folder)
                shutil.rmtree(self.folder / self._own.name)
                return
            if any(child != self.path for child in self.folder.iterdir()):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
            for child in sorted(self.path.iterdir()):
                if child != self._own:
                    child.rename(self.folder / child.name)
            shutil.rmtree(self.path)
        except OSError as error:
            raise OutputError(
                f"--output {self.name} was taken meanwhile ({error.strerror}): the results are in "
                f"{readable(self.path)}"
            ) from error


def _places(folder: Path, name: str) -> tuple[Path, Path]:
    """NAME, with no link left in it, and NAME.partial."""
    real = Path(os.path.realpath(folder))
    if folder.is_symlink() and not real.exists():
        raise OutputError(f"--output {name} is a link to nothing: make {readable(real)}, or choose another")
    beside, within = (parent / f"{real.name}.partial" for parent in (real.parent, real))
    if not real.exists():
        return real, beside
    if not real.is_dir():
        raise OutputError(f"--output {name} is a file: choose a new or an empty folder")
    if any(child != within for child in real.iterdir()):
        raise OutputError(f"--output {name} holds something already: choose a new or an empty folder")
    # Where a run was begun before the folder was made, it is gone on with there.
    return real, beside if beside.exists() and not within.exists() else within


def _remove(folder: Path) -> None:
    """Remove a folder in which the threads of a writer that failed may still be making files."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def read_json(path: Path) -> Any:
    """What `write_json` wrote, or None where it wrote nothing.

    Raises:
        OutputError: it is something else.
    """
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{readable(path)} can't be read: remove what was finished with it") from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON, all of it or nothing, and its folder; a number that is not finite is an error, not NaN."""
    write(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write(path: Path, text: str) -> None:
    """Write a text in UTF-8, all of it or nothing, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        # What is not Unicode, of a file's name, becomes an escape that JSON knows.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
