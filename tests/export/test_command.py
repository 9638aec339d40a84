"""jaxsode export, from the command line to the examples, which know neither jaxsode nor (one) jax."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import own_pictures
import pytest
from PIL import Image

from jaxsode.cli import main
from jaxsode.datasets.decode import decode_picture
from jaxsode.export import folder as exports
from jaxsode.preparation import Preparation

ALONE = """
import runpy, sys
for hidden in sys.argv.pop(1).split(","):
    sys.modules[hidden] = None
sys.argv.pop(0)
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _values(n, *, seed, spot=False):
    """(n, 60, 80) of 12 bits."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).integers(900, 3000, (60, 80))
    values = np.clip(base + rng.normal(0, 150, (n, 60, 80)), 0, 4095).astype(np.uint16)
    if spot:
        values[:, 20:40, 30:60] = 4095
    return values


def _draw(folder, values):
    folder.mkdir(parents=True)
    for i, each in enumerate(values):
        Image.fromarray(each).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A detector of 16-bit pictures with a range, a threshold and a mask; its export; and new pictures."""
    root = tmp_path_factory.mktemp("made")
    good = _draw(root / "good", _values(12, seed=0))
    _draw(root / "new", np.concatenate([_values(2, seed=1), _values(2, seed=2, spot=True)]))
    mask = np.zeros((60, 80), np.uint8)
    mask[:20, :25] = 255
    Image.fromarray(mask).save(root / "mask.png")
    asked = ["fit", str(good), "-o", str(root / "d"), "--weights=random", "--size", "48", "64", "--k=6"]
    asked += ["--range=4095", f"--ignore-mask={root / 'mask.png'}", "--false-alarm-rate=0.2"]
    assert main(asked) == 0
    assert main(["export", str(root / "d"), "-o", str(root / "model")]) == 0
    return root


