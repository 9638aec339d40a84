import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxsode.datasets import leftovers
from jaxsode.datasets.dataset import Card, Example, Record
from jaxsode.datasets.prepared import prepared
from jaxsode.errors import DataError

CARD = Card("toy", channels=1, description="Noise.")
COUNT = 12


def records() -> Iterator[Record]:
    for i in range(COUNT):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (64, 64), dtype=np.uint8)).save(
            buffer, "PNG"
        )
        yield Record(
            Example(f"picture{i}", "group", "kind", "train", i % 2 == 1),
            buffer.getvalue(),
            b"mask %d" % i if i % 2 else b"",
        )


def assert_complete() -> None:
    examples, stored = prepared(CARD, "fingerprint", records)
    for i, record in enumerate(records()):
        assert examples[i] == record.example
        assert stored[i]["picture"] == record.picture
        assert stored[i]["mask"] == record.mask
    assert len(examples) == COUNT
    assert stored[-1] == stored[COUNT - 1]
    with pytest.raises(IndexError):
        stored[COUNT]


def test_what_goes_in_comes_out():
    assert_complete()


def test_it_is_made_once_for_a_fingerprint():
    def never() -> Iterator[Record]:
        raise AssertionError("made again")

    prepared(CARD, "fingerprint", records)
    prepared(CARD, "fingerprint", never)
    with pytest.raises(AssertionError, match="made again"):
        prepared(CARD, "another", never)


def test_nothing_stays_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert_complete()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, DataError, MemoryError])
def test_an_interruption_leaves_nothing(own_home: Path, interruption: type[BaseException]):
    def interrupted() -> Iterator[Record]:
        for i, record in enumerate(records()):
            if i == COUNT - 1:
                raise interruption("now")
            yield record

    with pytest.raises(interruption, match="now"):
        prepared(CARD, "fingerprint", interrupted)
    assert list((own_home / "datasets" / "toy").iterdir()) == []
    assert_complete()


KILLED = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, as this test may be, it is ignored
sys.path.insert(0, {folder!r})
from test_prepared import CARD, records
from jaxsode.datasets.prepared import prepared

def hanging():
    yield from records()
    print("all given", flush=True)
    sys.stdin.read()

prepared(CARD, "fingerprint", hanging)
"""


@pytest.fixture
def hanging() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has written all records, and waits before the end."""
    code = KILLED.format(folder=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"all given\n"
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_preparation_is_not_taken_as_complete(
    hanging: subprocess.Popen[bytes], own_home: Path, number: signal.Signals
):
    """What it left is removed when the next one is made."""
    hanging.send_signal(number)
    assert hanging.wait() == -number
    (left,) = (own_home / "datasets" / "toy").iterdir()
    assert left.name.startswith(".unfinished-")
    assert_complete()
    assert [path.name for path in (own_home / "datasets" / "toy").iterdir()] == ["fingerprint-2"]


def test_what_is_being_made_is_left_alone(hanging: subprocess.Popen[bytes], own_home: Path):
    (unfinished,) = (own_home / "datasets" / "toy").iterdir()
    elsewhere = unfinished.with_name(f".unfinished-another-machine-{os.getpid()}-abc")
    elsewhere.mkdir()
    assert_complete()
    assert any(unfinished.rglob("*"))
    assert elsewhere.exists()


def test_the_same_number_is_not_the_same_process(own_home: Path):
    """As in containers, whose first process has the number 1 each time."""
    folder = own_home / "datasets" / "toy"
    mine, before_me = (folder / f"{leftovers.prefix()}{name}" for name in ("mine", "before"))
    for path in (mine, before_me):
        path.mkdir(parents=True)
    os.utime(before_me, (0, 0))
    leftovers.remove(folder)
    assert list(folder.iterdir()) == [mine]


def test_two_at_once_both_succeed(own_home: Path):
    both = threading.Barrier(2, timeout=20)

    def meet() -> Iterator[Record]:
        both.wait()
        yield from records()

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(prepared, CARD, "fingerprint", meet) for _ in range(2)]
        assert all(len(future.result()[0]) == COUNT for future in futures)
    assert [path.name for path in (own_home / "datasets" / "toy").iterdir()] == ["fingerprint-2"]
    assert_complete()


def test_records_may_be_read_from_several_threads():
    _, stored = prepared(CARD, "fingerprint", records)
    expected = [record.picture for record in records()]
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda i: stored[i % COUNT]["picture"], range(40 * COUNT)))
    assert read == expected * 40


@pytest.mark.parametrize(
    "damage", ["gone", "cut", "cut at a block", "empty", "changed", "no list", "no info"]
)
def test_damaged_files_are_told(own_home: Path, damage: str):
    prepared(CARD, "fingerprint", records)
    (folder,) = (own_home / "datasets" / "toy").iterdir()
    (stored,) = folder.glob("*array_record*")
    content = stored.read_bytes()
    if damage == "gone":
        stored.unlink()
    elif damage == "cut":
        stored.write_bytes(content[:-1000])
    elif damage == "cut at a block":
        assert len(content) > 1 << 16
        stored.write_bytes(content[: 1 << 16])
    elif damage == "empty":
        stored.write_bytes(b"")
    elif damage == "changed":
        stored.write_bytes(content[:20000] + bytes(200) + content[20200:])
    elif damage == "no list":
        (folder / "metadata.json").unlink()
    else:
        (folder / "dataset_info.json").write_text("")

    def read_all() -> None:
        _, opened = prepared(CARD, "fingerprint", records)
        for i in range(COUNT):
            opened[i]

    with pytest.raises(DataError) as caught:
        read_all()
    assert str(caught.value) == (
        f"the prepared data in {folder} are damaged: delete that folder, it will be made again"
    )


def test_a_home_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("JAXSODE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"^can't write prepared data into .* set JAXSODE_HOME to a folder "):
        prepared(CARD, "fingerprint", records)


LIMITED = """
import resource, sys
sys.path.insert(0, {folder!r})
from test_prepared import CARD, records
from jaxsode.datasets.prepared import prepared
from jaxsode.errors import DataError

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    prepared(CARD, "fingerprint", records)
except DataError as error:
    print(error)
"""


def test_a_full_disk(own_home: Path):
    """Here a file that may not grow: the same failure, of the same write."""
    code = LIMITED.format(folder=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    (line,) = done.stdout.splitlines() or [done.stderr]
    folder = own_home / "datasets" / "toy"
    assert line.startswith(f"can't write prepared data into {folder}: make room there, or set JAXSODE_HOME")
    assert line.endswith("write() failed: File too large)")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("fault", [OSError, RuntimeError])
def test_a_fault_of_the_records_is_not_taken_for_a_full_disk(fault: type[Exception]):
    def faulty() -> Iterator[Record]:
        yield next(records())
        raise fault("mine")

    with pytest.raises(fault, match=r"^mine$"):
        prepared(CARD, "fingerprint", faulty)
