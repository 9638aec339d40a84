"""A run that ends early: what it leaves, what it says, and how `--resume` goes on."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from miniature import PARTS, SMALL, UNITS, is_complete, kolektor

from jaxsode import Detector, report
from jaxsode.commands import exits
from jaxsode.commands.run import main
from jaxsode.errors import CheckpointError

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture
def data(tmp_path, monkeypatch):
    is_complete(monkeypatch)
    return kolektor(tmp_path / "data")


@pytest.fixture(autouse=True)
def as_in_the_foreground(monkeypatch):
    """A shell's background job, as this may be, has SIGINT ignored; and the terminal stays."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(exits, "_leave_terminal", lambda: None)
    yield
    signal.signal(signal.SIGINT, before)


def _run(data, output, *more):
    return main([*SMALL, "--data-dir", str(data), "--output", str(output), *more])


def _numbers(folder):
    page = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {name: page[name] for name in ("schema", "setting", "folds", "mean", "std", "config", "weights")}


def _names(folder):
    """Of all that lies below, but the detectors' own files."""
    paths = (path.relative_to(folder) for path in folder.rglob("*"))
    return {path.as_posix() for path in paths if "detector" not in path.parts or len(path.parts) < 3}


def _at_a_heat_map_of(patch, fold, action):
    plain = report.write_panel

    def write(path, panel):
        plain(path, panel)
        if path.parent.name == fold:
            action()

    patch.setattr(report, "write_panel", write)


def _fail(error):
    raise error


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_before_anything_is_finished_leaves_nothing(
    data, tmp_path, monkeypatch, capsys, number, code
):
    with monkeypatch.context() as patch:
        _at_a_heat_map_of(patch, "1", lambda: os.kill(os.getpid(), number))
        assert _run(data, tmp_path / "out") == code
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    name = signal.Signals(number).name
    assert capsys.readouterr().err.splitlines()[1:] == [f"stopped by {name}: no results were written"]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_while_data_are_prepared_leaves_no_half_of_them(
    data, tmp_path, monkeypatch, own_home, number, code
):
    with monkeypatch.context() as patch:
        patch.setattr("jaxsode.commands.progress.Task.reach", lambda *_: os.kill(os.getpid(), number))
        assert _run(data, tmp_path / "out") == code
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert not [path for path in own_home.rglob("*") if path.name.startswith(".unfinished")]


def test_finished_folds_stay_and_are_not_done_again(data, tmp_path, monkeypatch, capsys):
    assert _run(data, tmp_path / "whole") == 0
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with monkeypatch.context() as patch:
        _at_a_heat_map_of(patch, "2", lambda: os.kill(os.getpid(), signal.SIGTERM))
        capsys.readouterr()
        assert _run(data, out) == 143
    says = capsys.readouterr().err.splitlines()[-1]
    assert says == f"stopped by SIGTERM: what was finished is in {partial}: --resume goes on there"
    assert not out.exists()
    assert [fold["fold"] for fold in _numbers(partial)["folds"]] == ["1"]
    finished = {name for name in _names(partial) if not name.startswith(".run")}
    assert finished == {name for name in _names(tmp_path / "whole") if "/2" not in name and "/3" not in name}

    drawn = []
    plain = report.write_panel
    monkeypatch.setattr(report, "write_panel", lambda path, panel: (drawn.append(path), plain(path, panel)))
    assert _run(data, out, "--resume") == 0
    assert {path.parent.name for path in drawn} == {"2", "3"}
    assert not partial.exists()
    assert _names(out) == _names(tmp_path / "whole")
    assert _numbers(out) == _numbers(tmp_path / "whole")
    assert set(json.loads((out / "metrics.json").read_text(encoding="utf-8"))["timing"]["folds"]) == set(
        "123"
    )


