"""Data sets prepared once: in $JAXSODE_HOME/datasets, keyed by a fingerprint of what they were made from."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from jaxsode.errors import DataError
from jaxsode.home import home

from . import leftovers
from .dataset import Card, Example, Progress, Record, Records
from .pipeline import WORKERS
from .workers import in_order

_LAYOUT = 2  # one more whenever what is stored of a picture changes

Item = TypeVar("Item")


def prepared(
    card: Card, fingerprint: str, records: Callable[[], Iterable[Record]]
) -> tuple[tuple[Example, ...], Records]:
    """The examples of a data set and their encoded files, prepared now if they weren't yet.

    A prepared folder gets its name when it is complete, by a rename: there is no half of one. Two processes
    that prepare the same data at once both succeed, and one of the two results is kept.

    Args:
        card: of the data set.
        fingerprint: changes whenever the records would.
        records: gives them, in order; called only where there is something to prepare.

    Raises:
        DataError: the folder can't be written, or what lies there is damaged; and whatever `records` raises.
    """
    folder = place(card, f"{fingerprint}-{_LAYOUT}")
    _prepare(card, folder, records)
    return _open(folder)


def in_parallel(
    record: Callable[[Item], Record], items: Sequence[Item], progress: Progress | None
) -> Iterator[Record]:
    """The records of all items in their order, made by several threads.

    Args:
        record: makes one.
        items: what each is made from.
        progress: called with (done, total) of them.
    """
    for done, made in enumerate(in_order(record, items, workers=WORKERS, ahead=4 * WORKERS), start=1):
        yield made
        if progress is not None:
            progress(done, len(items))


def place(card: Card, key: str) -> Path:
    """The folder of the cache where something of a data set is kept."""
    return home() / "datasets" / card.name / key


def _prepare(card: Card, folder: Path, records: Callable[[], Iterable[Record]]) -> None:
    faults: list[Exception] = []

    def given() -> Iterator[Record]:
        try:
            yield from records()
        except Exception as error:
            faults.append(error)
            raise

    make_once(folder, lambda unfinished: _build(card, unfinished, given), faults)


def make_once(folder: Path, make: Callable[[Path], Path], faults: Sequence[Exception] = ()) -> None:
    """Make a folder of the cache, unless it is there; it gets its name when it is complete, by a rename.

    Args:
        folder: to be made.
        make: makes it within the temporary folder that it is given, and returns its path.
        faults: if `make` has put an error in here, that one was not of the writing, and is raised as it is.

    Raises:
        DataError: the folder can't be written; and whatever `make` raises.
    """
    try:
        if folder.exists():
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        leftovers.remove(folder.parent)
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix(), dir=folder.parent) as unfinished:
            complete = make(Path(unfinished))
            try:
                complete.rename(folder)
            except OSError:
                if not folder.exists():  # if it does, another process was faster, with the same result
                    raise
    except (OSError, RuntimeError) as error:  # the latter is what array_record makes of a full disk
        if faults:
            raise  # whatever it is, it isn't the writing
        reason = (isinstance(error, OSError) and error.strerror) or str(error).partition(";")[0]
        raise DataError(
            f"can't write prepared data into {folder.parent}: make room there, or set JAXSODE_HOME to a "
            f"folder with room, where you may write ({' '.join(reason.split())})"
        ) from error


def _build(card: Card, into: Path, records: Callable[[], Iterable[Record]]) -> Path:
    import tensorflow_datasets as tfds

    from .builders import Pictures

    builder = Pictures(card, records=records, data_dir=into, file_format="array_record")
    tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    finally:
        tfds.enable_progress_bar()
    return Path(builder.data_dir)


class _StoredRecords:
    """The records of a prepared folder, checked as they are read.

    The files carry checksums, but of one that was cut at a block's boundary empty records are read.
    """

    def __init__(self, folder: Path, source: Sequence[Mapping[str, bytes]], examples: tuple[Example, ...]):
        self._folder, self._source, self._examples = folder, source, examples

    def __getitem__(self, index: int, /) -> Mapping[str, bytes]:
        index = range(len(self._examples))[index]
        try:
            record = self._source[index]
        except (OSError, RuntimeError, ValueError) as error:  # from array_record and protobuf
            raise _damaged(self._folder) from error
        if record["name"] != self._examples[index].name.encode():
            raise _damaged(self._folder)
        return record


def _open(folder: Path) -> tuple[tuple[Example, ...], Records]:
    import tensorflow_datasets as tfds

    from .builders import SPLIT

    skip = tfds.decode.SkipDecoding()
    try:
        builder = tfds.builder_from_directory(folder)
        source = builder.as_data_source(  # whose decorator hides its parameters from type checkers
            split=SPLIT,  # pyright: ignore[reportCallIssue]
            decoders={"picture": skip, "mask": skip},
        )
        listed = dict(builder.info.metadata or {})["examples"]
    except Exception as error:  # TFDS, protobuf and array_record each have their own
        raise _damaged(folder) from error
    examples = tuple(Example(**example) for example in listed)
    return examples, _StoredRecords(folder, source, examples)


def _damaged(folder: Path) -> DataError:
    return DataError(f"the prepared data in {folder} are damaged: delete that folder, it will be made again")
