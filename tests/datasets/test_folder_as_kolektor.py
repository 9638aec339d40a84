"""Real pictures in a plain folder with a CSV of fold 1's split give what the published data set gives."""

import csv
import zipfile

import numpy as np
import pytest

from jaxsode import Detector, Method, datasets, load_backbone


@pytest.fixture(scope="module")
def both(real_data, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    archive = real_data / "data" / "KolektorSDD.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSODE_HOME", str(home))
        published = datasets.load("kolektor", data_dir=archive)
        own = tmp_path_factory.mktemp("own")
        with zipfile.ZipFile(archive) as files:
            files.extractall(own)
        split = published.split("1")
        with (own / "split.csv").open("w", newline="") as table:
            rows = csv.writer(table)
            rows.writerow(["path", "split", "label", "mask"])
            for part, indices in (("train", split.train), ("test", split.test)):
                for index in indices:
                    example = published.examples[index]
                    path = f"KolektorSDD/{example.name}"
                    kind = example.kind if example.defective else "good"
                    rows.writerow(
                        [f"{path}.jpg", part, kind, f"{path}_label.bmp" if example.defective else ""]
                    )
        yield published, datasets.load("folder", data_dir=own / "split.csv", size=published.size)


def _pairs(both, part):
    """The same pictures' indices in either."""
    published, plain = both
    a = getattr(published.split("1"), part)
    b = getattr(plain.split("folder"), part)
    names = [plain.examples[index].name.removeprefix("KolektorSDD/") for index in b]
    assert names == [published.examples[index].name for index in a]
    return a, b


@pytest.mark.parametrize("part", ["train", "test"])
def test_pictures_and_masks_bit_for_bit(both, part):
    published, plain = both
    assert plain.channels == published.channels
    for a, b in zip(*_pairs(both, part), strict=True):
        np.testing.assert_array_equal(plain.picture(b), published.picture(a))
        np.testing.assert_array_equal(plain.mask(b), published.mask(a))
        assert plain.examples[b].defective == published.examples[a].defective


@pytest.mark.slow
def test_its_maps(both, real_data):
    weights = real_data / "weights" / "resnet18_imagenet1k_v1_layers1to3_bn_folded.npz"
    backbone = load_backbone("resnet18", weights=weights)
    maps = []
    for dataset, train, test in zip(both, _pairs(both, "train"), _pairs(both, "test"), strict=True):
        detector = Detector.fit(datasets.batches(dataset, train, batch_size=8), backbone, Method(k=100))
        scored = datasets.batches(dataset, test, batch_size=8)
        maps.append(np.concatenate([np.asarray(detector.anomaly_map(b.pictures))[: b.valid] for b in scored]))
        del detector
    assert len(maps[0]) == len(both[0].split("1").test)
    np.testing.assert_allclose(maps[1], maps[0], rtol=1e-6)
