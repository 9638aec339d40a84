"""ShanghaiTech Campus: frames where they lie, videos, masks as arrays."""

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published
import pytest
from published import Files

from jaxsode import datasets
from jaxsode.datasets import Dataset, mstc
from jaxsode.datasets.files import FolderFiles
from jaxsode.datasets.video import npy_frames
from jaxsode.errors import ArgumentError, DataError


@pytest.fixture
def files() -> Files:
    return published.mstc("01", "13")


@pytest.fixture
def video() -> Files:
    pytest.importorskip("cv2", reason="videos are read by OpenCV: the extra `video`")
    return published.mstc("01", videos=True)


def load(path: Path, **options) -> Dataset:
    return datasets.load("mstc", data_dir=path, **options)


def everything(dataset: Dataset) -> list[tuple]:
    count = range(len(dataset.examples))
    records = dataset.records
    return [(dataset.examples[i], records[i]["picture"], records[i]["mask"]) for i in count]


def test_folder_and_zip_are_the_same(tmp_path: Path, files: Files):
    plain = load(published.write_folder(tmp_path / "plain", files))
    littered = published.littered(files)
    deep = {f"some/shanghaitech/{name.upper()}": content for name, content in littered.items()}
    given = [
        published.write_folder(tmp_path / "folder" / "shanghaitech", littered),
        tmp_path / "folder",
        published.write_zip(tmp_path / "campus.zip", deep),
    ]
    assert all(everything(load(path)) == everything(plain) for path in given)


def test_what_a_dataset_says_of_itself(tmp_path: Path, files: Files):
    dataset = load(published.write_folder(tmp_path, files))
    assert (dataset.name, dataset.size, dataset.channels) == ("mstc", (256, 256), 3)
    assert not dataset.paper_full_mask
    first = [example for example in dataset.examples if example.group == "01"]
    assert [example.name for example in first] == [
        *(f"train/01_00{clip}/{frame:06d}" for clip in (1, 2) for frame in (0, 5, 10)),
        *(f"test/01_0014/{frame:06d}" for frame in range(9)),
    ]
    assert [e.defective for e in first] == [False] * 6 + [4 <= frame <= 6 for frame in range(9)]
    assert {e.kind for e in first} == {"good", "unusual"}
    assert tuple(dataset.splits) == ("01", "13")
    assert dataset.split("01").train == (0, 1, 2, 3, 4, 5)
    assert dataset.split("13").test == tuple(range(21, 30))


def test_frames_are_read_where_they_lie_and_masks_are_kept(tmp_path: Path, files: Files, own_home: Path):
    dataset = load(published.write_folder(tmp_path / "data", files))
    assert dataset.records[1]["picture"] == files["training/frames/01_001/0005.jpg"]
    assert dataset.records[10]["picture"] == files["testing/frames/01_0014/004.jpg"]
    (kept,) = (own_home / "datasets" / "mstc").iterdir()
    stored = datasets.prepared._open(kept)[1]
    assert {stored[i]["picture"] for i in range(len(dataset.examples))} == {b""}
    mask = dataset.mask(10, size=(48, 64))
    assert np.array_equal(mask, published.spot(48, 64))
    assert dataset.records[9]["mask"] == b""


def test_videos(tmp_path: Path, video: Files):
    """A frame of a video is its own, up to two lossy codecs; in a zip as in a folder."""
    dataset = load(published.write_folder(tmp_path / "data", video))
    assert [e.name for e in dataset.examples if e.part == "train"] == [
        f"train/01_00{clip}/{frame:06d}" for clip in (1, 2) for frame in (0, 5, 10)
    ]
    for index, seed in enumerate((100, 105, 110, 200, 205, 210)):
        picture = dataset.picture(index, size=(6, 8)).astype(float)
        expected = published.noise(seed, 48, 64, 3).reshape(6, 8, 8, 8, 3).mean((1, 3))
        assert abs(picture - expected).mean() < 4
    archive = published.write_zip(tmp_path / "campus.zip", video)
    assert everything(load(archive)) == everything(dataset)


