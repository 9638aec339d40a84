"""Pictures of a folder, batch by batch: which files, in which order, read when wanted, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from own_pictures import png_of_16_bits, with_orientation
from PIL import Image
from tiny import Tiny

from jaxsode import Detector, Method
from jaxsode.datasets.folder import load as load_folder
from jaxsode.errors import ArgumentError, DataError
from jaxsode.pictures import batches


def _draw(path: Path, *, size=(32, 24), grey=False, seed=0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if grey else pixels).save(path)
    return np.repeat(pixels[..., :1], 3, axis=2) if grey else pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures at several depths, and what is none."""
    for seed, name in enumerate(("b.png", "a/2.bmp", "a/1.PNG", "c/d/0.tiff", "e.png")):
        _draw(tmp_path / name, seed=seed)
    for name in ("notes.txt", ".hidden.png", "a/.cache/3.png", "a/Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    return tmp_path


def test_all_pictures_in_the_order_of_their_paths(folder: Path):
    found = batches(folder, batch_size=2)
    assert [str(path.relative_to(folder)) for path in found.files] == [
        "a/1.PNG",
        "a/2.bmp",
        "b.png",
        "c/d/0.tiff",
        "e.png",
    ]
    assert (len(found), found.size) == (3, (32, 24))
    first = list(found)
    assert [batch.shape for batch in first] == [(2, 32, 24, 3), (2, 32, 24, 3), (1, 32, 24, 3)]
    assert all(batch.dtype == np.uint8 for batch in first)
    expected = [_draw(folder / "again.png", seed=seed) for seed in (2, 1, 0, 3, 4)]
    np.testing.assert_array_equal(np.concatenate(first), expected)
    # again, and by a path that is a string; the file that came since is not in
    np.testing.assert_array_equal(np.concatenate(list(found)), expected)
    assert len(batches(str(folder)).files) == 6


def test_resized_to_one_size_and_grey_to_three_channels(tmp_path: Path):
    grey = _draw(tmp_path / "0.png", size=(16, 8), grey=True)
    _draw(tmp_path / "1.jpg", size=(40, 50))
    both = batches(tmp_path, size=(16, 8))
    (batch,) = both
    assert (both.size, batch.shape) == ((16, 8), (2, 16, 8, 3))
    np.testing.assert_array_equal(batch[0], grey)


def test_one_that_is_of_another_size(tmp_path: Path):
    for number, size in enumerate([(32, 24), (32, 24), (24, 32)]):
        _draw(tmp_path / f"{number}.png", size=size)
    found = iter(batches(tmp_path, batch_size=2))
    assert next(found).shape == (2, 32, 24, 3)
    with pytest.raises(
        ArgumentError, match=r"2\.png is 24 × 32 and .*0\.png 32 × 24 .* resized to$"
    ) as error:
        next(found)
    assert "\n" not in str(error.value)


def test_nothing_is_read_before_it_is_asked_for(folder: Path):
    (folder / "e.png").write_bytes(b"")
    found = batches(folder, batch_size=2)
    taken = iter(found)
    assert len(next(taken)) == 2
    assert len(next(taken)) == 2
    with pytest.raises(DataError, match=r"e\.png is empty: get the file again"):
        next(taken)


def test_a_file_that_went_away(folder: Path):
    found = batches(folder)
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match=r"^can't read .*b\.png: mend or remove it \(No such file"):
        list(found)


def test_folders_without_pictures(tmp_path: Path):
    with pytest.raises(DataError, match=r"can't list .*nowhere: name a folder of pictures \(No such file"):
        batches(tmp_path / "nowhere")
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"can't list .*file\.png: .* \(Not a directory"):
        batches(tmp_path / "file.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no pictures: name a folder that has"):
        batches(tmp_path / "empty")


@pytest.mark.parametrize("options", [{"size": (0, 8)}, {"batch_size": 0}])
def test_numbers_out_of_range(folder: Path, options):
    with pytest.raises(ArgumentError, match="must be at least 1"):
        batches(folder, **options)


def test_one_object_serves_a_fit_and_what_follows(folder: Path):
    good = batches(folder, batch_size=2)
    detector = Detector.fit(good, Tiny.make(), Method(k=2, epsilon=0.1))
    assert int(detector.count) == len(good.files)
    assert detector.size == good.size
    assert detector.leave_one_out(good).shape == (5, 32, 24)
    same = Detector.fit([np.concatenate(list(good))], Tiny.make(), Method(k=2, epsilon=0.1))
    np.testing.assert_allclose(same.mean, detector.mean, atol=1e-6)


def test_how_many_there_are_is_known_before_they_are_read(folder: Path):
    found = batches(folder, batch_size=2)
    assert (found.total, len(found)) == (5, 3)


def test_a_fit_takes_the_cheaper_way_for_so_many(tmp_path: Path):
    """Of more pictures than features, full rank is made from moments."""
    for seed in range(30):
        _draw(tmp_path / f"{seed}.png", seed=seed)
    method = Method(embedding="identity", precision="full-rank")
    few, many = (batches(tmp_path, batch_size=8), batches(tmp_path, batch_size=8))
    few.files = few.files[:6]
    made = [Detector.fit(some, Tiny.make(), method).method.precision for some in (few, many)]
    assert made == ["dual", "local"]


def test_they_are_read_as_the_data_set_folder_reads_them(tmp_path: Path):
    """Turned upright, 16 bits by their range, cropped and padded alike."""
    stored = with_orientation(tmp_path / "0.png", 6, size=(24, 32))
    values = np.random.default_rng(0).integers(0, 1000, (32, 24, 3)).astype(np.uint16)
    (tmp_path / "1.png").write_bytes(png_of_16_bits(values))
    (batch,) = batches(tmp_path, range=1023)
    np.testing.assert_array_equal(batch[0], np.rot90(stored, -1))
    assert np.abs(batch[1] - values * 255.0 / 1023).max() <= 0.5 + 1e-9
    for resize in ("squeeze", "crop", "pad"):
        (batch,) = batches(tmp_path, size=(48, 48), resize=resize, range=1023)
        own = load_folder(data_dir=tmp_path, size=(48, 48), resize=resize)
        np.testing.assert_array_equal(batch, [own.picture(i) for i in range(2)])
    with pytest.raises(DataError, match=r"1\.png has 16 bits, .*: say what white is by range, one of 255"):
        list(batches(tmp_path))
    with pytest.raises(DataError, match=r"1\.png has a value of 9\d\d, above the range that ends at 255"):
        list(batches(tmp_path, range=255))
    with pytest.raises(DataError, match=r"0\.png has 24 × 32 pixels .*more than max_pixels, 767"):
        list(batches(tmp_path, max_pixels=767))


def test_what_lies_about_is_passed_over(tmp_path: Path):
    _draw(tmp_path / "a.png" / "b.PNG")
    for name in (".DS_Store", "._b.png", "__MACOSX/b.png", "Thumbs.db", "x.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    assert [path.name for path in batches(tmp_path).files] == ["b.PNG"]
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"^can't read .*gone\.png: mend or remove it \(a link to nothing\)$"):
        list(batches(tmp_path))
