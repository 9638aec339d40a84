"""Colours, panels, and the summary over folds."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from jaxsode import report
from jaxsode.errors import OutputError


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
    assert json.loads((tmp_path / "y.json").read_text()) == {"ε": 1}


def test_whole_folder_or_none(tmp_path):
    with report.whole_folder(tmp_path / "a" / "b") as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "x").read_text() == "x"

    def fail():
        with report.whole_folder(tmp_path / "c") as folder:
            (folder / "x").write_text("x")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_filled_meanwhile_is_not_touched(tmp_path):
    def fill():
        with report.whole_folder(tmp_path / "c") as folder:
            (folder / "x").write_text("x")
            (tmp_path / "c").mkdir()
            (tmp_path / "c" / "mine").write_text("mine")

    with pytest.raises(OutputError, match=r"was taken meanwhile .* the results are in ") as error:
        fill()
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["mine"]
    kept = Path(str(error.value).rpartition("the results are in ")[2])
    assert (kept / "x").read_text() == "x"


def test_an_empty_folder_stays_the_same_one(tmp_path, monkeypatch):
    """Someone's working folder, or a link, or a mount point: none of them can be replaced by another."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with report.whole_folder(tmp_path / "link") as folder:
        (folder / "x").write_text("x")
    assert (tmp_path / "link").is_symlink()
    assert [p.name for p in (tmp_path / "real").iterdir()] == ["x"]

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    inode = (tmp_path / "here").stat().st_ino
    with report.whole_folder(Path()) as folder:
        (folder / "x").write_text("x")
        assert not (tmp_path / "here" / "x").exists()
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["x"]
    assert (tmp_path / "here").stat().st_ino == inode


def test_a_full_disk_is_one_line(tmp_path):
    def full():
        with report.whole_folder(tmp_path / "c") as folder:
            (folder / "x").write_text("x")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="No space left on device: make room"):
        full()
    assert not any(tmp_path.iterdir())


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"), report.whole_folder(tmp_path / "file" / "out"):
        pass