def test_every_fifth_and_at_most_so_many_drawn_by_seed(tmp_path: Path, files: Files):
    folder = published.write_folder(tmp_path, files)
    assert len(load(folder, every=1).split("01").train) == 22
    drawn = [load(folder, every=1, most=7, seed=seed) for seed in (0, 0, 1)]
    trained = [dataset.split("01").train for dataset in drawn]
    assert trained[0] == trained[1] != trained[2]
    for train in trained:
        assert len(set(train)) == 7
        assert list(train) == sorted(train)
        assert max(train) < 22
    other = [index - 31 for index in drawn[0].split("13").train]
    assert other != list(trained[0])
    assert {len(dataset.split("01").test) for dataset in drawn} == {9}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"every": 0}, "every is 0: choose 1 ≤ every < 2³²"),
        ({"most": 0}, "most is 0: choose 1 ≤ most < 2³²"),
        ({"seed": -1}, "seed is -1: choose 0 ≤ seed < 2³²"),
    ],
)
def test_settings_out_of_range(tmp_path: Path, setting: dict[str, int], message: str):
    with pytest.raises(ArgumentError) as caught:
        load(tmp_path, **setting)
    assert str(caught.value) == message


def test_what_is_missing_stands_in_the_notes(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch):
    untested = {n: c for n, c in files.items() if not (n.startswith("testing") and "13_" in n)}
    dataset = load(published.write_folder(tmp_path, untested))
    assert tuple(dataset.splits) == ("01",)
    assert dataset.notes == (
        "4 training clips, 1 test clips and 9 test frames are here where ShanghaiTech Campus has 330, 107 "
        "and 42,883",
        "1 of 13 scenes can be trained and tested on, not 02, 03, 04, 05, 06, 07, 08, 09, 10, 11, 12, 13: a "
        "mean is over those that can",
    )
    monkeypatch.setattr(mstc, "TRAINING_CLIPS", 4)
    monkeypatch.setattr(mstc, "TEST_CLIPS", 1)
    monkeypatch.setattr(mstc, "TEST_FRAMES", 9)
    monkeypatch.setattr(mstc, "SCENES", ("01",))
    with pytest.raises(DataError, match="of no scene"):
        load(tmp_path)
    monkeypatch.setattr(mstc, "SCENES", ("01", "13"))
    assert load(tmp_path).notes == (
        "1 of 13 scenes can be trained and tested on, not 13: a mean is over those that can",
    )


MASKS = "testing/test_pixel_mask/01_0014.npy"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.pop(MASKS),
            "{} has frames of 01_0014 but no testing/test_pixel_mask/01_0014.npy: add it, or remove them",
        ),
        (
            lambda f: [f.pop(f"testing/frames/01_0014/{n:03d}.jpg") for n in range(9)],
            f"{{}} has {MASKS} but no frames testing/frames/01_0014: add them, or remove it",
        ),
        (
            lambda f: f.pop("testing/frames/01_0014/008.jpg"),
            f"{MASKS} in {{}} has 9 frames, its clip 8: get both again",
        ),
        (
            lambda f: f.pop("testing/frames/01_0014/004.jpg"),
            "{} has no frame 4 of clip 01_0014: unpack it again",
        ),
        (
            lambda f: f.update({"testing/frames/1_14/000.jpg": b""}),
            "{} has testing/frames/1_14/000.jpg, of no scene of ShanghaiTech Campus (01_… to 13_…): rename "
            "or remove it",
        ),
        (
            lambda f: f.update({"testing/frames/14_0001/000.jpg": b""}),
            "{} has testing/frames/14_0001/000.jpg, of no scene of ShanghaiTech Campus (01_… to 13_…): "
            "rename or remove it",
        ),
        (
            lambda f: f.update({"training/videos/01_001.avi": b""}),
            "{} has both training/videos/01_001.avi and frames of it in training/frames: remove one of them",
        ),
        (
            lambda f: f.update({"testing/frames/01_0014/003.jpg": b""}),
            "testing/frames/01_0014/003.jpg in {} is not a picture, or only the start: get it again",
        ),
        (
            lambda f: f.update({MASKS: published.npy(np.zeros((9, 9, 9), bool))}),
            f"{MASKS} in {{}} is 9 × 9, its frame testing/frames/01_0014/000.jpg 48 × 64 (height × width): "
            "get both again",
        ),
        (
            lambda f: f.update({MASKS: published.npy(np.zeros((9, 48, 64), np.float32))}),
            f"{MASKS} in {{}} is float32 (9, 48, 64) in C order: save booleans or integers (frames, height, "
            "width) in C order",
        ),
        (
            lambda f: f.update({MASKS: f[MASKS][:-100]}),
            f"{MASKS} in {{}} ends in frame 8 of 9: get it again",
        ),
        (
            lambda f: f.update({MASKS: b""}),
            f"{MASKS} in {{}} is no .npy file, or only the start: get it again (EOF: reading magic string, "
            "expected 8 bytes got 0)",
        ),
    ],
)
def test_something_wrong_with_a_file(
    tmp_path: Path, files: Files, own_home: Path, change: Callable[[Files], object], message: str
):
    change(files)
    folder = published.write_folder(tmp_path / "data", files)
    with pytest.raises(DataError) as caught:
        load(folder)
    assert str(caught.value) == message.format(folder)
    kept = own_home / "datasets" / "mstc"
    assert not kept.exists() or not list(kept.iterdir())


