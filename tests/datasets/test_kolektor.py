import csv
import errno
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxsode import datasets
from jaxsode.datasets import Dataset, Split, batches, kolektor
from jaxsode.datasets.kolektor import FOLDS
from jaxsode.errors import DataError

Files = dict[str, bytes]
Maker = Callable[[Files], Path]


PUBLISHED = kolektor.COMPLETE


@pytest.fixture(autouse=True)
def any_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests have a few pictures, and for most of them that is all right."""
    monkeypatch.setattr(kolektor, "COMPLETE", {})


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch, any_part: None) -> None:
    monkeypatch.setattr(kolektor, "COMPLETE", PUBLISHED)


def load(path: Path, **options) -> Dataset:
    return datasets.load("kolektor", data_dir=path, **options)


def mask(dataset: Dataset, index: int) -> np.ndarray:
    found = dataset.mask(index)
    assert found is not None
    return found


def everything(dataset: Dataset) -> list[tuple]:
    count = range(len(dataset.examples))
    return [(dataset.examples[i], dataset.picture(i).tobytes(), mask(dataset, i).tobytes()) for i in count]


def listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*"))


def prepared_folders(home: Path) -> list[Path]:
    return sorted((home / "datasets" / "kolektor").iterdir())


def test_importing_the_package_does_not_import_tfds():
    code = "import sys, jaxsode.datasets; sys.exit('tensorflow_datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_folder_and_zip_are_the_same(
    as_folder: Maker, as_zip: Maker, files: Files, tmp_path: Path, own_home: Path
):
    folder = as_folder({f"KolektorSDD/{name}": content for name, content in files.items()})
    before = listing(tmp_path)
    direct = load(folder / "KolektorSDD")
    assert listing(tmp_path) == before  # nothing is written beside the user's data
    archive = as_zip(files)
    others = [folder, archive, archive.parent]
    assert all(everything(load(path)) == everything(direct) for path in others)
    assert len(prepared_folders(own_home)) == 2  # one for the folder, one for the zip, wherever they lie


def test_names_in_another_case_are_found(as_folder: Maker, as_zip: Maker, files: Files):
    plain = everything(load(as_zip(files)))
    shouted = {name.upper(): content for name, content in files.items()}
    assert everything(load(as_folder(shouted))) == plain
    assert everything(load(as_zip({name.replace("/", "\\"): c for name, c in shouted.items()}))) == plain


def test_the_default_place(as_zip: Maker, files: Files, own_home: Path):
    (own_home / "datasets").mkdir()
    as_zip(files).rename(own_home / "datasets" / "KolektorSDD.zip")
    assert len(datasets.load("kolektor").examples) == 9


def test_what_a_dataset_says_of_itself(as_folder: Maker, files: Files):
    dataset = load(as_folder(files))
    assert dataset.name == "kolektor"
    assert dataset.size == (704, 256)
    assert dataset.channels == 1
    assert tuple(dataset.splits) == ("1", "2", "3")
    assert dataset.paper_full_mask
    assert [example.name for example in dataset.examples] == [
        f"{unit}/Part{part}" for unit in ("kos01", "kos02", "kos05") for part in range(3)
    ]
    assert [example.defective for example in dataset.examples] == [False, False, True] * 3
    assert [example.kind for example in dataset.examples] == ["good", "good", "crack"] * 3
    assert [example.group for example in dataset.examples] == [*"222", *"111", *"333"]
    assert {example.part for example in dataset.examples} == {""}
    assert dataset.picture(4).shape == (704, 256, 1)
    assert mask(dataset, 5).shape == (704, 256)
    assert mask(dataset, 5).max() == 255
    assert dataset.picture(4, size=(8, 9)).shape == (8, 9, 1)


def test_folds(as_folder: Maker, files: Files):
    dataset = load(as_folder(files))
    assert dataset.split("1") == Split("1", train=(0, 1, 6, 7), test=(3, 4, 5))
    assert dataset.split("2") == Split("2", train=(3, 4, 6, 7), test=(0, 1, 2))
    assert dataset.split("3") == Split("3", train=(0, 1, 3, 4), test=(6, 7, 8))


def test_order_is_by_number(as_folder: Maker, files: Files):
    pair = {".jpg": files["kos01/Part0.jpg"], "_label.bmp": files["kos01/Part0_label.bmp"]}
    names = ["kos02/Part2", "kos02/Part10", "kos05/Part1", "kos10/Part0"]
    folder = as_folder({name + end: content for name in reversed(names) for end, content in pair.items()})
    assert [example.name for example in load(folder).examples] == names


def test_files_are_kept_byte_for_byte(as_zip: Maker, files: Files):
    dataset = load(as_zip(files))
    for index, example in enumerate(dataset.examples):
        assert dataset.records[index]["picture"] == files[f"{example.name}.jpg"]
        assert dataset.records[index]["mask"] == files[f"{example.name}_label.bmp"]


def test_other_files_are_ignored(as_folder: Maker, as_zip: Maker, files: Files):
    clean = everything(load(as_folder(files)))
    files |= {
        "Thumbs.db": b"",
        "kos01/.DS_Store": b"",
        "kos01/._Part0.jpg": b"",
        "kos01/notes.txt": b"",
        "drafts/Part0.jpg": b"",
    }
    assert everything(load(as_zip(files))) == clean
    assert everything(load(as_folder(files))) == clean


@pytest.mark.parametrize("kind", ["16 bits", "colour"])
def test_16_bit_and_colour_pictures_become_grey(as_folder: Maker, files: Files, kind: str):
    folder = as_folder(files)
    expected = load(folder).picture(0)
    with Image.open(folder / "kos01" / "Part0.jpg") as image:
        grey = np.asarray(image)
    pixels = grey.astype(np.uint16) * 257 if kind == "16 bits" else np.repeat(grey[..., None], 3, axis=-1)
    Image.fromarray(pixels).save(folder / "kos01" / "Part0.png")
    (folder / "kos01" / "Part0.jpg").unlink()
    assert np.array_equal(load(folder).picture(0), expected)


@pytest.mark.parametrize("changed", ["date", "length", "neither"])
def test_a_changed_source_is_not_served_stale(as_folder: Maker, files: Files, changed: str):
    folder = as_folder(files)
    before = load(folder).picture(0)
    path = folder / "kos01" / "Part0.jpg"
    stamp, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-20] + bytes(10) + content[-10:] + b"longer" * (changed == "length"))
    if changed != "date":
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert not np.array_equal(load(folder).picture(0), before)


def test_a_changed_zip_is_not_served_stale(as_zip: Maker, files: Files):
    before = load(as_zip(files)).picture(0)
    content = files["kos01/Part0.jpg"]
    files["kos01/Part0.jpg"] = content[:-20] + bytes(10) + content[-10:]
    assert not np.array_equal(load(as_zip(files)).picture(0), before)


def test_other_folds_are_prepared_anew(as_folder: Maker, files: Files, monkeypatch: pytest.MonkeyPatch):
    folder = as_folder(files)
    assert load(folder).examples[0].group == "2"
    monkeypatch.setattr(kolektor, "FOLDS", {"mine": (1, 2, 5)})
    monkeypatch.setattr(kolektor, "_FOLD_OF_UNIT", dict.fromkeys(("kos01", "kos02", "kos05"), "mine"))
    assert load(folder).examples[0].group == "mine"


def test_it_is_prepared_once_and_tells_how_far(as_folder: Maker, files: Files):
    calls: list[tuple[int, int]] = []
    folder = as_folder(files)
    load(folder, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 9) for done in range(1, 10)]
    load(folder, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) == 9


opened: list[str] = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)


def test_what_is_prepared_is_not_read_again(as_folder: Maker, files: Files):
    """Of the folder: its pictures may be many gigabytes."""
    folder = as_folder(files)
    opened.clear()
    load(folder)
    assert any(name.startswith(str(folder)) for name in opened)
    opened.clear()
    load(folder)
    assert opened
    assert not [name for name in opened if name.startswith(str(folder))]


def test_it_says_nothing_and_calls_nobody(
    as_folder: Maker, files: Files, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def connect(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", connect)
    load(as_folder(files)).picture(0)
    assert capfd.readouterr() == ("", "")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def bmp(folder: Path, shape: tuple[int, int], value: int) -> bytes:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.full(shape, value, np.uint8)).save(folder / "made.bmp")
    return (folder / "made.bmp").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.update({"kos01/Part0.jpg": cut(f["kos01/Part0.jpg"])}),
            r"kos01/Part0\.jpg in .* cut short",
        ),
        (lambda f: f.update({"kos05/Part1.jpg": b"what?"}), r"kos05/Part1\.jpg in .* not a picture"),
        (
            lambda f: f.update({"kos01/Part1_label.bmp": cut(f["kos01/Part1_label.bmp"])}),
            r"kos01/Part1_label\.bmp in .* cut short",
        ),
        (
            lambda f: f.pop("kos02/Part1_label.bmp"),
            r"has kos02/Part1\.jpg but no mask kos02/Part1_label\.bmp: add it",
        ),
        (
            lambda f: f.pop("kos02/Part1.jpg"),
            r"has kos02/Part1_label\.bmp but no picture kos02/Part1\.jpg: add it",
        ),
        (
            lambda f: f.update({"kos51/Part0.jpg": f["kos01/Part0.jpg"]}),
            r"has a unit kos51, which no fold of KolektorSDD \(kos01 … kos50\) has: remove it",
        ),
        (
            lambda f: f.update({"kos01/Part0.png": f["kos01/Part0.jpg"]}),
            r"has both kos01/Part0\.jpg and kos01/Part0\.png: remove one of them",
        ),
    ],
)
def test_something_wrong_with_a_file(
    as_folder: Maker, files: Files, own_home: Path, change: Callable[[Files], object], message: str
):
    change(files)
    with pytest.raises(DataError, match=message) as caught:
        load(as_folder(files))
    assert "\n" not in str(caught.value)
    kept = own_home / "datasets" / "kolektor"
    assert not kept.exists() or not list(kept.iterdir())


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        ((25, 60), 0, r"kos01/Part0_label\.bmp in .* is 25 × 60, its picture 6. × 25"),
        (None, 1, r"kos01/Part0_label\.bmp in .* has no value above 1: mark what is defective by 255"),
    ],
)
def test_a_mask_that_does_not_fit(
    as_folder: Maker, files: Files, tmp_path: Path, shape: tuple[int, int] | None, value: int, message: str
):
    with Image.open(as_folder(files) / "kos01" / "Part0.jpg") as picture:
        own_shape = (picture.height, picture.width)
    files["kos01/Part0_label.bmp"] = bmp(tmp_path / "made", shape or own_shape, value)
    with pytest.raises(DataError, match=message):
        load(as_folder(files))


def test_missing_data_say_where_to_get_them(tmp_path: Path, own_home: Path):
    remedy = "https://www.vicos.si/resources/kolektorsdd/ and give its path, or the folder"
    for path, what in ((tmp_path / "nowhere", "does not exist"), (tmp_path, "holds no KolektorSDD")):
        with pytest.raises(DataError) as caught:
            load(path)
        assert str(caught.value).startswith(f"{path} {what}: get KolektorSDD.zip from {remedy}")
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError) as caught:
        datasets.load("kolektor")
    assert str(caught.value).startswith(f"{own_home / 'datasets'} does not exist: ")


def test_a_zip_cut_short(as_zip: Maker, files: Files):
    archive = as_zip(files)
    whole = archive.read_bytes()
    load(archive)  # even where it has been prepared while it was whole
    for length in (len(whole) * 2 // 3, 10, 0):
        archive.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"KolektorSDD\.zip is cut short or not a zip file: get .* again"):
            load(archive)


def test_a_zip_damaged_inside(as_zip: Maker, files: Files):
    archive = as_zip(files)
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        start = opened.getinfo("KolektorSDD/kos02/Part1.jpg").header_offset
    content[start + 200 : start + 210] = bytes(10)
    archive.write_bytes(content)
    with pytest.raises(
        DataError, match=r"^KolektorSDD/kos02/Part1\.jpg in .*KolektorSDD\.zip is damaged: get"
    ):
        load(archive)


def patch_headers(archive: Path, field: int, value: int) -> None:
    """Write `value` into a field of 16 bits of every file's header, here and in the list at the end."""
    content = bytearray(archive.read_bytes())
    for signature, start in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        position = content.find(signature)
        while position >= 0:
            content[position + start + field : position + start + field + 2] = value.to_bytes(2, "little")
            position = content.find(signature, position + 4)
    archive.write_bytes(content)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 1, r"KolektorSDD\.zip asks for a password: unpack it yourself, and give the folder$"),
        (
            2,
            97,
            r"KolektorSDD\.zip is compressed by a method that can't be read here: unpack it yourself, and",
        ),
    ],
)
def test_a_zip_that_cannot_be_read(as_zip: Maker, files: Files, field: int, value: int, message: str):
    """Not a damaged one: getting it again would not help."""
    archive = as_zip(files)
    patch_headers(archive, field, value)
    with pytest.raises(DataError, match=message) as caught:
        load(archive)
    assert "\n" not in str(caught.value)


