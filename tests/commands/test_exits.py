"""How commands end: exit codes, and the line that is printed."""

import ast
import io
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest
from miniature import PARTS, UNITS, kolektor
from own_pictures import good_and_bad
from rich.console import Console

import jaxsode
from jaxsode import cli
from jaxsode.commands import progress
from jaxsode.commands.exits import Stopped, check_device, exit_code
from jaxsode.errors import ArgumentError, DataError

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASCII = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


_NO_CUDA = r"^JAX_PLATFORMS=cuda: JAX finds no such device here: unset it, or install jaxsode\[cuda12\] on a"


def _raise(error):
    raise error


def test_a_mistake_is_one_line_with_its_notes(capsys):
    error = DataError("there is none: give one")
    assert exit_code(lambda: _raise(error)) == 2
    error.add_note("more is there")
    assert exit_code(lambda: _raise(error)) == 2
    assert capsys.readouterr().err == (
        "error: there is none: give one\nerror: there is none: give one; more is there\n"
    )
    assert exit_code(lambda: None) == 0


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3.00 GiB"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.\nBuffers:\n…"),
    ],
)
def test_too_little_memory_is_one_line(capsys, error):
    assert exit_code(lambda: _raise(error)) == 2
    first = str(error).splitlines()[0]
    remedy = "give a smaller --memory-gb, --batch-size or --size"
    assert capsys.readouterr().err == f"error: out of memory ({first}): {remedy}\n"


def test_what_is_nobodys_mistake_is_seen_whole():
    for error in (jax.errors.JaxRuntimeError("INTERNAL: no"), RuntimeError("no"), OSError("no")):
        with pytest.raises(type(error), match="no"):
            exit_code(lambda error=error: _raise(error))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_handlers_are_there_while_a_command_runs_and_only_where_there_were_none(number, code):
    assert exit_code(lambda: _raise(Stopped(number))) == code
    seen = []
    assert exit_code(lambda: seen.append(signal.getsignal(number))) == 0
    assert callable(seen[0])
    assert signal.getsignal(number) is signal.SIG_DFL
    before = signal.signal(number, signal.SIG_IGN)  # as nohup has it
    try:
        exit_code(lambda: seen.append(signal.getsignal(number)))
    finally:
        signal.signal(number, before)
    assert seen[1] is signal.SIG_IGN


@pytest.mark.parametrize(
    "start",
    [
        "runpy.run_module('jaxsode.run', run_name='__main__')",
        "sys.argv.insert(1, 'run'); runpy.run_module('jaxsode.cli', run_name='__main__')",
        "sys.argv.insert(1, 'run'); script.load()()",
    ],
)
def test_a_signal_in_the_middle_of_a_fit_is_the_end_whatever_xla_computes(tmp_path, start):
    """Its threads may crash the interpreter's end: that there is none is seen from what it would do."""
    options = ["--weights", "random", "--size", "64", "64", "--batch-size", "4", "--k", "8"]
    done = subprocess.run(
        [
            *(sys.executable, "-c", _STOPPED + start, "--dataset", "folder"),
            *("--data-dir", str(good_and_bad(tmp_path / "p", good=12)), *options),
            *("--output", str(tmp_path / "out")),
        ],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 143, done.stderr
    assert done.stdout.endswith("not flushed yet")
    assert done.stderr.splitlines()[-1] == "stopped by SIGTERM: no results were written"
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


_STOPPED = """
import atexit, importlib.metadata, os, runpy, signal, sys
from jaxsode.experiment.features import Features
atexit.register(os._exit, 139)
batches = Features.batches
def stopped(self, indices):
    for number, batch in enumerate(batches(self, indices)):
        if number == 2:
            sys.stdout.write("not flushed yet")
            os.kill(os.getpid(), signal.SIGTERM)
        yield batch
Features.batches = stopped
script = importlib.metadata.EntryPoint("jaxsode", SCRIPT, "console_scripts")
""".replace("SCRIPT", repr(PROJECT["scripts"]["jaxsode"]))


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("no 'x'\n…")])
def test_no_device_is_one_line(monkeypatch, error):
    monkeypatch.setattr(jax, "devices", lambda: _raise(error))
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    with pytest.raises(ArgumentError, match=r"^JAX_PLATFORMS=tpu: JAX finds no such device here: unset it$"):
        check_device()
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(ArgumentError, match=_NO_CUDA):
        check_device()
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(ArgumentError, match=r"^JAX finds no device \(.+\): set JAX_PLATFORMS=cpu"):
        check_device()


