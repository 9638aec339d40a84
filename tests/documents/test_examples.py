"""The examples of the documents run, each in a process of its own, and say what the pages show."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from documented import DOCS
from PIL import Image

from jaxsode.cli import main
from jaxsode.inspection import Inspector

EXAMPLES = DOCS / "examples"
SIZE = (48, 64)


def _run(name, *given):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, given)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
    )
    return done.returncode, done.stdout, done.stderr


def test_the_regulariser_brings_outputs_nearer_to_clean_pictures():
    code, said, errors = _run("regulariser.py")
    assert code == 0, errors
    rows = {}
    for line in said.splitlines()[1:]:
        name, error, score = re.fullmatch(r"(\S.*?)\s{2,}(\S+)\s+(\S+)", line).groups()
        rows[name] = float(error), float(score)
    alone, with_it = rows["denoised, weight 0"], rows["denoised, weight 0.01"]
    assert with_it[0] < 0.4 * alone[0]
    assert with_it[1] < 0.4 * alone[1]
    assert rows["clean pictures"][1] < 2


def _draw(folder: Path, n: int, *, seed: int, spot: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).integers(60, 180, (*SIZE, 3))
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [np.clip(base + rng.normal(0, 10, base.shape), 0, 255).astype(np.uint8) for _ in range(n)]
    for i, pixels in enumerate(drawn):
        if spot:
            pixels[16:30, 20:40] = (255, 40, 0)  # of no grey, so that the order of the channels shows
        Image.fromarray(pixels).save(folder / f"{int(spot)}-{i}.png")
    return drawn


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    root = tmp_path_factory.mktemp("camera")
    _draw(root / "good", 10, seed=0)
    asked = ["--weights=random", "--size", "48", "64", "--k=6", "--false-alarm-rate=0.2"]
    assert main(["fit", str(root / "good"), "-o", str(root / "d"), *asked]) == 0
    return root / "d"


def _lines(said):
    return [
        re.fullmatch(r"(.+)  score (\S+)  p (\S+)  (good|defective)", line).groups()
        for line in said.splitlines()
    ]


def test_the_camera_decides_as_the_inspector(detector, tmp_path):
    pixels = _draw(tmp_path / "frames", 2, seed=1) + _draw(tmp_path / "frames", 2, seed=2, spot=True)
    code, said, errors = _run("camera.py", detector, tmp_path / "frames")
    assert code == 0, errors
    found = Inspector.load(detector)(np.stack(pixels))
    lines = _lines(said)
    assert [line[0] for line in lines] == sorted(path.name for path in (tmp_path / "frames").iterdir())
    for line, score, defective in zip(lines, found.scores, found.defective, strict=True):
        assert float(line[1]) == pytest.approx(float(score), rel=1e-3)
        assert line[3] == ("defective" if defective else "good")
    assert found.defective[2:].all()


def test_the_camera_reads_a_folder_as_the_detectors_own_pictures_were(detector, tmp_path):
    pixels = _draw(tmp_path / "drawn", 1, seed=2, spot=True)[0]
    (tmp_path / "frames").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    turned.save(tmp_path / "frames" / "turned.png", exif=exif)
    code, said, errors = _run("camera.py", detector, tmp_path / "frames")
    assert code == 0, errors
    ((_, score, _, _),) = _lines(said)
    assert float(score) == pytest.approx(float(Inspector.load(detector)(pixels[None]).scores[0]), rel=1e-3)
    grey = pixels[..., 0].astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "frames" / "grey.png")
    code, said, errors = _run("camera.py", detector, tmp_path / "frames")
    assert code == 1
    assert "grey.png has 16 bits" in errors.splitlines()[-1]


def test_the_camera_reads_a_video_in_its_colours(detector, tmp_path):
    cv2 = pytest.importorskip("cv2")
    pixels = _draw(tmp_path / "frames", 2, seed=2, spot=True)
    path = tmp_path / "line.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 5, SIZE[::-1])
    for each in pixels:
        video.write(np.ascontiguousarray(each[..., ::-1]))
    video.release()
    code, said, errors = _run("camera.py", detector, path)
    assert code == 0, errors
    scores = Inspector.load(detector)(np.stack(pixels)).scores
    for line, score in zip(_lines(said), scores, strict=True):
        assert float(line[1]) == pytest.approx(float(score), rel=0.02)  # the codec's own rounding
    code, _, errors = _run("camera.py", detector, tmp_path / "none.avi")
    assert code == 1
    assert "can't be opened" in errors
