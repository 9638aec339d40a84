"""MVTec AD, in every form in which it is published or copied."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published
import pytest
from PIL import Image
from published import Files

from jaxsode import datasets
from jaxsode.datasets import Dataset, mvtec_ad
from jaxsode.errors import ArgumentError, DataError

COUNTS = {"carpet": (12, 2, 3), "screw": (12, 2, 3)}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the miniature is all that there is of MVTec AD."""
    monkeypatch.setattr(mvtec_ad, "CATEGORIES", COUNTS)


@pytest.fixture
def files() -> Files:
    return published.mvtec_ad("carpet", "screw")


def load(path: Path, **options) -> Dataset:
    return datasets.load("mvtec_ad", data_dir=path, **options)


def everything(dataset: Dataset) -> list[tuple]:
    decoded = []
    for i, example in enumerate(dataset.examples):
        mask = dataset.mask(i)
        assert mask is not None
        decoded.append((example, dataset.picture(i).tobytes(), mask.tobytes()))
    return decoded


def below(name: str, files: Files) -> Files:
    return {f"{name}/{file}": content for file, content in files.items()}


def per_category(write: Callable[[Path, Files], Path], suffix: str) -> Callable[[Path, Files], Path]:
    def written(folder: Path, files: Files) -> Path:
        for category in COUNTS:
            of_it = {name: content for name, content in files.items() if name.startswith(category)}
            write(folder / f"{category}{suffix}", of_it)
        return folder

    return written


FORMS: dict[str, Callable[[Path, Files], Path]] = {
    "folders": published.write_folder,
    "folders in the archive's": lambda p, f: published.write_folder(p / "mvtec_anomaly_detection", f).parent,
    "the whole archive": lambda p, f: published.write_tar(p / "mvtec_anomaly_detection.tar.xz", f),
    "the whole archive's folder": lambda p, f: (
        published.write_tar(p / "mvtec_anomaly_detection.tar.xz", below("mvtec_anomaly_detection", f)).parent
    ),
    "an archive a category": per_category(published.write_tar, ".tar.xz"),
    "a zip a category": per_category(published.write_zip, ".zip"),
    "a zip of all": lambda p, f: published.write_zip(p / "all.zip", below("some/where", f)),
}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same(tmp_path: Path, files: Files, form: str):
    plain = everything(load(published.write_folder(tmp_path / "plain", files)))
    (tmp_path / "given").mkdir()
    dataset = load(FORMS[form](tmp_path / "given", published.littered(files)))
    assert everything(dataset) == plain
    assert dataset.notes == ()
    assert tuple(dataset.splits) == ("carpet", "screw")


def test_what_a_dataset_says_of_itself(tmp_path: Path, files: Files):
    dataset = load(published.write_folder(tmp_path / "data", files))
    assert (dataset.name, dataset.size, dataset.channels) == ("mvtec_ad", (256, 256), 3)
    assert not dataset.paper_full_mask
    assert dataset.licence == "CC BY-NC-SA 4.0, MVTec Software GmbH: no commercial use"
    screw = [example for example in dataset.examples if example.group == "screw"]
    assert [example.name for example in screw[-6:]] == [
        "screw/train/good/011",
        "screw/test/good/000",
        "screw/test/good/001",
        "screw/test/scratch_head/000",
        "screw/test/scratch_head/001",
        "screw/test/thread_side/000",
    ]
    assert [(e.kind, e.part, e.defective) for e in screw[-4::3]] == [
        ("good", "test", False),
        ("thread_side", "test", True),
    ]


def test_grey_categories_have_three_equal_channels(tmp_path: Path, files: Files):
    dataset = load(published.write_folder(tmp_path / "data", files))
    carpet, screw = dataset.picture(0), dataset.picture(17)
    assert dataset.examples[17].name == "screw/train/good/000"
    assert carpet.shape == screw.shape == (256, 256, 3)
    assert np.array_equal(screw, np.repeat(screw[..., :1], 3, axis=-1))
    assert not np.array_equal(carpet, np.repeat(carpet[..., :1], 3, axis=-1))


def test_masks_of_8_and_of_1_bit(tmp_path: Path, files: Files):
    folder = published.write_folder(tmp_path / "data", files)
    with Image.open(folder / "screw/ground_truth/thread_side/000_mask.png") as image:
        assert image.mode == "1"
    dataset = load(folder)
    of_8, of_1 = (dataset.mask(len(dataset.examples) - i, size=(40, 40)) for i in (2, 1))
    for mask in (of_8, of_1):
        assert mask is not None
        assert np.array_equal(mask, published.spot(40, 40))