def test_a_platform_that_is_not_there(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxsode.run", "-o", str(tmp_path / "out")],
        env=os.environ | {"JAX_PLATFORMS": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: JAX_PLATFORMS=nonsense: JAX finds no such device here")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_nobody_reads_on():
    """As of `jaxsode run --help | head -1`."""
    read, write = os.pipe()
    os.close(read)
    for module in ("jaxsode.run", "jaxsode.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], stdout=write, stderr=subprocess.PIPE, check=False
        )
        assert (done.returncode, done.stderr) == (141, b"")
    os.close(write)


def test_help_in_an_ascii_locale():
    for module, word in (("jaxsode.run", b"\\u03b5"), ("jaxsode.cli", b"COMMAND \\u2026")):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], env=ASCII, capture_output=True, check=True
        )
        assert word in done.stdout
        assert done.stderr == b""


def test_a_run_in_an_ascii_locale_on_paths_of_any_name(tmp_path):
    """UTF-8 that the locale can't decode, and bytes that are not UTF-8 at all."""
    folder = tmp_path / os.fsdecode(b"\xc3\xbc\xff")
    command = [
        *(sys.executable, "-c", _RUN, "--dataset", "kolektor", "--data-dir", str(kolektor(folder))),
        *("--fold", "1", "--size", "64", "32", "--weights", "random", "--k", "4", "--no-save-detector"),
        *("--output", str(folder / "out")),
    ]
    done = subprocess.run(command, env=ASCII, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == os.fsencode(tmp_path) + rb"/\xfc\xff/out"
    assert len(list((folder / "out" / "maps" / "1").iterdir())) == PARTS
    text = (folder / "out" / "metrics.json").read_text(encoding="utf-8")
    assert rf'"data_dir": "{tmp_path}/ü\\xff/KolektorSDD"' in text


_RUN = f"""
import sys
from jaxsode.commands import run
from jaxsode.datasets import kolektor
kolektor.COMPLETE = dict.fromkeys({tuple(UNITS)}, {PARTS})
sys.exit(run.main(sys.argv[1:]))
"""


def test_a_command_that_there_is_not(capsys):
    assert cli.main([os.fsdecode(b"fl\xff")]) == 2
    assert capsys.readouterr().err == (
        "error: there is no command 'fl\\\\xff': choose one of " + ", ".join(cli.COMMANDS) + "\n"
    )


def test_a_log_gets_a_plain_line_now_and_then(monkeypatch):
    log = io.StringIO()
    clock = iter(range(0, 1000, 20))  # twenty seconds pass whenever someone looks
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.Shown(Console(file=log)) as shown:
        with shown.task("fit", 8) as task:
            for _ in range(4):
                task.advance(2)
        with shown.task("weights, bytes") as task:
            for done in range(3):
                task.reach(done, None)
        shown.say("fold 1 · finished")
    lines = log.getvalue().splitlines()
    assert lines[0] == "fit: 4 of 8"
    assert lines[-1] == "fold 1 · finished"
    assert 3 <= len(lines) < 8
    assert "\r" not in log.getvalue()
    assert "\x1b" not in log.getvalue()


def test_a_terminal_gets_bars_alone():
    terminal = io.StringIO()
    with progress.Shown(Console(file=terminal, force_terminal=True, width=80)) as shown:
        with shown.task("fit", 8) as task:
            task.advance(8)
            shown._bars.refresh()
        shown.say("fold 1 · finished")
    assert "8/8" in terminal.getvalue()
    assert "finished" not in terminal.getvalue()


def test_every_text_is_read_and_written_as_utf8():
    """Whatever the locale: no file is opened as text without saying how."""
    root, folders = Path(jaxsode.__file__).parents[1], ("jaxsode", "pretrained_conversion", "bench")
    files = [path for name in folders for path in (root / name).rglob("*.py")]
    found = [
        f"{path}:{node.lineno}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _is_of_the_locale(node)
    ]
    assert len(files) > 50
    assert found == []


def _is_of_the_locale(call):
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if name in ("read_text", "write_text"):
        return True
    if name != "open":
        return False
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    modes = [value.value for value in given if isinstance(value, ast.Constant)]
    text = [mode for mode in modes if isinstance(mode, str) and mode.strip("rwaxt+") == ""]
    # The built-in alone opens a name as text without a mode; what has a method `open` may be anything.
    return bool(text) or (isinstance(call.func, ast.Name) and not modes)
