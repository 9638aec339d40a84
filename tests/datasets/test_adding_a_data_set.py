"""A data set is one file, one line in the registry and its TOML: here it is added by those steps."""

import importlib
import inspect
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxsode import datasets
from jaxsode.commands.run import main
from jaxsode.datasets import Split, registry
from jaxsode.errors import ArgumentError
from jaxsode.experiment import plan
from jaxsode.experiment.plan import Request, complete

FILE = '''
"""Plates of two shapes, some scratched: good/plate0.png, scratch/plate0.png."""

from jaxsode.datasets.dataset import Card, Dataset, Example, Record, Split
from jaxsode.datasets.files import FolderFiles, fingerprint
from jaxsode.datasets.prepared import prepared

CARD = Card("plates", channels=3, description="Plates.", homepage="https://example.org/plates")


def load(*, data_dir, progress=None, defects="scratch"):
    files = FolderFiles(data_dir, "*/*.png")

    def records():
        for done, name in enumerate(files.names, start=1):
            kind = name.split("/")[0]
            part = "train" if kind == "good" and done % 2 else "test"
            yield Record(Example(name, "round", kind, part, kind == defects), files.read(name))
            if progress is not None:
                progress(done, len(files.names))

    examples, stored = prepared(CARD, fingerprint(files, files.names, decided=defects), records)
    of = {part: tuple(i for i, e in enumerate(examples) if e.part == part) for part in ("train", "test")}
    return Dataset(
        name=CARD.name,
        size=(32, 48),
        channels=CARD.channels,
        paper_full_mask=False,
        examples=examples,
        splits={"round": Split("round", **of)},
        records=stored,
        source=str(data_dir),
    )
'''
MODULE = "plates"  # of one in the package: "jaxsode.datasets.plates"
TOML = """
backbone = "resnet18"
k = 4
embedding = "semi-orthogonal"
epsilon = 0.01
sigma = 4.0
batch_size = 2

[data]
defects = "scratch"
"""


@pytest.fixture
def plates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The steps, and the pictures' folder."""
    code, configs, pictures = tmp_path / "code", tmp_path / "configs", tmp_path / "pictures"
    for folder in (code, configs, pictures / "good", pictures / "scratch"):
        folder.mkdir(parents=True)
    (code / "plates.py").write_text(FILE)
    (configs / "plates.toml").write_text(TOML)
    monkeypatch.syspath_prepend(code)
    monkeypatch.delitem(sys.modules, "plates", raising=False)
    monkeypatch.setitem(registry.DATASETS, "plates", MODULE)
    monkeypatch.setattr(plan, "folder", lambda: configs)
    rng = np.random.default_rng(0)
    for name in ("good/0", "good/1", "good/2", "good/3", "scratch/0"):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{name}.png")
    return pictures


def test_it_is_loaded_by_its_name(plates: Path, own_home: Path):
    calls: list[tuple[int, int]] = []
    dataset = datasets.load("plates", data_dir=plates, progress=lambda *both: calls.append(both))
    assert calls == [(i, 5) for i in range(1, 6)]
    assert dataset.split("round") == Split("round", train=(0, 2), test=(1, 3, 4))
    assert [example.kind for example in dataset.examples] == ["good"] * 4 + ["scratch"]
    assert dataset.picture(4).shape == (32, 48, 3)
    assert dataset.mask(4) is None
    (folder,) = (own_home / "datasets" / "plates").iterdir()
    stored = json.loads((folder / "dataset_info.json").read_text())
    assert stored["name"] == "plates"
    assert stored["description"] == "Plates."
    assert stored["location"]["urls"] == ["https://example.org/plates"]
    assert tfds.builder_from_directory(folder).info.splits["pictures"].num_examples == 5


def test_its_own_settings_are_handed_on(plates: Path):
    assert datasets.load("plates", data_dir=plates).examples[4].defective
    assert not datasets.load("plates", data_dir=plates, defects="dent").examples[4].defective


def test_the_command_knows_it(plates: Path):
    made = complete(Request(dataset="plates", data_dir=plates))
    assert ([method.k for method in made.methods], made.batch_size) == ([4], 2)


def test_a_name_that_nobody_registered(capsys: pytest.CaptureFixture[str]):
    message = f"there is no data set 'mnist': choose one of {', '.join(datasets.NAMES)}"
    with pytest.raises(ArgumentError, match=message):
        complete(Request(dataset="mnist"))
    assert main(["--dataset", "mnist"]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_help_lists_them(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--help"])
    unwrapped = "".join(capsys.readouterr().out.replace("│", "").split())
    assert f"{{{','.join(datasets.NAMES)}}}" in unwrapped


@pytest.mark.parametrize("name", datasets.NAMES)
def test_each_has_a_toml(name: str):
    assert complete(Request(dataset=name, data_dir=Path("it"))).methods[0].k is not None


@pytest.mark.parametrize("name", datasets.NAMES)
def test_the_settings_in_its_toml_are_its_loaders_own_and_the_same(name: str):
    own = tomllib.loads((plan.folder() / f"{name}.toml").read_text(encoding="utf-8"))
    parameters = inspect.signature(importlib.import_module(registry.DATASETS[name]).load).parameters
    settings = own.get("data", {})
    assert settings == {setting: parameters[setting].default for setting in settings}
    assert registry.card(name).name == name
