"""What predict leaves: no picture's results lost, each row told apart, pictures as they come."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxsode.cli import main
from jaxsode.preparation import Preparation
from jaxsode.regions import mask_on_original, on_original, regions
from jaxsode.report.overlay import overlay

SIZE = (48, 64)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "good"
    folder.mkdir()
    rng, base = np.random.default_rng(0), np.random.default_rng(99).integers(60, 180, (*SIZE, 3))
    for i in range(8):
        pixels = np.clip(base + rng.normal(0, 10, base.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, good):
    folder = tmp_path_factory.mktemp("fitted") / "detector"
    options = ["--weights=random", "--size", "48", "64", "--k=4", "--batch-size=4"]
    assert main(["fit", str(good), "-o", str(folder), "--false-alarm-rate=0.2", *options]) == 0
    return folder


def _rows(out):
    file = out / "predictions.jsonl"
    return (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    )


def _wait(until, seconds=90):
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.1)


@pytest.fixture
def started():
    """Starts the command; none outlives the test."""
    running = []

    def start(*arguments, cwd=None, stdin=None):
        command = [sys.executable, "-m", "jaxsode.cli", "predict", *map(str, arguments)]
        running.append(subprocess.Popen(command, cwd=cwd, stdin=stdin, stderr=subprocess.PIPE))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_each_picture_has_an_overlay_of_its_own(fitted, good, tmp_path):
    encoded = (good / "p0.png").read_bytes()
    names = ["a-b.png", "a-b-1.png", "a/b.png", "A-B.png"]
    (tmp_path / "new" / "a").mkdir(parents=True)
    for name in names:
        (tmp_path / "new" / name).write_bytes(encoded)
    given = [str(tmp_path / "new" / name) for name in names]
    assert main(["predict", str(fitted), *given, "-o", str(tmp_path / "out")]) == 0
    drawn = [row["overlay"] for row in _rows(tmp_path / "out")]
    assert len({name.lower() for name in drawn}) == len(names)
    for name in drawn:
        assert (tmp_path / "out" / name).is_file()
        assert (tmp_path / "out" / name.replace("overlays", "masks")).is_file()


@pytest.mark.parametrize("resize", ["squeeze", "crop", "pad"])
def test_what_is_above_is_in_the_mask_of_a_smaller_picture(resize):
    rng = np.random.default_rng(0)
    for original in ((11, 16), (9, 20), (12, 90), (100, 17)):
        placing = Preparation(resize).placing(original, SIZE)
        top, left, bottom, right = placing.inside
        for y, x in zip(rng.integers(top, bottom, 20), rng.integers(left, right, 20), strict=True):
            m = np.zeros(SIZE, np.float32)
            m[y, x] = 2
            rows, columns = np.nonzero(mask_on_original(m, 1, placing))
            assert len(rows)
            (region,) = [on_original(region, placing) for region in regions(m, 1)]
            assert region.y <= rows.min() <= rows.max() < region.y + region.height
            assert region.x <= columns.min() <= columns.max() < region.x + region.width


def test_the_outline_is_the_mask_s():
    m = np.zeros((12, 12), np.float32)
    above = np.zeros((12, 12), bool)
    above[6, 6] = True
    drawn = overlay(np.zeros((12, 12, 3), np.uint8), m, 4, above=above)
    assert (drawn[5, 6] == 255).all()
    assert (drawn[4, 6] == 0).all()
    assert (overlay(np.zeros((12, 12, 3), np.uint8), m, 4, threshold=1)[5, 6] != 255).any()


def test_names_are_scored_as_they_come(fitted, good, tmp_path, started):
    out = tmp_path / "out"
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    with open(odd, "wb") as file:
        file.write((good / "p1.png").read_bytes())
    process = started(fitted, "-", "-o", out, "--maps=none", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(os.fsencode(good / "p0.png") + b"\n" + odd + b"\r\n" + os.fsencode(tmp_path)[:3])
    process.stdin.flush()
    _wait(lambda: len(_rows(out)) == 2)  # fewer than a batch, and standard input is still open
    process.stdin.write(os.fsencode(good / "p0.png")[3:])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [row["error"] for row in _rows(out)] == [None] * 3
    assert _rows(out)[0]["score"] == _rows(out)[2]["score"]
    assert _rows(out)[1]["picture"].endswith("\\xff.png")
    assert b"3 pictures" in said


def test_a_watched_folder_that_holds_the_results_is_not_scored_in_a_circle(fitted, good, tmp_path, started):
    come = tmp_path / "come"
    come.mkdir()
    process = started(fitted, come, "--watch", "-o", "come/out", cwd=tmp_path)
    (come / "a.png").write_bytes((good / "p0.png").read_bytes())
    later = time.time() + 3600  # by the clock of another machine
    os.utime(come / "a.png", (later, later))
    _wait(lambda: len(_rows(come / "out")) == 1)
    time.sleep(2.5)
    (come / "b.png").write_bytes((good / "p1.png").read_bytes())
    _wait(lambda: len(_rows(come / "out")) == 2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert [os.path.basename(row["picture"]) for row in _rows(come / "out")] == ["a.png", "b.png"]
    assert b"stopped by SIGTERM: 2 pictures" in said
    assert b"no results were written" not in said


def test_results_that_can_not_be_written_are_one_line(fitted, good, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    assert main(["predict", str(fitted), str(good / "p0.png"), "-o", str(tmp_path / "out")]) == 2
    assert "out can't be written: No space left on device" in capsys.readouterr().err


def test_standard_input_is_read_once(fitted, tmp_path, capsys):
    assert main(["predict", str(fitted), "-", "-", "-o", str(tmp_path / "out")]) == 2
    assert "- is given twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