def test_a_video_cut_short(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    pytest.importorskip("cv2", reason="videos are read by OpenCV: the extra `video`")
    files = published.mstc("01", videos=True, frames=40)
    name = "training/videos/01_002.avi"
    whole = files[name]
    for content in (whole[: len(whole) // 2], b"what?", b""):
        folder = published.write_folder(tmp_path, files | {name: content})
        with pytest.raises(
            DataError, match=rf"^{name} in .* is cut short or damaged, \d+ of \d+ frames can be read: "
        ):
            load(folder)
    assert "Traceback" not in capfd.readouterr().err


def test_a_video_without_opencv(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    load(published.write_folder(tmp_path, files))  # which has none
    with pytest.raises(DataError) as caught:
        load(published.write_folder(tmp_path / "videos", files | {"training/videos/01_003.avi": b""}))
    assert str(caught.value).startswith(
        f"training/videos/01_003.avi in {tmp_path / 'videos'} is a video, and OpenCV, which reads them, is "
        "not installed: pip install 'jaxsode[video]' ("
    )


def test_masks_are_read_a_frame_at_a_time(tmp_path: Path):
    """ShanghaiTech's arrays hold up to a gigabyte."""
    frames, height, width = 200, 100, 200
    (tmp_path / "masks.npy").write_bytes(published.npy(np.ones((frames, height, width), np.uint8)))
    files = FolderFiles(tmp_path, "*")
    tracemalloc.start()
    count = sum(1 for _ in npy_frames(files, "masks.npy"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == frames
    assert peak < 10 * height * width


def test_the_published_tar_is_too_large_to_be_unpacked_unasked(tmp_path: Path):
    (tmp_path / "shanghaitech.tar.gz").touch()
    with pytest.raises(
        DataError, match=r"\.tar\.gz is not a zip: unpack it, and give the folder shanghaitech"
    ):
        load(tmp_path / "shanghaitech.tar.gz")


def test_missing_data_say_where_to_get_them(tmp_path: Path):
    for path, what in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no ShanghaiTech Campus")):
        with pytest.raises(DataError) as caught:
            load(path)
        assert str(caught.value) == (
            f"{path} {what}: get it from https://svip-lab.github.io/dataset/campus_dataset.html and give the "
            "folder shanghaitech that it is unpacked in (with training and testing), or a zip of it, as "
            "--data-dir"
        )


def test_real_surveillance(real_data: Path):
    pytest.importorskip("cv2", reason="videos are read by OpenCV: the extra `video`")
    calls: list[tuple[int, int]] = []
    path = real_data / "data" / "shanghaitech_layout_ucsd_ped2.zip"
    dataset = load(path, progress=lambda *both: calls.append(both))
    assert calls == [(done, 22) for done in range(1, 23)]
    split = dataset.split("01")
    assert len(split.train) == 510
    assert len(split.test) == 1020
    assert sum(dataset.examples[i].defective for i in split.test) == 790
    assert dataset.notes[0].startswith(
        "16 training clips, 6 test clips and 1,020 test frames are here where "
    )