def test_a_zip_of_something_else(as_zip: Maker):
    with pytest.raises(DataError, match=r"KolektorSDD\.zip holds no pictures kosNN/PartM\.jpg: get the data"):
        load(as_zip({"readme.txt": b"hello"}))


@pytest.mark.parametrize("forbidden", ["kos02", "."])
def test_a_folder_that_may_not_be_listed(
    as_folder: Maker, files: Files, monkeypatch: pytest.MonkeyPatch, forbidden: str
):
    """Root may list anything: so it is refused here, as the system would refuse another user."""
    folder = as_folder(files)
    scandir = os.scandir

    def refusing(path="."):
        if Path(path) == folder / forbidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError) as caught:
        load(folder)
    path = folder / forbidden
    assert str(caught.value) == f"can't read {path}: mend or replace it (Permission denied)"


def test_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refusing(path, **_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refusing)
        with pytest.raises(
            DataError, match=r"^can't read .*/inside: mend or replace it \(Permission denied\)$"
        ):
            load(tmp_path / "inside")


def test_a_fold_without_pictures(as_folder: Maker, files: Files):
    dataset = load(as_folder({n: c for n, c in files.items() if not n.startswith("kos05")}))
    assert len(dataset.split("1").test) == 3
    with pytest.raises(DataError, match=r"^kolektor: 3 has no pictures to test on in .*published: "):
        dataset.split("3")


