"""What is measured on a busy machine, or by code that is no commit's, is refused, or marked on demand."""

import json
import subprocess

import pytest

from bench import quiet, record, run, table
from bench.harness import BenchError
from bench.record import Result

QUIET = {
    "load_average": 0.9,
    "threads": {"usable_cores": 2},
    "commit": "ab" * 20,
    "reference_gflop_s": {"before": 96.0, "after": 100.0, "best": 100.0},
}


@pytest.mark.parametrize(
    ("differs", "found"),
    [
        ({}, []),
        ({"load_average": 1.1}, ["load average 1.1 on 2 cores"]),
        ({"load_average": None}, ["no load average"]),
        ({"commit": None}, ["no commit"]),
        ({"commit": "ab+"}, ["uncommitted changes"]),
        ({"commit": "ab+", "changes": ["a", "b"]}, ["uncommitted changes, 2 files"]),
        ({"reference_gflop_s": None}, ["no reference product"]),
        (
            {"reference_gflop_s": {"before": 94.0, "after": 50.0, "best": 100.0}},
            ["a product at 94 of 100 GFLOP/s before", "a product at 50 of 100 GFLOP/s after"],
        ),
        ({"reference_gflop_s": {"before": 99.0, "best": 100.0}}, ["cut off before the end"]),
    ],
)
def test_what_is_noise(differs, found):
    assert quiet.noise(QUIET | differs) == found


@pytest.fixture
def clean(monkeypatch):
    """A quiet machine and a commit's code; returns the rates that the reference product will have."""
    rates = [100.0, 100.0]
    monkeypatch.setattr(quiet, "changes", list)
    monkeypatch.setattr(quiet.os, "getloadavg", lambda: (0.1, 0.1, 0.1))
    monkeypatch.setattr(quiet, "reference_gflop_s", lambda *, quick: rates.pop(0))
    plain = record.environment
    monkeypatch.setattr(record, "environment", lambda: plain() | {"commit": "ab" * 20})
    return rates


def test_a_quiet_run_is_a_result(clean, tmp_path):
    result = Result("inverse", {}, tmp_path, silent=True)
    result.begin(strict=True)
    result.leave_out("all", "a test")
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    path = result.end(strict=True)
    assert list(tmp_path.iterdir()) == [path]
    assert "rule" not in table.markdown(table.read(path))


def test_a_machine_that_gets_busy_gives_no_result_and_keeps_what_was_found(clean, tmp_path):
    clean[1] = 80.0
    result = Result("inverse", {}, tmp_path, silent=True)
    result.begin(strict=True)
    with pytest.raises(
        BenchError, match=r"80 of 100 GFLOP/s after: no result; what was found is in .*partial"
    ):
        result.end(strict=True)
    assert list(tmp_path.iterdir()) == [result.partial]
    assert json.loads(result.partial.read_text())["suite"] == "inverse"
    assert Result("inverse", {}, tmp_path, silent=True).path != result.path


@pytest.mark.parametrize("busy", ["load", "changes", "slower than ever"])
def test_a_busy_machine_is_refused_before_anything_is_measured(clean, tmp_path, monkeypatch, capsys, busy):
    if busy == "load":
        monkeypatch.setattr(quiet.os, "getloadavg", lambda: (9.0, 0.1, 0.1))
        monkeypatch.setattr(quiet, "PATIENCE_S", 0.0)
        words = "error: load average 9.0 on "
    elif busy == "changes":
        monkeypatch.setattr(quiet, "changes", lambda: ["jaxsode/detector.py"])
        monkeypatch.setattr(record, "environment", lambda: record_environment() | {"commit": "ab+"})
        words = "error: uncommitted changes, 1 file"
    else:
        clean[:] = [100.0, 100.0, 90.0]
        quick = Result("inverse", {}, tmp_path / "earlier", silent=True)
        quick.begin(strict=True)
        quick.end(strict=True)
        words = "error: a product at 90 of 100 GFLOP/s before"
    assert run.main(["inverse", "--results", str(tmp_path / "here")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(words)
    assert line.endswith(": nothing is measured; see to it, or give --allow-noisy")
    assert not (tmp_path / "here").exists()


record_environment = record.environment


def test_where_noise_is_allowed_it_is_marked(clean, tmp_path, monkeypatch):
    monkeypatch.setattr(quiet.os, "getloadavg", lambda: (9.0, 0.1, 0.1))
    result = Result("inverse", {}, tmp_path, silent=True)
    result.begin(strict=False)
    content = table.read(result.end(strict=False))
    assert content["environment"]["load_average"] == 9.0
    assert "**Not by the bench's rule**: load average 9.0 on " in table.markdown(content)


def test_a_load_that_falls_is_waited_for(monkeypatch):
    loads, said = [9.0, 8.0, 0.1], []
    monkeypatch.setattr(quiet.os, "getloadavg", lambda: (loads.pop(0), 0, 0))
    monkeypatch.setattr(quiet.time, "sleep", lambda seconds: None)
    assert quiet.load_average(60.0, say=said.append) == 0.1
    assert ["waiting" in line for line in said] == [True, True]


def test_the_best_of_a_machine_is_remembered(tmp_path):
    file = tmp_path / "new" / "best.json"
    assert quiet.best_gflop_s("a", 5.0, file) == 5.0
    assert quiet.best_gflop_s("a", 4.0, file) == 5.0
    assert quiet.best_gflop_s("b", 1.0, file) == 1.0
    assert quiet.best_gflop_s("a", 6.0, file) == 6.0
    assert [path.name for path in file.parent.iterdir()] == ["best.json"]


def test_the_reference_product_has_a_rate():
    assert quiet.reference_gflop_s(quick=True) > 0


def test_results_themselves_are_no_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(quiet, "ROOT", tmp_path)
    assert quiet.changes() is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "bench" / "results").mkdir(parents=True)
    (tmp_path / "bench" / "results" / "new.json").touch()
    assert quiet.changes() == []
    (tmp_path / "code.py").touch()
    assert quiet.changes() == ["code.py"]


def test_the_tables_are_made_of_the_results():
    """As `python -m bench.table bench/results/*.json` prints them; those that break the rule are marked."""
    made = []
    for path in sorted(record.FOLDER.glob("*.json")):
        content = table.read(path)
        assert ("**Not by the bench's rule" in table.markdown(content)) == bool(
            quiet.noise(content["environment"])
        )
        made.append(f"{table.markdown(content)}\n")
        if path.with_suffix(".svg").exists():
            made.append(f"![{path.stem}]({path.stem}.svg)\n\n")
    page = (record.FOLDER / "README.md").read_text(encoding="utf-8")
    assert page[page.index("### ") :].strip() == "".join(made).strip()
