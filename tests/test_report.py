"""Colours, panels, and the summary over folds."""

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxsode import report
from jaxsode.errors import CheckpointError, OutputError


def test_jet_runs_from_blue_over_green_to_red():
    ends = report.jet(np.array([0.0, 0.5, 1.0]))
    np.testing.assert_array_equal(ends, [[0, 0, 128], [128, 255, 128], [128, 0, 0]])


def test_cubehelix_grows_brighter_evenly():
    colours = report.cubehelix(np.linspace(0, 1, 101)).astype(float)
    np.testing.assert_array_equal(colours[[0, -1]], [[0, 0, 0], [255, 255, 255]])
    brightness = colours @ [0.30, 0.59, 0.11]  # the perceived intensity that the map was designed for
    np.testing.assert_allclose(brightness, np.linspace(0, 255, 101), atol=2.5)


@pytest.mark.parametrize("colours", list(report.COLOUR_MAPS))
def test_panel(colours):
    picture = np.full((20, 10, 1), 90, np.uint8)
    heat = np.zeros((20, 10))
    heat[0, 0], heat[0, 1] = 10, 1000
    mask = np.zeros((20, 10), np.uint8)
    mask[5:8, 3:6] = 255
    panel = report.panel(picture, heat, mask, colours=colours)
    assert panel.shape == (20, 3 * 10 + 2 * 4, 3)
    np.testing.assert_array_equal(panel[:, :10], np.full((20, 10, 3), 90))
    np.testing.assert_array_equal(panel[0, 14], panel[0, 15])  # clamped at 10, not rescaled
    outlined = panel[:, 28:]
    green = (outlined == [0, 255, 0]).all(-1)
    assert green.sum() == 16  # the ring around 3 × 3
    assert not green[5:8, 3:6].any()  # and the defect itself stays to be seen
    assert not (report.panel(picture, heat, None)[:, 28:] == [0, 255, 0]).all(-1).any()


def test_summary_is_mean_and_sample_deviation():
    # the paper's Table 3: .953, .951, .976 → .960 ± .014
    folds = [
        {"pixel_auroc": {"pooled": v, "paper": None}, "pro": {"pooled": v, "paper": v}, "image_auroc": v}
        for v in (0.953, 0.951, 0.976)
    ]
    summary = report.summarise(folds)
    assert round(summary["mean"]["pixel_auroc"]["pooled"], 3) == 0.960
    assert round(summary["std"]["pixel_auroc"]["pooled"], 3) == 0.014
    assert summary["mean"]["pixel_auroc"]["paper"] is None
    assert report.summarise(folds[:1])["std"]["image_auroc"] is None


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write_json(tmp_path / "x.json", {"a": float("nan")})
    report.write_json(tmp_path / "y.json", {"ε": 1})
    assert json.loads((tmp_path / "y.json").read_text(encoding="utf-8")) == {"ε": 1}


def _written(folder, *, resume=False):
    with report.Output(folder, resume=resume) as output:
        (output.path / "x").write_text("x", encoding="utf-8")


def test_whole_folder_or_none(tmp_path):
    with report.Output(tmp_path / "a" / "b") as output:
        (output.path / "x").write_text("x", encoding="utf-8")
        assert not (tmp_path / "a" / "b").exists()
        assert output.path == tmp_path / "a" / "b.partial"
    assert [p.name for p in (tmp_path / "a" / "b").iterdir()] == ["x"]

    def fail():
        with report.Output(tmp_path / "c") as output:
            (output.path / "x").write_text("x", encoding="utf-8")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("method", ["", "student-seed1"])
def test_checkpoints_of_a_training_stay(tmp_path, method):
    def fail(step):
        with report.Output(tmp_path / "c") as output:
            (output.path / method / "training" / "1" / "teacher" / step).mkdir(parents=True)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail("")
    assert not any(tmp_path.iterdir())
    with pytest.raises(RuntimeError, match="stop"):
        fail("200")
    assert (tmp_path / "c.partial" / method / "training" / "1" / "teacher" / "200").is_dir()


def test_a_folder_filled_meanwhile_is_not_touched(tmp_path):
    def fill():
        with report.Output(tmp_path / "c") as output:
            (output.path / "x").write_text("x", encoding="utf-8")
            (tmp_path / "c").mkdir()
            (tmp_path / "c" / "mine").write_text("mine", encoding="utf-8")

    with pytest.raises(OutputError, match=r"was taken meanwhile .* the results are in ") as error:
        fill()
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["mine"]
    kept = Path(str(error.value).rpartition("the results are in ")[2])
    assert (kept / "x").read_text(encoding="utf-8") == "x"