def test_a_fold_without_good_pictures_to_train_on(as_folder: Maker, files: Files):
    defective = {
        n: c for n, c in files.items() if n.startswith("kos02") or n.split("/")[1].startswith("Part2")
    }
    with pytest.raises(DataError, match=r"^kolektor: 1 has no good pictures to train on in "):
        load(as_folder(defective)).split("1")


@pytest.mark.usefixtures("whole")
@pytest.mark.parametrize(
    ("units", "left_out", "found", "missing"),
    [
        (range(1, 10), (), 72, "kos10, kos11, kos12, kos13, kos14 and 36 more"),
        (range(1, 51), ("kos07/Part0", "kos21/Part6"), 397, r"kos07 \(7 of 8\), kos21 \(6 of 7\)"),
        (range(2, 51), (), 391, "kos01"),
    ],
)
def test_not_all_of_it(
    as_zip: Maker, files: Files, units: range, left_out: tuple[str, ...], found: int, missing: str
):
    """A table of what is there would look like any other."""
    present = {
        f"kos{unit:02d}/Part{part}{end}": files[f"kos01/Part0{end}"]
        for unit in units
        for part in range(7 if unit == 21 else 8)
        for end in (".jpg", "_label.bmp")
        if f"kos{unit:02d}/Part{part}" not in left_out
    }
    message = rf"holds {found} of KolektorSDD's 399 pictures, missing are those of {missing}: get "
    with pytest.raises(DataError, match=message) as caught:
        load(as_zip(present))
    assert "\n" not in str(caught.value)


def test_every_unit_is_in_one_fold():
    assert sorted(unit for units in FOLDS.values() for unit in units) == list(range(1, 51))


@pytest.fixture
def real(real_data: Path, whole: None) -> Dataset:
    return load(real_data / "data" / "KolektorSDD.zip")


def test_the_published_data(real: Dataset, real_data: Path):
    with (real_data / "data" / "kolektor_folds.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [(e.name, e.group, e.defective) for e in real.examples] == [
        (f"{row['unit']}/{row['part']}", row["fold"], row["defective"] == "1") for row in rows
    ]
    assert len(real.examples) == 399
    assert [len(split.train) for split in real.splits.values()] == [230, 229, 235]
    assert [len(split.test) for split in real.splits.values()] == [135, 136, 128]
    reference = np.load(real_data / "reference" / "fold1_k100.npz")
    names = [example.name for example in real.examples]
    assert np.array_equal(
        real.picture(names.index(str(reference["pictures"][0])))[..., 0], reference["resized"][0]
    )
    defective = [i for i, example in enumerate(real.examples) if example.defective]
    for batch in batches(real, defective, batch_size=16, with_masks=True):
        assert batch.masks is not None
        assert (batch.masks.max(axis=(1, 2)) == 255).all()
