from collections import Counter

import numpy as np
import pytest

from jaxsode import datasets
from jaxsode.datasets import Example, Split
from jaxsode.datasets.demo import dataset as demo
from jaxsode.datasets.demo import fabric_defects, flange_defects
from jaxsode.datasets.demo.dataset import STRENGTHS, draw, shots
from jaxsode.datasets.demo.fabric import Fabric
from jaxsode.datasets.demo.flange import Flange
from jaxsode.datasets.demo.marks import finish
from jaxsode.errors import ArgumentError

DEFECTS = [(Flange, kind, defect) for kind, defect in flange_defects.DEFECTS.items()] + [
    (Fabric, kind, defect) for kind, defect in fabric_defects.DEFECTS.items()
]


@pytest.mark.parametrize("group", ["object", "texture"])
def test_what_there_is(group: str):
    counts = Counter((shot.part, shot.kind) for shot in shots() if shot.group == group)
    assert counts["train", "good"] == 60
    assert counts["test", "good"] == 20
    assert {part for part, _ in counts} == {"train", "test"}
    kinds = {kind: count for (_, kind), count in counts.items() if kind != "good"}
    assert len(kinds) >= 5
    assert sum(kinds.values()) >= 30
    assert len({shot.name for shot in shots()}) == len(shots())


@pytest.mark.parametrize("index", [0, 65, 90, 112, 180, 200])
def test_the_same_pixels_each_time(index: int):
    shot = shots()[index]
    picture, mask = draw(shot)
    again, mask_again = draw(shot)
    assert picture.shape == (256, 256, 3)
    assert mask.shape == (256, 256)
    assert picture.dtype == mask.dtype == np.uint8
    assert np.array_equal(picture, again)
    assert np.array_equal(mask, mask_again)


@pytest.mark.parametrize("first", [0, 112])
def test_no_two_pictures_are_alike_and_all_are_well_exposed(first: int):
    drawn = [draw(shot)[0] for shot in shots()[first : first + 4]]
    for i, picture in enumerate(drawn):
        assert 40 < picture.mean() < 170
        assert picture.std() > 30
        assert (picture == 255).mean() < 0.02
        for other in drawn[:i]:
            assert np.abs(picture.astype(int) - other).mean() > 2


@pytest.mark.parametrize("strength", [STRENGTHS[0], STRENGTHS[-1]])
@pytest.mark.parametrize(("item", "kind", "defect"), DEFECTS, ids=[kind for _, kind, _ in DEFECTS])
def test_masks_are_exact(item, kind: str, defect, strength: float):
    """Against the twin of the picture: the same item under the same camera, without the defect."""
    one = item.draw(np.random.default_rng([1, len(kind)]))
    canvas, region = defect(np.random.default_rng([2, len(kind)]), one, strength)
    picture, mask = finish(np.random.default_rng(3), canvas, region)
    twin, no_mask = finish(np.random.default_rng(3), one.render())
    assert canvas.dtype == np.float32
    assert not no_mask.any()
    assert set(np.unique(mask)) == {0, 255}
    assert 10 < (mask == 255).sum() < 0.12 * mask.size
    change = np.abs(picture.astype(int) - twin).max(axis=-1)
    assert change[mask == 0].max() == 0
    # of a missing yarn one sees nothing where it ran beneath; of all else, the mask is mostly what changed
    assert (change[mask == 255] > 0).mean() > (0.3 if kind == "missing_pick" else 0.6)
    assert change[mask == 255].max() > 8


def test_defects_are_of_several_sizes_and_contrasts():
    sizes, contrasts = [], []
    for strength in STRENGTHS:
        one = Flange.draw(np.random.default_rng(0))
        canvas, region = flange_defects.stain(np.random.default_rng(0), one, strength)
        change = np.abs(canvas - one.render())[:, region].mean()
        sizes.append(int(region.sum()))
        contrasts.append(float(change))
    assert sizes == sorted(sizes)
    assert sizes[-1] > 4 * sizes[0]
    assert contrasts == sorted(contrasts)
    assert contrasts[-1] > 2 * contrasts[0]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TRAIN_GOOD", 3)
    monkeypatch.setattr(demo, "TEST_GOOD", 2)
    monkeypatch.setattr(demo, "STRENGTHS", (1.0,))


@pytest.mark.usefixtures("few")
def test_loading():
    calls: list[tuple[int, int]] = []
    dataset = datasets.load("demo", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i + 1, 26) for i in range(26)]
    assert dataset.name == "demo"
    assert dataset.size == (256, 256)
    assert dataset.channels == 3
    assert tuple(dataset.splits) == ("object", "texture")
    assert not dataset.paper_full_mask
    for group, first in (("object", 0), ("texture", 13)):
        split = Split(group, tuple(range(first, first + 3)), tuple(range(first + 3, first + 13)))
        assert dataset.split(group) == split
    for index, shot in enumerate(shots()):
        example = dataset.examples[index]
        assert example == Example(shot.name, shot.group, shot.kind, shot.part, shot.kind != "good")
        assert (dataset.mask(index).max() == 255) == example.defective
    picture, mask = draw(shots()[4])
    assert np.array_equal(dataset.picture(4), picture)
    assert np.array_equal(dataset.mask(4), mask)


def test_there_is_nothing_to_read(tmp_path):
    with pytest.raises(ArgumentError, match=r"^the demo is drawn, not read from .*: leave --data-dir out$"):
        datasets.load("demo", data_dir=tmp_path)


def test_no_such_data_set():
    names = ", ".join(datasets.NAMES)
    with pytest.raises(ArgumentError, match=rf"^there is no data set 'mnist': choose one of {names}$"):
        datasets.load("mnist")
