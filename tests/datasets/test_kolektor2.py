"""KolektorSDD2, as published and as copied."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import published
import pytest
from published import Files

from jaxsode import datasets
from jaxsode.datasets import Dataset, Split, kolektor2
from jaxsode.errors import DataError


@pytest.fixture
def files() -> Files:
    return published.kolektor2()


def load(path: Path, **options) -> Dataset:
    return datasets.load("kolektor2", data_dir=path, **options)


def everything(dataset: Dataset) -> list[tuple]:
    count = range(len(dataset.examples))
    records = dataset.records
    return [(dataset.examples[i], records[i]["picture"], records[i]["mask"]) for i in count]


def test_folder_and_zip_are_the_same(tmp_path: Path, files: Files):
    plain = load(published.write_folder(tmp_path / "plain", files))
    littered = published.littered(files)
    shouted = {name.upper(): content for name, content in littered.items()}
    given = [
        published.write_folder(tmp_path / "folder" / "KolektorSDD2", littered),
        tmp_path / "folder",
        published.write_zip(tmp_path / "KolektorSDD2.zip", littered),
        tmp_path,
        published.write_folder(tmp_path / "shouted", shouted),
    ]
    assert all(everything(load(path)) == everything(plain) for path in given)


def test_the_default_place(files: Files, own_home: Path):
    (own_home / "datasets").mkdir()
    published.write_zip(own_home / "datasets" / "KolektorSDD2.zip", files)
    assert len(datasets.load("kolektor2").examples) == 9


def test_what_a_dataset_says_of_itself(tmp_path: Path, files: Files):
    dataset = load(published.write_folder(tmp_path, files))
    assert (dataset.name, dataset.size, dataset.channels) == ("kolektor2", (704, 256), 3)
    assert not dataset.paper_full_mask
    assert dataset.licence == "CC BY-NC-SA 4.0, Kolektor Group and ViCoS Lab, Ljubljana: no commercial use"
    assert [example.name for example in dataset.examples] == [
        *(f"train/{number}" for number in (10000, 10001, 10002, 10003, 10301)),
        *(f"test/{number}" for number in (20000, 20001, 20002, 20003)),
    ]
    kinds = [example.kind for example in dataset.examples]
    assert kinds == ["good"] * 4 + ["defect"] + ["good"] * 3 + ["defect"]
    assert dataset.split("published") == Split("published", train=(0, 1, 2, 3), test=(5, 6, 7, 8))
    assert dataset.picture(0).shape == (704, 256, 3)
    mask = dataset.mask(8)
    assert mask is not None
    assert mask.max() == 255


def test_the_published_counts(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch):
    folder = published.write_folder(tmp_path, files)
    assert load(folder).notes == (
        "4 good train pictures are here where KolektorSDD2 has 2085",
        "1 defective train pictures are here where KolektorSDD2 has 246",
        "3 good test pictures are here where KolektorSDD2 has 894",
        "1 defective test pictures are here where KolektorSDD2 has 110",
    )
    monkeypatch.setattr(kolektor2, "COMPLETE", {"train": (4, 1), "test": (3, 1)})
    assert load(folder).notes == ()


def test_it_is_prepared_once(tmp_path: Path, files: Files):
    folder = published.write_folder(tmp_path, files)
    calls: list[tuple[int, int]] = []
    load(folder, progress=lambda *both: calls.append(both))
    assert calls == [(done, 9) for done in range(1, 10)]
    load(folder, progress=lambda *both: calls.append(both))
    assert len(calls) == 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.pop("test/20000_GT.png"),
            "has test/20000.png but no mask test/20000_GT.png: add it, or remove the other",
        ),
        (
            lambda f: f.pop("test/20000.png"),
            "has test/20000_GT.png but no picture test/20000.png: add it, or remove the other",
        ),
        (
            lambda f: f.update({"test/20000.PNG": f["test/20000.png"]}),
            "has both test/20000.PNG and test/20000.png: remove one of them",
        ),
        (
            lambda f: f.update({"test/mine.png": f["test/20000.png"]}),
            "has test/mine.png, which KolektorSDD2 hasn't: rename or remove it",
        ),
    ],
)
def test_something_wrong_with_the_names(
    tmp_path: Path, files: Files, change: Callable[[Files], object], message: str
):
    change(files)
    folder = published.write_folder(tmp_path / "data", files)
    with pytest.raises(DataError) as caught:
        load(folder)
    assert str(caught.value) == f"{folder} {message}"


def test_something_wrong_with_a_mask(tmp_path: Path, files: Files):
    files["test/20001_GT.png"] = published.encode(np.zeros((9, 9), np.uint8))
    folder = published.write_folder(tmp_path / "data", files)
    with pytest.raises(
        DataError, match=r"^test/20001_GT\.png in .* is 9 × 9, its picture 64 × 23 \(height × "
    ):
        load(folder)


def test_missing_data_say_where_to_get_them(tmp_path: Path):
    for path, what in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no KolektorSDD2")):
        with pytest.raises(DataError) as caught:
            load(path)
        assert str(caught.value) == (
            f"{path} {what}: get KolektorSDD2.zip from https://www.vicos.si/resources/kolektorsdd2/ and give "
            "its path, or the folder it is unpacked in (with train and test), as --data-dir"
        )