def test_every_tenth_training_picture_is_held_out(tmp_path: Path, files: Files):
    folder = published.write_folder(tmp_path / "data", files)
    split = load(folder).split("carpet")
    assert split.train == (1, 2, 3, 4, 5, 6, 7, 8, 9, 11)
    assert split.test == (12, 13, 14, 15, 16)
    assert load(folder, hold_out=0).split("carpet").train == tuple(range(12))
    assert load(folder, hold_out=4).split("carpet").train == (1, 2, 3, 5, 6, 7, 9, 10, 11)
    for wrong in (1, -1):
        with pytest.raises(ArgumentError, match=f"^hold_out is {wrong}: give 0 for none, or 2 and more"):
            load(folder, hold_out=wrong)


def test_a_single_category(tmp_path: Path, files: Files):
    screw = {name: content for name, content in files.items() if name.startswith("screw/")}
    folder = published.write_folder(tmp_path, screw)
    inside = {name.removeprefix("screw/"): content for name, content in screw.items()}
    archive = published.write_zip(tmp_path / "screw.zip", inside)
    as_it_is_called = published.write_zip(tmp_path / "mvtec_ad_screw.zip", screw)
    whole = everything(load(folder))
    for path in (folder / "screw", archive, as_it_is_called):
        dataset = load(path)
        assert everything(dataset) == whole
        assert tuple(dataset.splits) == ("screw",)


def test_what_is_missing_stands_in_the_notes(tmp_path: Path, files: Files):
    dataset = load(published.write_folder(tmp_path / "data", files))
    first, *counts = dataset.notes
    assert first.startswith("2 of MVTec AD's 15 categories are here, missing are grid, leather, tile, ")
    assert first.endswith(": a mean over those here is not the published one's")
    assert counts == [
        "carpet has 12 training pictures where MVTec AD has 280",
        "carpet has 2 good test pictures where MVTec AD has 28",
        "carpet has 3 defective test pictures where MVTec AD has 89",
        "screw has 12 training pictures where MVTec AD has 320",
        "screw has 2 good test pictures where MVTec AD has 41",
        "screw has 3 defective test pictures where MVTec AD has 119",
    ]


def test_the_published_counts_add_up():
    totals = [sum(column) for column in zip(*mvtec_ad.CATEGORIES.values(), strict=True)]
    assert totals == [3629, 467, 1258]
    assert (len(mvtec_ad.TEXTURES), len(mvtec_ad.OBJECTS)) == (5, 10)


def test_names_in_another_case_are_found(tmp_path: Path, files: Files):
    plain = everything(load(published.write_folder(tmp_path / "plain", files)))
    shouted = {name.upper(): content for name, content in files.items()}
    assert everything(load(published.write_folder(tmp_path / "SHOUTED", shouted))) == plain
    backslashes = {name.replace("/", "\\"): content for name, content in shouted.items()}
    assert everything(load(published.write_zip(tmp_path / "windows.zip", backslashes))) == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.update({"plate/train/good/000.png": f["screw/train/good/000.png"]}),
            "has a category 'plate', which MVTec AD hasn't (carpet, grid, leather, tile, wood, bottle, "
            "cable, capsule, hazelnut, metal_nut, pill, screw, toothbrush, transistor, zipper): rename or "
            "remove it; pictures of your own in this layout are --dataset folder",
        ),
        (
            lambda f: f.update({"SCREW/train/good/000.png": f["screw/train/good/000.png"]}),
            "has both SCREW/train/good/000.png and screw/train/good/000.png: remove one of them",
        ),
        (
            lambda f: f.pop("screw/ground_truth/thread_side/000_mask.png"),
            "has screw/test/thread_side/000.png but no mask screw/ground_truth/thread_side/000_mask.png: add "
            "it, or remove the picture",
        ),
        (
            lambda f: f.pop("screw/test/thread_side/000.png"),
            "has screw/ground_truth/thread_side/000_mask.png but no picture screw/test/thread_side/000: add "
            "it, or remove the mask",
        ),
        (
            lambda f: f.update({"screw/train/bent/000.png": f["screw/train/good/000.png"]}),
            "has screw/train/bent/000.png, but MVTec AD trains on good pictures alone: remove it",
        ),
        (
            lambda f: f.update(
                {"screw/ground_truth/good/000_mask.png": f["screw/ground_truth/thread_side/000_mask.png"]}
            ),
            "has screw/ground_truth/good/000_mask.png, a mask of a good picture: remove it",
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


MASK = "screw/ground_truth/scratch_head/000_mask.png"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            MASK,
            published.encode(published.spot(20, 40)),
            " is 20 × 40, its picture 40 × 40 (height × width): ",
        ),
        (
            MASK,
            published.encode(published.spot(40, 40) // 255),
            " has no value above 1: mark what is defective",
        ),
        (
            MASK,
            published.encode(np.zeros((40, 40), np.uint8)),
            " marks nothing as defective: get it again, or",
        ),
        (MASK, b"what?", " is not a picture, or only the start: get the file again"),
        ("screw/train/good/000.png", b"what?", " is not a picture, or only the start: get the file again"),
    ],
)
def test_something_wrong_with_a_file(tmp_path: Path, files: Files, name: str, content: bytes, message: str):
    """Told when it is read: nothing is copied, or read twice, only to look."""
    dataset = load(published.write_folder(tmp_path / "data", files | {name: content}))
    with pytest.raises(DataError) as caught:
        everything(dataset)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_data_say_where_to_get_them(tmp_path: Path):
    for path, what in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no MVTec AD")):
        with pytest.raises(DataError) as caught:
            load(path)
        assert str(caught.value) == (
            f"{path} {what}: get mvtec_anomaly_detection.tar.xz or a category's archive from "
            "https://www.mvtec.com/company/research/datasets/mvtec-ad (a form, then the licence) and give "
            "its path, or the folder that it lies or is unpacked in, as --data-dir"
        )


