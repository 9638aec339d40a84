"""KolektorSDD's pictures in a plain folder, with a CSV of a fold's split: what `kolektor` makes of them."""

import csv
from pathlib import Path

import numpy as np
import pytest
from miniature import UNITS, is_complete
from miniature import kolektor as miniature

from jaxsode import datasets
from jaxsode.datasets import kolektor


def as_a_folder(published: datasets.Dataset, fold: str, into: Path) -> datasets.Dataset:
    """Write the files byte for byte, in one folder, and the CSV."""
    split = published.split(fold)
    rows = [("path", "split", "label", "mask")]
    into.mkdir()
    for part, indices in (("train", split.train), ("test", split.test)):
        for index in indices:
            example, record = published.examples[index], published.records[index]
            name = example.name.replace("/", "_")
            (into / f"{name}.jpg").write_bytes(record["picture"])
            (into / f"{name}.bmp").write_bytes(record["mask"])
            mask = f"{name}.bmp" if example.defective else ""
            rows.append((f"{name}.jpg", part, example.kind, mask))
    with (into / "fold.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return datasets.load("folder", data_dir=into)


def check(published: datasets.Dataset, fold: str, own: datasets.Dataset, *, every: int = 1) -> None:
    split, ours = published.split(fold), own.split("folder")
    assert (len(ours.train), len(ours.test), ours.left_out) == (len(split.train), len(split.test), ())
    assert own.channels == published.channels
    both = list(zip((*split.train, *split.test), (*ours.train, *ours.test), strict=True))
    for theirs, index in both[::every]:
        assert own.examples[index].name == published.examples[theirs].name.replace("/", "_")
        assert own.examples[index].defective == published.examples[theirs].defective
        np.testing.assert_array_equal(
            own.picture(index, size=published.size), published.picture(theirs), strict=True
        )
        np.testing.assert_array_equal(own.mask(index, size=published.size), published.mask(theirs))


@pytest.mark.parametrize("fold", sorted(UNITS.values()))
def test_the_miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold: str):
    is_complete(monkeypatch)
    published = datasets.load("kolektor", data_dir=miniature(tmp_path))
    check(published, fold, as_a_folder(published, fold, tmp_path / "own"))


def test_the_real_ones(tmp_path: Path, real_data: Path):
    published = kolektor.load(data_dir=real_data / "data" / "KolektorSDD.zip")
    own = as_a_folder(published, "1", tmp_path / "own")
    check(published, "1", own, every=3)
    # By default the pictures' own aspect, of a shorter side of 256.
    assert own.size[1] == 256
    assert own.notes[0] == f"{tmp_path / 'own'}: as fold.csv says"
