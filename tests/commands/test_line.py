"""The line: fit, calibrate, predict, update, merge. A threshold is right for its state, or absent."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxsode import Detector, calibration
from jaxsode.cli import main
from jaxsode.commands.detectors import Fitted, Picture, grouped
from jaxsode.commands.threshold import far_out
from jaxsode.statistics import unpack

SIZE = (48, 64)
OPTIONS = ["--weights=random", "--size", "48", "64", "--k=6", "--preset=recommended", "--batch-size=4"]


def _draw(folder, n, *, seed=0, spot=False, name="p"):
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).integers(60, 180, (*SIZE, 3))
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pixels = np.clip(base + rng.normal(0, 10, base.shape), 0, 255).astype(np.uint8)
        if spot:
            pixels[16:30, 20:40] = 255
        Image.fromarray(pixels).save(folder / f"{name}{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return _draw(tmp_path_factory.mktemp("pictures") / "good", 14)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, good):
    folder = tmp_path_factory.mktemp("fitted") / "detector"
    assert main(["fit", str(good), "--output", str(folder), "--false-alarm-rate=0.2", *OPTIONS]) == 0
    return folder


def _fit(good, folder, *more):
    assert main(["fit", str(good), "-o", str(folder), "--false-alarm-rate=0.2", *OPTIONS, *more]) == 0
    return folder


def _threshold(folder):
    found, why = calibration.read(folder)
    assert why is None
    return found


def _moments(detector):
    """Count, mean and scatter; the origin that the sums are taken from differs from fit to fit.

    The network rounds otherwise in another batch, and the scatter of these pictures is small against the
    mean's square: so 3e-6 of it, where the features agree to 1e-7.
    """
    state = unpack(detector.statistics)
    return state.count, state.mean, state.scatter


def _same_detector(a, b, pictures):
    one, other = Detector.load(a), Detector.load(b)
    for x, y in zip(*map(_moments, (one, other)), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        assert np.linalg.norm(x - y) <= 3e-6 * np.linalg.norm(y)
    ours, theirs = np.asarray(one.anomaly_map(pictures)), np.asarray(other.anomaly_map(pictures))
    assert np.abs(ours - theirs).max() <= 1e-5 * theirs.max()


def _pixels(folder):
    return np.stack([_read(path) for path in sorted(folder.glob("*.png"))])


def _read(path):
    with Image.open(path) as image:
        return np.array(image)


def _rows(out):
    with open(out / "predictions.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_fit_leaves_a_detector_a_threshold_and_a_page(fitted, good):
    detector = Detector.load(fitted)
    found = _threshold(fitted)
    assert int(detector.count) == found.pictures == 14
    assert detector.preparation is not None
    assert str(detector.method.epsilon) == "5%"
    pixels = _pixels(good)
    batches = [pixels[i : i + 4] for i in range(0, 14, 4)]
    expected = np.concatenate(list(detector.leave_one_out_maps(batches))).max((1, 2))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-4)
    page = (fitted / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert f"{found.threshold:.4g}" in page
    assert page.count("<img") >= 2 * 12 + 1
    record = Fitted.read(fitted)
    assert [picture.name for picture in record.pictures] == list(found.names)
    assert record.about["weights"]["source"] == "random"


def test_predict_decides_as_the_library(fitted, good, tmp_path, capsys, monkeypatch):
    new = _draw(tmp_path / "new", 3, seed=5, name="n")
    _draw(new / "deeper", 2, seed=6, spot=True, name="s")
    (new / "broken.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(fitted), "new", str(good / "p00.png"), "-o", "out", "--batch-size=4"]) == 1
    said = capsys.readouterr().err
    assert "broken.png" in said
    assert "7 pictures, " in said
    assert "1 unreadable" in said
    rows = {row["picture"]: row for row in _rows(tmp_path / "out")}
    lines = (tmp_path / "out" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["picture"] for line in lines] == list(rows)
    assert set(rows) >= {"new/broken.png", "new/n00.png", "new/deeper/s01.png", str(good / "p00.png")}
    found, detector = _threshold(fitted), Detector.load(fitted)
    for name, row in rows.items():
        if name == "new/broken.png":
            assert row["score"] == row["decision"] == ""
            assert row["error"]
            continue
        score = float(np.max(detector.anomaly_map(_read(name)[None])))
        assert float(row["score"]) == pytest.approx(score, rel=1e-4)
        assert row["decision"] == ("defective" if float(row["score"]) > found.threshold else "good")
        assert (float(row["p_value"]) <= found.alpha) == (row["decision"] == "defective")
        assert bool(json.loads(row["regions"])) == (row["decision"] == "defective")
    assert rows["new/deeper/s00.png"]["decision"] == "defective"
    box = json.loads(rows["new/deeper/s00.png"]["regions"])[0]
    assert box["x"] <= 30 <= box["x"] + box["width"]
    assert box["y"] <= 23 <= box["y"] + box["height"]
    overlay = _read(tmp_path / "out" / "overlays" / "new-deeper-s00.png")
    mask = _read(tmp_path / "out" / "masks" / "new-deeper-s00.png")
    assert overlay.shape[:2] == mask.shape == SIZE
    assert mask[23, 30] == 255


def test_names_come_from_standard_input(fitted, good, tmp_path, monkeypatch):
    names = [str(good / "p03.png"), str(good / "p01.png")]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(names) + "\n"))
    assert main(["predict", str(fitted), "-", "-o", str(tmp_path / "out"), "--maps=none"]) == 0
    assert [row["picture"] for row in _rows(tmp_path / "out")] == names
    assert not (tmp_path / "out" / "overlays").exists()


def test_a_watched_folder_is_followed_until_it_is_stopped(fitted, good, tmp_path):
    come = tmp_path / "come"
    come.mkdir()
    command = [sys.executable, "-m", "jaxsode.cli", "predict", str(fitted), str(come), "--watch"]
    process = subprocess.Popen([*command, "-o", str(tmp_path / "out")], stderr=subprocess.PIPE, text=True)
    encoded = (good / "p00.png").read_bytes()
    (come / "a.png").write_bytes(encoded)
    with open(come / "slow.png", "wb") as slow:  # still being written to
        slow.write(encoded[:100])
        slow.flush()
        deadline = time.monotonic() + 90
        while len(_lines(tmp_path / "out")) < 1 and time.monotonic() < deadline:
            slow.write(b"")
            os.utime(come / "slow.png")
            time.sleep(0.2)
        slow.write(encoded[100:])
    while len(_lines(tmp_path / "out")) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    rows = [json.loads(line) for line in _lines(tmp_path / "out")]
    assert [os.path.basename(row["picture"]) for row in rows] == ["a.png", "slow.png"]
    assert rows[0]["score"] == pytest.approx(rows[1]["score"])
    assert rows[1]["error"] is None


def _lines(out):
    file = out / "predictions.jsonl"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def test_exclude_is_a_fit_without(fitted, good, tmp_path):
    folder = _fit(good, tmp_path / "d")
    assert (
        main(["fit", str(good), "-o", str(folder), "--exclude", "p03", "p07.png", "--false-alarm-rate=0.2"])
        == 0
    )
    other = _fit(good, tmp_path / "e", "--exclude", "p03", "p07")
    _same_detector(folder, other, _pixels(good)[:4])
    one, two = _threshold(folder), _threshold(other)
    assert one.names == two.names
    assert one.excluded == two.excluded == 2
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-4)
    assert "p07" in (folder / "index.html").read_text(encoding="utf-8")
    assert [p.name for p in Fitted.read(folder).excluded] == ["p03", "p07"]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_update_drops_the_threshold_until_it_is_made_anew(good, tmp_path, capsys):
    few, rest, whole = tmp_path / "few", tmp_path / "rest", tmp_path / "whole"
    for i, path in enumerate(sorted(good.glob("*.png"))):
        for folder in (whole, few if i < 9 else rest):
            folder.mkdir(exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
    folder = _fit(few, tmp_path / "d")
    assert main(["update", str(folder), str(rest)]) == 0
    assert not (folder / "calibration.json").exists()
    assert not (folder / "index.html").exists()
    assert main(["predict", str(folder), str(rest), "-o", str(tmp_path / "o")]) == 0
    assert "has no threshold" in capsys.readouterr().err
    assert {row["decision"] for row in _rows(tmp_path / "o")} == {""}
    assert all(row["score"] for row in _rows(tmp_path / "o"))
    assert main(["calibrate", str(folder), str(whole), "--leave-one-out", "--false-alarm-rate=0.2"]) == 0
    other = _fit(whole, tmp_path / "e")
    _same_detector(folder, other, _pixels(good)[:4])
    one, two = _threshold(folder), _threshold(other)
    assert one.names == two.names
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-4)
    assert main(["update", str(folder), str(rest)]) == 2
    assert "was fitted on already" in capsys.readouterr().err
    assert _threshold(folder).threshold == one.threshold


def test_shards_that_are_merged_are_one_fit(fitted, good, tmp_path, capsys):
    parts = [str(_fit(good, tmp_path / str(i), f"--shard={i}/3")) for i in (1, 2, 3)]
    assert all(calibration.read(tmp_path / str(i))[0] is None for i in (1, 2, 3))
    assert main(["merge", parts[2], parts[0], parts[1], "-o", str(tmp_path / "d")]) == 0
    assert calibration.read(tmp_path / "d")[0] is None
    _same_detector(tmp_path / "d", fitted, _pixels(good)[:4])
    assert (
        main(["calibrate", str(tmp_path / "d"), str(good), "--leave-one-out", "--false-alarm-rate=0.2"]) == 0
    )
    one, two = _threshold(tmp_path / "d"), _threshold(fitted)
    assert dict(zip(one.names, one.scores, strict=True)) == pytest.approx(
        dict(zip(two.names, two.scores, strict=True)), rel=1e-4
    )
    assert one.threshold == pytest.approx(two.threshold, rel=1e-4)
    assert main(["merge", parts[0], parts[0], "-o", str(tmp_path / "x")]) == 2
    assert "was fitted on already" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_mask_belongs_to_its_threshold(good, tmp_path, capsys):
    marked = np.zeros(SIZE, np.uint8)
    marked[10:36, 14:46] = 255
    Image.fromarray(marked).save(tmp_path / "mask.png")
    folder = _fit(good, tmp_path / "d", f"--ignore-mask={tmp_path / 'mask.png'}")
    new = _draw(tmp_path / "new", 2, seed=6, spot=True, name="s")
    assert main(["predict", str(folder), str(new), "-o", str(tmp_path / "masked")]) == 0
    np.testing.assert_array_equal(_threshold(folder).ignored, marked > 0)
    detector = Detector.load(folder)
    for row, pixels in zip(_rows(tmp_path / "masked"), _pixels(new), strict=True):
        expected = np.nanmax(detector.anomaly_map(pixels[None], ignored=marked > 0))
        assert float(row["score"]) == pytest.approx(float(expected), rel=1e-4)
        assert row["decision"]
    Image.fromarray(marked.T.reshape(SIZE)).save(tmp_path / "other.png")
    given = ["predict", str(folder), str(new), f"--ignore-mask={tmp_path / 'other.png'}"]
    assert main([*given, "-o", str(tmp_path / "other")]) == 0
    assert "another --ignore-mask" in capsys.readouterr().err
    assert {row["decision"] for row in _rows(tmp_path / "other")} == {""}
    assert main(["calibrate", str(folder), str(good), "--leave-one-out", "--false-alarm-rate=0.2"]) == 0
    plain = _fit(good, tmp_path / "plain")
    np.testing.assert_allclose(_threshold(folder).scores, _threshold(plain).scores, rtol=1e-4)


def test_calibrate_takes_unseen_pictures_alone(fitted, good, tmp_path, capsys):
    folder = _fit(good, tmp_path / "d")
    before = (folder / "calibration.json").read_bytes()
    assert main(["calibrate", str(folder), str(good)]) == 2
    assert "give pictures that it has not seen" in capsys.readouterr().err
    assert (folder / "calibration.json").read_bytes() == before
    unseen = _draw(tmp_path / "unseen", 9, seed=7)
    bad = _draw(tmp_path / "bad", 3, seed=8, spot=True)
    given = ["calibrate", str(folder), str(unseen), "--defective", str(bad), "--false-alarm-rate=0.2"]
    masks = tmp_path / "masks"
    masks.mkdir()
    marked = np.zeros(SIZE, np.uint8)
    marked[16:30, 20:40] = 255
    for path in bad.glob("*.png"):
        Image.fromarray(marked).save(masks / f"{path.stem}_mask.png")
    assert main([*given, "--masks", str(masks)]) == 0
    found = _threshold(folder)
    maps = np.asarray(Detector.load(folder).anomaly_map(_pixels(unseen)))
    np.testing.assert_allclose(found.scores, maps.max((1, 2)), rtol=1e-4)
    assert found.source == "unseen"
    assert found.labelled["best F1"]["found"] == 3
    assert found.labelled["best F1"]["false_alarms"] == 0
    pixels = found.labelled["best F1 of the defective pictures' pixels"]
    maps = np.asarray(Detector.load(folder).anomaly_map(_pixels(bad)))
    above, truth = maps > pixels["threshold"], np.broadcast_to(marked > 0, maps.shape)
    assert pixels["defective"] == truth.sum()
    f1 = 2 * (above & truth).sum() / (above.sum() + truth.sum())
    assert f1 == pytest.approx(pixels["f1"], rel=1e-3)
    next(masks.iterdir()).unlink()
    assert main([*given, "--masks", str(masks)]) == 2
    assert "has no mask for" in capsys.readouterr().err


def test_what_goes_together():
    pictures = [Picture("a", "1", "x"), Picture("b", "2", ""), Picture("c", "1", "y"), Picture("d", "3", "y")]
    numbers = grouped([*pictures, Picture("e", "4", "")])
    assert numbers[0] == numbers[2] == numbers[3]
    assert len(set(numbers)) == 3


def test_pictures_of_a_group_are_left_out_together(good, tmp_path):
    (good_ := tmp_path / "good").mkdir()
    for path in good.glob("*.png"):
        (good_ / path.name).write_bytes(path.read_bytes())
    (good_ / "twin.png").write_bytes((good / "p00.png").read_bytes())
    folder = _fit(good_, tmp_path / "d")
    found = _threshold(folder)
    assert len(set(found.groups)) == 14
    scores = dict(zip(found.names, found.scores, strict=True))
    assert scores["twin"] == pytest.approx(scores["p00"], rel=1e-4)
    without = _fit(good_, tmp_path / "e", "--exclude", "twin", "p00")
    expected = np.max(Detector.load(without).anomaly_map(_pixels(good)[:1]))
    assert scores["twin"] == pytest.approx(float(expected), rel=2e-3)  # as if neither had been seen
    grouped_ = _fit(good, tmp_path / "f", "--group", r"p(\d)")
    assert len(set(_threshold(grouped_).groups)) == 2


def test_marked_is_what_lies_far_above_the_others():
    scores = np.exp(np.random.default_rng(0).normal(3, 0.1, 60))
    scores[7] = 2 * scores.max()
    assert far_out(scores).nonzero()[0].tolist() == [7]
    assert not far_out(np.ones(5)).any()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["fit", "{good}", "-o", "{fitted}"], "exists already"),
        (["fit", "{tmp}/none", "-o", "{tmp}/d", "--weights=random"], "does not exist"),
        (["fit", "{good}", "-o", "{tmp}/d", "--false-alarm-rate=1.5"], "above 0 and below 1"),
        (["fit", "{good}", "-o", "{tmp}/d", "--shard=3/2"], "give 1/4 to 4/4"),
        (["fit", "{good}", "-o", "{tmp}/d", "--weights=random", "--group=("], "no regular expression"),
        (["fit", "{good}", "-o", "{tmp}/d", "--weights=random", "--group=unit"], "finds nothing in"),
        (["fit", "{good}", "-o", "{tmp}/d", "--weights=random", "--exclude=zz"], "is none of the 14"),
        (
            ["fit", "{good}", "-o", "{tmp}/d", "--weights=random", "--memory-gb=1e-6"],
            "give more memory",
        ),
        (["fit", "{good}", "-o", "{fitted}", "--exclude=p01", "--k=5"], "leave --k away"),
        (["predict", "{tmp}/none", "{good}", "-o", "{tmp}/o"], "holds no detector"),
        (["predict", "{fitted}", "{tmp}/none", "-o", "{tmp}/o"], "does not exist"),
        (["predict", "{fitted}", "{good}", "-o", "{good}"], "exists already"),
        (["predict", "{fitted}", "{good}/p00.png", "--watch", "-o", "{tmp}/o"], "folders alone"),
        (["predict", "{fitted}", "{good}", "--ignore-mask={good}/no.png", "-o", "{tmp}/o"], "can't read"),
        (["calibrate", "{fitted}", "{good}", "--group=x"], "is for --leave-one-out"),
        (["merge", "{fitted}", "-o", "{tmp}/o"], "at least two"),
    ],
)
def test_a_mistake_is_one_line(given, line, fitted, good, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in fitted.rglob("*")}
    assert main([each.format(good=good, fitted=fitted, tmp=tmp_path) for each in given]) == 2
    said = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error")]
    assert len(said) == 1
    assert line in said[0]
    assert {path: path.stat().st_mtime_ns for path in fitted.rglob("*")} == before
    assert not list(tmp_path.iterdir())


def test_nobody_else_s_files_are_lost_and_a_link_stays_one(good, tmp_path, capsys):
    folder = _fit(good, tmp_path / "real")
    more = _draw(tmp_path / "more", 3, seed=11, name="m")
    (folder / "notes.txt").write_text("mine")
    for given in (["update", str(folder), str(more)], ["fit", str(good), "-o", str(folder), "--exclude=p01"]):
        assert main(given) == 2
        assert "holds notes.txt" in capsys.readouterr().err
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    (tmp_path / "link").symlink_to(folder)
    assert main(["update", str(tmp_path / "link"), str(more)]) == 0
    assert (tmp_path / "link").is_symlink()
    assert int(Detector.load(tmp_path / "link").count) == 17


def test_an_exclusion_keeps_the_rate_and_is_counted_once(good, tmp_path):
    parts = [str(_fit(good, tmp_path / str(i), f"--shard={i}/2", "--exclude=p03")) for i in (1, 2)]
    assert main(["merge", *parts, "-o", str(tmp_path / "d")]) == 0
    assert len(Fitted.read(tmp_path / "d").excluded) == 1
    given = ["calibrate", str(tmp_path / "d"), str(good), "--leave-one-out", "--false-alarm-rate=0.3"]
    assert main(given) == 0
    assert main(["fit", str(good), "-o", str(tmp_path / "d"), "--exclude=p05"]) == 0
    found = _threshold(tmp_path / "d")
    assert (found.rate, found.excluded, found.pictures) == (0.3, 2, 12)
    again = tmp_path / "again"
    again.mkdir()
    (again / "p03.png").write_bytes((good / "p03.png").read_bytes())
    assert main(["update", str(tmp_path / "d"), str(again)]) == 0
    assert [picture.name for picture in Fitted.read(tmp_path / "d").excluded] == ["p05"]


def test_what_is_good_is_not_taken_for_defective(good, tmp_path, capsys):
    folder = _fit(good, tmp_path / "d")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    test = tmp_path / "test"
    _draw(test / "good", 2, seed=21)
    _draw(test / "scratch", 2, seed=22, spot=True)
    for bad, line in ((test, "has good pictures"), (good, "byte for byte"), (tmp_path / "none", "none")):
        given = ["calibrate", str(folder), str(good), "--leave-one-out", "--defective", str(bad)]
        assert main(given) == 2
        assert line in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    given = ["calibrate", str(folder), str(good), "--leave-one-out", "--defective", str(test / "scratch")]
    assert main(given) == 0
    assert _threshold(folder).labelled["best F1"]["defective"] == 2
