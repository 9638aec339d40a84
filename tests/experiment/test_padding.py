"""Padded pictures: only what all fitted ones show is fitted, scored and evaluated."""

from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny import Tiny

from jaxsode import Detector, Method, datasets, metrics, pictures
from jaxsode.errors import ArgumentError
from jaxsode.experiment.evaluate import Experiment
from jaxsode.experiment.features import Features
from jaxsode.experiment.padding import narrowed, repeated
from jaxsode.experiment.record import Stopwatch
from jaxsode.preparation import common

BACKBONE = Tiny.make()  # which sees nothing beyond a location
METHOD = Method(k=8, sigma=0, epsilon="5%")


@pytest.mark.parametrize("length", [16, 40, 44])
@pytest.mark.parametrize("n", [4, 11])
def test_the_nearest_location_that_counts(length, n):
    """Against a loop over locations: those whose centre counts keep their features."""
    maps = (jnp.arange(n * 3.0).reshape(1, n, 3, 1),)
    centres = (np.arange(n) + 0.5) * length / n
    for start in range(length):
        for stop in range(start + 1, length + 1, 3):
            judged = np.array([[start, 0, stop, 9]], np.int32)
            (ours,) = repeated(maps, judged, (length, 9))
            rows = np.asarray(ours)[0, :, 0, 0] / 3
            inside = [i for i in range(n) if start <= centres[i] < stop]
            if inside:
                wanted = [min(inside, key=lambda j: abs(j - i)) for i in range(n)]
                assert rows.tolist() == wanted
            else:
                assert len(set(rows)) == 1
                assert abs(centres[int(rows[0])] - (start + stop) / 2) <= length / n
            np.testing.assert_array_equal(np.asarray(ours)[..., 0] % 3, [[[0, 1, 2]] * n])


@contextmanager
def _bar(what, total):
    yield lambda done: None


def _experiment(folder, **options):
    dataset = datasets.load("folder", data_dir=folder, size=(64, 64), **options)
    split = dataset.split("folder")
    dataset = narrowed(dataset, split.train, size=(64, 64), workers=1)
    features = Features(BACKBONE, dataset, size=(64, 64), batch_size=4, workers=1)
    with Stopwatch() as stopwatch:
        experiment = Experiment(features, stopwatch, 10**9)
        maps = {}

        def draw(index, picture, anomaly_map, mask, placing):
            maps[dataset.examples[index].name] = placing.masked(anomaly_map)

        experiment.prepare([(split, METHOD)], progress=lambda done: None)
        result = experiment.run(split, METHOD, bar=_bar, draw=draw, save=folder.parent / "detector")
    return dataset, maps, result


def _draw(path, height, width, seed, *, mark=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(90, 166, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    if mark:
        mask[height // 2 :, : width // 2] = 255
        pixels[mask > 0] //= 2
    Image.fromarray(pixels).save(path)
    if mark:
        (path.parents[1] / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(path.parents[1] / "masks" / path.name)


@pytest.mark.parametrize("hold_out", [None, 0.3])
def test_padded_pictures_are_scored_as_the_same_without_padding(tmp_path, hold_out):
    """A backbone without a field beyond a location gives the same maps: padding takes part in nothing."""
    own = tmp_path / "own"
    for i in range(9):
        _draw(own / "good" / f"g{i}.png", 64, 32, i)
    for i in range(3):
        _draw(own / "bad" / f"b{i}.png", 64, 32, 50 + i, mark=True)
    options = {} if hold_out is None else {"hold_out": hold_out}
    dataset, maps, result = _experiment(own, resize="pad", **options)
    assert dataset.preparation.shown == (0, 16, 64, 48)
    assert "of 64 × 64 the 64 × 32 that all fitted pictures show are judged" in dataset.notes[-1]

    split = dataset.split("folder")
    decoded = [dataset.picture(i)[:, 16:48] for i in range(len(dataset.examples))]
    alone = Detector.fit([np.stack([decoded[i] for i in split.train])], BACKBONE, METHOD)
    # What all locations share is of the padding's copies of their neighbours, too.
    epsilon = Detector.load(tmp_path / "detector", backbone=BACKBONE).epsilon
    alone = alone.with_epsilon(epsilon)
    wanted = {i: np.asarray(alone.anomaly_map(decoded[i][None]))[0] for i in split.test}
    left_out = alone.leave_one_out([np.stack([decoded[i] for i in split.train])])
    if split.left_out:
        wanted |= dict(zip(split.train, left_out, strict=True))
    assert len(maps) == len(wanted)
    for index, one in wanted.items():
        ours = maps[dataset.examples[index].name]
        np.testing.assert_allclose(ours[:, 16:48], one, rtol=1e-4)
        assert np.isnan(ours[:, :16]).all()
        assert np.isnan(ours[:, 48:]).all()
    masks = np.stack([dataset.mask(i)[:, 16:48] for i in wanted])
    defective = np.array([dataset.examples[i].defective for i in wanted])
    expected = metrics.evaluate(np.stack(list(wanted.values())), masks, defective, paper_full_mask=False)
    for name in ("pixel_auroc", "pro"):
        assert result[name] == pytest.approx(dict(expected[name]), abs=1e-6)
    assert result["image_auroc"] == expected["image_auroc"]


def test_of_another_aspect_only_what_all_fitted_ones_show(tmp_path):
    own = tmp_path / "own"
    for i in range(7):
        _draw(own / "good" / f"g{i}.png", 64, 32, i)
    _draw(own / "good" / "wide.png", 48, 64, 8)
    _draw(own / "bad" / "b0.png", 64, 32, 50, mark=True)
    _draw(own / "bad" / "b1.png", 32, 64, 51, mark=True)
    dataset, maps, _ = _experiment(own, resize="pad")
    assert dataset.preparation.shown == (8, 16, 56, 48)
    for name, part in {"bad/b0": (8, 16, 56, 48), "bad/b1": (16, 16, 48, 48)}.items():
        ours = np.isfinite(maps[name])
        wanted = np.zeros((64, 64), bool)
        wanted[part[0] : part[2], part[1] : part[3]] = True
        np.testing.assert_array_equal(ours, wanted)
    saved = Detector.load(tmp_path / "detector", backbone=BACKBONE).preparation
    assert saved == dataset.preparation


def test_what_several_parts_have_in_common():
    assert common([(0, 4, 16, 12), (2, 0, 14, 16), (1, 1, 15, 15)]) == (2, 4, 14, 12)


def test_a_detector_of_the_library_takes_no_padding(tmp_path):
    for i in range(3):
        _draw(tmp_path / f"{i}.png", 64, 32, i)
    padded = pictures.batches(tmp_path, size=(64, 64), resize="pad")
    dataset = datasets.load("folder", data_dir=tmp_path, size=(64, 64), resize="pad")
    for batches in (padded, datasets.batches(dataset, [0, 1, 2], batch_size=2)):
        with pytest.raises(ArgumentError, match=r"the pictures are padded, and .*: squeeze or crop them"):
            Detector.fit(batches, BACKBONE, METHOD)