def _run(script, hidden, *pictures):
    done = subprocess.run(
        [sys.executable, "-c", ALONE, hidden, str(script), *map(str, pictures)],
        capture_output=True,
        text=True,
        cwd=script.parent.parent,
        env={**os.environ, "PYTHONPATH": ""},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("script", "hidden"),
    [("score_onnx.py", "jaxsode,jax,jaxlib,flax"), ("score_stablehlo.py", "jaxsode,flax,onnx,onnxruntime")],
)
def test_the_examples_give_predicts_scores(script, hidden, made, tmp_path):
    new = sorted((made / "new").glob("*.png"))
    assert main(["predict", str(made / "d"), *map(str, new), "-o", str(tmp_path / "out")]) == 0
    with open(tmp_path / "out" / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (made / "new" / "torn.png").write_bytes(new[0].read_bytes()[:200])
    code, said, errors = _run(made / "model" / script, hidden, *new, made / "new" / "torn.png")
    (made / "new" / "torn.png").unlink()
    assert code == 1
    assert errors.strip().startswith("error: ")
    assert "torn.png is cut short or damaged" in errors
    lines = [line.split("  ") for line in said.splitlines()]
    assert [line[0] for line in lines] == [row["picture"] for row in rows]
    for (_, score, p, decision), row in zip(lines, rows, strict=True):
        assert float(score.removeprefix("score ")) == pytest.approx(float(row["score"]), rel=1e-4)
        assert float(p.removeprefix("p ")) == pytest.approx(float(row["p_value"]), rel=1e-2)
        assert decision == row["decision"]
    assert {row["decision"] for row in rows} == {"good", "defective"}


def test_what_it_says_and_what_is_there(made, capsys, tmp_path):
    before = {path: path.read_bytes() for path in (made / "d").rglob("*") if path.is_file()}
    assert main(["export", str(made / "d"), "-o", str(tmp_path / "m"), "--formats", "onnx", "--float16"]) == 0
    said = capsys.readouterr().out
    assert "of 6 pictures; 0 decisions differ" in said
    assert "from the detector with its precision in float16" in said
    assert "float16: " in said
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {"model.onnx", "model.json", "prepare.py", "decoding", "score_onnx.py"}
    page = json.loads((made / "model" / "model.json").read_text())
    assert page["preparation"]["range"] == 4095
    assert {path: path.read_bytes() for path in before} == before


def test_mistakes_are_told_in_a_line_and_leave_nothing(made, capsys, tmp_path, monkeypatch):
    out = tmp_path / "m"

    def fails(*given, says):
        assert main(["export", *map(str, given)]) == 2
        assert says in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    fails(tmp_path / "none", "-o", out, says="holds no detector")
    fails(made / "d", "-o", made / "model", says="exists already")
    fails(made / "d", "-o", made / "d" / "model", says="in the detector's own folder")
    fails(made / "d", "-o", out, "--platforms", says="needs a platform")
    monkeypatch.setattr(exports.util, "find_spec", lambda name: None)
    fails(made / "d", "-o", out, says="pip install 'jaxsode[onnx]', or give --formats stablehlo")
    monkeypatch.undo()

    def broken(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exports.stablehlo, "write", broken)
    fails(made / "d", "-o", out, says="can't be written: No space left on device")


def test_another_mask_has_no_threshold(made, capsys, tmp_path):
    other = np.zeros((60, 80), np.uint8)
    other[:, :10] = 255
    Image.fromarray(other).save(tmp_path / "mask.png")
    given = [f"--ignore-mask={tmp_path / 'mask.png'}", "--formats", "stablehlo"]
    assert main(["export", str(made / "d"), "-o", str(tmp_path / "m"), *given]) == 0
    assert "map and score alone are exported" in capsys.readouterr().err
    assert json.loads((tmp_path / "m" / "model.json").read_text())["threshold"] is None


def _encoded(folder):
    """Pictures of every kind that cameras and people make."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4096, (30, 44, 3)).astype(np.uint16)
    (folder / "deep.png").write_bytes(own_pictures.png_of_16_bits(values))
    (folder / "deep grey.png").write_bytes(own_pictures.png_of_16_bits(values[..., :1]))
    Image.fromarray(values[..., 0]).save(folder / "deep.tif")
    own_pictures.draw(folder / "grey.png", size=(33, 50), grey=True)
    own_pictures.draw(folder / "colour.jpg", size=(33, 50))
    own_pictures.draw(folder / "colour.bmp", size=(90, 21))
    for orientation in range(1, 9):
        own_pictures.with_orientation(folder / f"turned {orientation}.jpg", orientation, size=(30, 44))
        own_pictures.with_orientation(folder / f"turned {orientation}.png", orientation, size=(30, 44))
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(values[..., 0]).save(folder / f"deep {orientation}.png", exif=exif)
        Image.fromarray((values >> 4).astype(np.uint8)).save(
            folder / f"turned {orientation}.tif", tiffinfo={0x0112: orientation}
        )
    clear = np.dstack([values >> 4, rng.integers(0, 256, (30, 44, 1))]).astype(np.uint8)
    Image.fromarray(clear).save(folder / "clear.png")
    Image.fromarray((values >> 4).astype(np.uint8)).quantize(16).save(folder / "palette.png", transparency=3)
    Image.fromarray(values[..., 0] > 2000).save(folder / "bilevel.png")
    grey = Image.fromarray((values[..., 0] >> 4).astype(np.uint8))
    for suffix in ("pgm", "ppm", "jp2", "tga", "gif", "ico", "webp"):
        (grey.convert("RGB") if suffix == "ppm" else grey).save(folder / f"kind.{suffix}")
    grey.save(folder / "phone.jpg", format="MPO", save_all=True, append_images=[grey.rotate(90)])
    for channels in (2, 4):
        opaque = np.dstack([values, np.full((30, 44, 1), 65535, np.uint16)])[..., -channels:]
        (folder / f"opaque {channels}.png").write_bytes(own_pictures.png_of_16_bits(opaque))
    odd = Image.Exif()
    odd[0x0112] = 99
    grey.save(folder / "odd.png", exif=odd)
    return sorted(folder.iterdir())


def test_the_page_shows_the_example_as_it_is():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "export.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    assert (exports.EXAMPLES / "score_stablehlo.py").read_text(encoding="utf-8").endswith(shown)


PREPARE_ALL = """
import sys
sys.modules["jaxsode"] = None
sys.path.insert(0, sys.argv[1])
import numpy as np
import prepare
np.savez("pixels.npz", **{path: prepare.prepared(path) for path in sys.argv[2:]})
"""


def _prepare(folder, size, preparation, *paths):
    """What the example, beside an export, makes of files, by name."""
    model = folder / "model"
    model.mkdir()
    (model / "model.json").write_text(json.dumps({"size": size, "preparation": preparation.page()}))
    (model / "prepare.py").write_bytes((exports.EXAMPLES / "prepare.py").read_bytes())
    exports.copy_decoding(model / "decoding")
    given = [sys.executable, "-c", PREPARE_ALL, str(model), *map(str, paths)]
    done = subprocess.run(given, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "pixels.npz") as file:
        return dict(file)


@pytest.mark.parametrize(("resize", "upright"), [("squeeze", True), ("crop", True), ("crop", False)])
def test_files_become_the_detectors_pictures(resize, upright, tmp_path):
    (tmp_path / "files").mkdir()
    preparation = Preparation(resize, 4095, upright=upright)
    expected = {}
    for path in _encoded(tmp_path / "files"):
        if not upright and path.match("turned [2-8].tif"):
            continue  # refused: Pillow turns it as it reads it
        expected[str(path)] = decode_picture(
            path.read_bytes(), size=(24, 40), channels=3, where=path.name, preparation=preparation
        )
    got = _prepare(tmp_path, [24, 40], preparation, *expected)
    assert got.keys() == expected.keys()
    for path, pixels in got.items():
        np.testing.assert_array_equal(pixels, expected[path], err_msg=path)


def test_what_cannot_be_read_as_it_should_is_told_in_a_line(made, tmp_path):
    bright = np.full((30, 44), 5000, np.uint16)
    Image.fromarray(bright).save(tmp_path / "bright.png")
    Image.fromarray(np.zeros((8, 9), np.float32)).save(tmp_path / "real.tif")
    frames = [Image.fromarray(np.full((8, 9), i, np.uint8)) for i in (0, 99)]
    frames[0].save(tmp_path / "many.tif", save_all=True, append_images=frames[1:])
    (tmp_path / "text.png").write_text("no picture")
    says = {
        "bright.png": "5000, above the range that ends at 4095",
        "real.tif": "32 bits",
        "many.tif": "holds 2 pictures",
        "text.png": "not a picture",
        "none.png": "can't be read: No such file",
    }
    script = made / "model" / "score_onnx.py"
    code, said, errors = _run(script, "jaxsode,jax,jaxlib,flax", *(tmp_path / name for name in says))
    assert (code, said) == (1, "")
    for line, (name, text) in zip(errors.splitlines(), says.items(), strict=True):
        assert line.startswith(f"error: {tmp_path / name} ")
        assert text in line
    code, said, errors = _run(script, "jaxsode,jax,jaxlib,flax")
    assert (code, said) == (1, "")
    assert errors.startswith("usage: python ")