def test_an_empty_folder_stays_the_same_one(tmp_path, monkeypatch):
    """Someone's working folder, or a link, or a mount point: none of them can be replaced by another."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    _written(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["x"]

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = (tmp_path / "here").stat().st_ino
    with report.Output(Path()) as output:
        (output.path / "x").write_text("x", encoding="utf-8")
        assert not (tmp_path / "here" / "x").exists()
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["x"]
    assert (tmp_path / "here").stat().st_ino == inode


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line(tmp_path, code):
    def full():
        with report.Output(tmp_path / "c") as output:
            (output.path / "x").write_text("x", encoding="utf-8")
            raise OSError(code, os.strerror(code))

    with pytest.raises(OutputError, match=f"{os.strerror(code)}: make room, or choose another$"):
        full()
    assert not any(tmp_path.iterdir())


def test_a_full_disk_as_a_detector_says_it(tmp_path):
    def full(folder):
        with report.Output(tmp_path / "c") as output:
            where = output.now / "detector" if folder is None else folder
            raise CheckpointError(f"{where} can't be written ({os.strerror(errno.ENOSPC)}): choose another")

    with pytest.raises(OutputError, match=r"c: No space left on device: make room, or choose another$"):
        full(None)
    with pytest.raises(CheckpointError, match="elsewhere can't be written"):
        full("elsewhere")


def test_a_folder_that_is_still_written_to_goes_too(tmp_path, monkeypatch):
    """As by the threads of a writer that has failed."""
    plain, left = shutil.rmtree, ["b", "a"]

    def remove(folder, **options):
        plain(folder, **options)
        if left:
            (folder / left.pop()).mkdir(parents=True)

    def fail():
        with report.Output(tmp_path / "c"):
            monkeypatch.setattr(shutil, "rmtree", remove)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not any(tmp_path.iterdir())
    (tmp_path / "c.partial" / ".run" / "now" / "too late").mkdir(parents=True)
    _written(tmp_path / "c")
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["x"]


def test_an_error_of_the_folder_is_one_line_and_any_other_is_itself(tmp_path):
    def fail(file):
        with report.Output(tmp_path / "c") as output:
            (output.path / file).write_text("x", encoding="utf-8")

    with pytest.raises(OutputError, match=r"c: File name too long: choose another$"):
        fail("x" * 300)
    with pytest.raises(FileNotFoundError):
        fail("/nowhere/x")
    assert not any(tmp_path.iterdir())


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    for name, says in (
        ("file/out", r"file/out can't be written \(Not a directory\): choose another"),
        ("file", "file is a file: choose a new or an empty folder"),
        ("dangling", "dangling is a link to nothing: make .*/nowhere, or choose another"),
        ("loop", "loop is a link to nothing: "),
        ("n" * 300, r"n can't be written \(File name too long\): choose another"),
        ("n" * 250, r"n can't be written \(File name too long\): choose another"),
    ):
        with pytest.raises(OutputError, match=says):
            _written(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_process_at_a_time(tmp_path):
    with (
        report.Output(tmp_path / "c"),
        pytest.raises(OutputError, match="written by another process"),
    ):
        _written(tmp_path / "c", resume=True)
    assert (tmp_path / "c").is_dir()


def test_a_folder_of_that_name_that_is_no_run_of_ours(tmp_path):
    (tmp_path / "c.partial").mkdir()
    (tmp_path / "c.partial" / "mine").write_text("mine", encoding="utf-8")
    for resume in (False, True):
        with pytest.raises(OutputError, match=r"c\.partial holds something else: choose another name"):
            _written(tmp_path / "c", resume=resume)
    assert (tmp_path / "c.partial" / "mine").read_text(encoding="utf-8") == "mine"


def test_what_a_run_depends_on_is_held_to(tmp_path):
    def fail(resume, **facts):
        with report.Output(tmp_path / "c", resume=resume) as output:
            output.same(**facts)
            report.write_json(output.path / "metrics.json", {})
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError) as first:
        fail(False, size=(64, 32), seed=None)
    assert first.value.__notes__ == [
        f"what was finished is in {tmp_path / 'c.partial'}: --resume goes on there"
    ]
    with pytest.raises(OutputError, match=r"c\.partial was begun with size 64, 32, not 64, 64: ask"):
        fail(True, size=(64, 64), seed=None)
    with pytest.raises(OutputError, match=r"c: a run that ended early lies in .*: go on with --resume, or"):
        fail(False, size=(64, 32), seed=None)
    plan = tmp_path / "c.partial" / ".run" / "plan.json"
    text = plan.read_text(encoding="utf-8")
    plan.write_text(text[:5], encoding="utf-8")
    with pytest.raises(OutputError, match=r"plan\.json can't be read: remove"):
        fail(True, size=(64, 32), seed=None)
    plan.write_text(text, encoding="utf-8")
    with report.Output(tmp_path / "c", resume=True) as output:
        output.same(size=[64, 32], seed=None, more=1)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["metrics.json"]


def test_any_name_can_be_written_down(tmp_path):
    """Bytes that are not UTF-8, and UTF-8 that an ASCII locale could not decode."""
    folder = tmp_path / os.fsdecode(b"\xff \xc3\xbc")
    with report.Output(folder) as output:
        assert output.name == f"{tmp_path}/\\xff ü"
        report.write_json(output.path / "x.json", {"where": str(folder), "ü": "ε"})
    assert json.loads((folder / "x.json").read_text(encoding="utf-8")) == {"where": str(folder), "ü": "ε"}