def test_an_archive_is_unpacked_once_and_a_folder_never(tmp_path: Path, files: Files, own_home: Path):
    load(published.write_folder(tmp_path / "data", files))
    load(published.write_zip(tmp_path / "data.zip", files))
    assert not (own_home / "datasets").exists()
    archive = published.write_tar(tmp_path / "mvtec_anomaly_detection.tar.xz", files)
    calls: list[tuple[int, int]] = []
    load(archive, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (0, 1)  # of less than a megabyte
    (unpacked,) = (own_home / "datasets" / "mvtec_ad").iterdir()
    calls.clear()
    load(archive, progress=lambda done, total: calls.append((done, total)))
    assert calls == []
    published.write_tar(archive, published.mvtec_ad("wood"))
    assert tuple(load(archive).splits) == ("wood",)
    assert len(list(unpacked.parent.iterdir())) == 2


def damaged(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "changed":
        path.write_bytes(whole[: len(whole) // 2] + bytes(100) + whole[len(whole) // 2 + 100 :])
    elif how == "something else":
        path.write_bytes(b"<html>" * 1000)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        with tarfile.open(path, "w:xz") as archive:
            info = tarfile.TarInfo("../outside.png" if how == "outside" else "screw/train/good/000.png")
            if how == "link":
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info, io.BytesIO())


@pytest.mark.parametrize("how", ["cut", "changed", "something else", "empty", "outside", "link"])
def test_an_archive_that_cannot_be_unpacked(tmp_path: Path, files: Files, own_home: Path, how: str):
    archive = published.write_tar(tmp_path / "screw.tar.xz", files)
    damaged(archive, how)
    with pytest.raises(DataError) as caught:
        load(archive)
    assert str(caught.value).startswith(
        f"{archive} is cut short or damaged: get it again from https://www.mvtec"
    )
    assert "\n" not in str(caught.value)
    assert list((own_home / "datasets" / "mvtec_ad").iterdir()) == []
    assert not (own_home / "datasets" / "outside.png").exists()


def test_a_full_disk(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    archive = published.write_tar(tmp_path / "screw.tar.xz", files)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(
        DataError, match=r"^can't write prepared data into .*/mvtec_ad: make room there, or set "
    ):
        load(archive)


def test_the_real_screw(real_data: Path):
    dataset = load(real_data / "data" / "mvtec_ad_screw.zip")
    split = dataset.split("screw")
    assert (len(split.train), len(split.test)) == (288, 160)
    assert [note for note in dataset.notes if note.startswith("screw")] == []
    defective = [i for i in split.test if dataset.examples[i].defective]
    assert len(defective) == 119
    for i in defective[::17]:
        mask = dataset.mask(i)
        assert mask is not None
        assert mask.max() == 255
