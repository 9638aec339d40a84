"""jaxsode demo: the demo's pictures as files, all or none."""

import numpy as np
import pytest
from PIL import Image

from jaxsode import cli
from jaxsode.datasets import folder
from jaxsode.datasets.demo import dataset, files
from jaxsode.datasets.demo.dataset import Shot, draw


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(dataset, "TRAIN_GOOD", 3)
    monkeypatch.setattr(dataset, "TEST_GOOD", 2)
    monkeypatch.setattr(dataset, "STRENGTHS", (0.5,))
    monkeypatch.setattr(files, "LATER", 2)


def _contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("item", ["object", "texture"])
def test_they_are_the_demos_and_the_same_each_time(tmp_path, capsys, item):
    assert cli.main(["demo", "--output", str(tmp_path / "parts"), "--item", item]) == 0
    assert str(tmp_path / "parts") in capsys.readouterr().out
    assert cli.main(["demo", "--output", str(tmp_path / "again"), "--item", item]) == 0
    assert _contents(tmp_path / "parts") == _contents(tmp_path / "again")
    shots = {
        "good/002.png": Shot(item, "train", "good", 2),
        "unseen/001.png": Shot(item, "test", "good", 1),
    }
    for name, shot in shots.items():
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "parts" / name)), draw(shot)[0])
    before = draw(Shot(item, "later", "good", 1))[0]
    warmer = np.asarray(Image.open(tmp_path / "parts" / "warmer" / "001.png"))
    assert np.abs(warmer - before * np.array([1, 1, 0.94])).max() <= 0.5

    read = folder.load(data_dir=tmp_path / "parts", size=(256, 256))
    kinds = {shot.kind for shot in dataset.shots() if shot.group == item} - {"good"}
    (split,) = read.splits.values()
    assert {read.examples[i].name for i in split.train} == {f"good/{i:03d}" for i in range(3)}
    defective = [each for each in read.examples if each.defective]
    assert {each.kind for each in defective} == kinds
    masks = _contents(tmp_path / "parts" / "masks")
    assert {f"{kind}/000.png" for kind in kinds} == set(masks)
    assert all(np.asarray(Image.open(path)).any() for path in (tmp_path / "parts" / "masks").rglob("*.png"))


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mine.txt").write_text("mine")
    assert cli.main(["demo", "--output", str(tmp_path / "parts")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert str(tmp_path / "parts") in error
    assert _contents(tmp_path) == {"parts/mine.txt": b"mine"}


def test_stopped_in_between_nothing_is_left(tmp_path, monkeypatch):
    drawn = []

    def stop(shot):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(shot)
        return plain(shot)

    plain = files.draw
    monkeypatch.setattr(files, "draw", stop)
    assert cli.main(["demo", "--output", str(tmp_path / "parts")]) == 130
    assert not list(tmp_path.iterdir())