def test_a_killed_run(data, tmp_path, capsys):
    """SIGKILL gives no time to clean up; nothing half-written is found by who goes on."""
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    command = [sys.executable, "-c", _SLOW, *SMALL, "--data-dir", str(data), "--output", str(out)]

    def refused(*more):
        capsys.readouterr()
        assert _run(data, out, *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "writing"
        for more in ([], ["--resume"]):
            assert refused(*more) == (
                f"error: --output {out} is being written by another process: choose another, or wait"
            )
        process.kill()
    assert not out.exists()
    assert {"maps/1", "detector/1", "metrics.json", ".run/now/maps/2"} <= _names(partial)
    assert "maps/2" not in _names(partial)
    assert refused() == (
        f"error: --output {out}: a run that ended early lies in {partial}: go on with --resume, or remove "
        "that folder"
    )
    asked = "ask for the same, or remove that folder"
    for more, differs in (
        (["--k", "4"], "methods semi-orthogonal-k8-seed0, not semi-orthogonal-k4-seed0"),
        (["--fold", "1", "2"], "fold all, not 1, 2"),
        (["--maps", "none"], "maps all, not none"),
        (["--epsilon", "1"], "methods semi-orthogonal-k8-seed0, not semi-orthogonal-k8-seed0-eps1"),
    ):
        assert refused("--resume", *more) == f"error: --resume: {partial} was begun with {differs}: {asked}"
    (data / "kos05" / "Part5.jpg").rename(data / "kos05" / "Part9.jpg")  # refused, and nothing is lost
    assert "Part5" in refused("--resume")
    (data / "kos05" / "Part9.jpg").rename(data / "kos05" / "Part5.jpg")
    assert _run(data, out, "--resume") == 0
    assert not partial.exists()
    assert not [name for name in _names(out) if "/." in f"/{name}"]
    assert {path.name for path in (out / "detector").iterdir()} == {"1", "2", "3"}
    assert int(Detector.load(out / "detector" / "2").count) == 10


_SLOW = f"""
import sys, time
from jaxsode import report
from jaxsode.commands import run
from jaxsode.datasets import kolektor
kolektor.COMPLETE = dict.fromkeys({tuple(UNITS)}, {PARTS})
write = report.write_panel
def slow(path, panel):
    write(path, panel)
    if path.parent.name == "2":
        print("writing", flush=True)
        time.sleep(60)
report.write_panel = slow
sys.exit(run.main(sys.argv[1:]))
"""


def test_a_sweep_goes_on_in_its_second_method(data, tmp_path, monkeypatch, capsys):
    sweep = ["--k", "2", "8", "--fold", "1", "2", "--no-save-detector"]
    assert _run(data, tmp_path / "whole", *sweep) == 0
    drawn = []
    with monkeypatch.context() as patch:

        def at() -> None:
            drawn.append(1)
            if len(drawn) == PARTS + 1:  # the second method's first
                os.kill(os.getpid(), signal.SIGINT)

        _at_a_heat_map_of(patch, "2", at)
        assert _run(data, tmp_path / "out", *sweep) == 130
    names = [f"semi-orthogonal-k{k}-seed0" for k in (2, 8)]
    done = [len(_numbers(tmp_path / "out.partial" / name)["folds"]) for name in names]
    assert done == [2, 1]
    assert _run(data, tmp_path / "out", *sweep, "--resume") == 0
    assert _names(tmp_path / "out") == _names(tmp_path / "whole")
    for name in names:
        assert _numbers(tmp_path / "out" / name) == _numbers(tmp_path / "whole" / name)
    summaries = [(tmp_path / run / "summary.json").read_text(encoding="utf-8") for run in ("out", "whole")]
    assert summaries[0] == summaries[1]


@pytest.mark.parametrize("fold", ["1", "2"])
@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "full"), "No space left on device: make room, or choose another"),
        (CheckpointError("it can't be written: make room"), "it can't be written: make room"),
        (MemoryError("Unable to allocate 3 GiB"), "give a smaller --memory-gb, --batch-size or --size"),
    ],
)
def test_a_disk_or_a_memory_that_is_full(data, tmp_path, monkeypatch, capsys, fold, error, says):
    """One line, and what was finished stays."""
    _at_a_heat_map_of(monkeypatch, fold, lambda: _fail(error))
    assert _run(data, tmp_path / "out") == 2
    printed = capsys.readouterr().err.splitlines()
    partial = tmp_path / "out.partial"
    if fold == "1":
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
        assert len(printed) == 2
        assert printed[0].startswith("memory: ")
        assert printed[1].endswith(says)
    else:
        assert [fold["fold"] for fold in _numbers(partial)["folds"]] == ["1"]
        assert printed[-1].endswith(f"{says}; what was finished is in {partial}: --resume goes on there")
    assert printed[-1].startswith("error: ")


def test_a_full_disk_while_the_metrics_are_written(data, tmp_path, monkeypatch, capsys):
    plain = report.write_json

    def write(path, content):
        if len(content.get("folds", ())) == 2:
            _fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        plain(path, content)

    monkeypatch.setattr(report, "write_json", write)
    assert _run(data, tmp_path / "out") == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(report, "write_json", plain)
    assert _run(data, tmp_path / "out", "--resume") == 0
    assert len(_numbers(tmp_path / "out")["folds"]) == 3


def test_an_empty_folder_that_was_there_is_resumed_within(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    out.mkdir()
    inode = out.stat().st_ino
    with monkeypatch.context() as patch:
        _at_a_heat_map_of(patch, "2", lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert _run(data, out) == 129
    assert [path.name for path in out.iterdir()] == ["out.partial"]
    assert _run(data, out) == 2
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]
    assert _run(data, out, "--resume") == 0
    assert sorted(path.name for path in out.iterdir()) == ["detector", "maps", "metrics.json"]
    assert out.stat().st_ino == inode


def test_resume_wants_a_name(capsys):
    assert main(["--resume"]) == 2
    assert capsys.readouterr().err == (
        "error: --resume goes on with a folder that has a name: give its --output\n"
    )
