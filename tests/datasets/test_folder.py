"""A folder of one's own: which layout, what is fitted and tested, what is said of it."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from own_pictures import draw, draw_mask, good_and_bad

from jaxsode import datasets
from jaxsode.datasets import batches, folder
from jaxsode.datasets.sizes import default, of_another_aspect
from jaxsode.errors import ArgumentError, DataError


def load(data_dir: Path, **options) -> datasets.Dataset:
    return folder.load(data_dir=data_dir, **options)


def parts(dataset: datasets.Dataset) -> tuple[list[str], list[str], list[str]]:
    split = dataset.split("folder")
    return tuple(
        [dataset.examples[i].name for i in which] for which in (split.train, split.test, split.left_out)
    )


def kinds(dataset: datasets.Dataset) -> dict[str, str]:
    return {example.name: example.kind for example in dataset.examples}


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    for seed in range(3):
        draw(tmp_path / "train" / "good" / f"{seed:03d}.png", seed=seed)
    draw(tmp_path / "test" / "good" / "000.png", seed=10)
    draw(tmp_path / "test" / "crack" / "000.png", seed=11)
    draw(tmp_path / "test" / "crack" / "001.png", seed=12)
    draw_mask(tmp_path / "ground_truth" / "crack" / "000_mask.png")
    return tmp_path


def test_mvtecs_layout(mvtec: Path):
    dataset = load(mvtec)
    assert parts(dataset) == (
        ["train/good/000", "train/good/001", "train/good/002"],
        ["test/crack/000", "test/crack/001", "test/good/000"],
        [],
    )
    assert [example.kind for example in dataset.examples] == ["good"] * 3 + ["crack"] * 2 + ["good"]
    assert [dataset.mask(i) is not None for i in (3, 4, 5)] == [True, False, True]
    mask = dataset.mask(3, size=(32, 24))
    assert mask is not None
    assert np.array_equal(mask, draw_mask(mvtec / "x.png"))
    (mvtec / "x.png").unlink()
    assert dataset.notes == (
        f"{mvtec}: MVTec's (train/good, test/KIND, ground_truth/KIND)",
        "good pictures fitted: 3; tested: 3, 1 good, 2 crack (1 with masks)",
        "1 of 2 defective pictures have no mask: test/crack/001",
        "sizes: 6 of 32 × 24 (height × width); resized to 336 × 256",
        "6 enlarged more than four times, 32 × 24 for one: train/good/000, train/good/001, train/good/002, "
        "test/crack/000, test/crack/001 and 1 more",
        "pixels: 6 RGB of 8 bits",
    )


def test_good_and_bad_with_masks(tmp_path: Path):
    dataset = load(good_and_bad(tmp_path))
    good = ["good/0", "good/1", "good/2", "good/3"]
    assert parts(dataset) == (good, ["bad/scratch/0", "bad/scratch/1"], good)
    assert kinds(dataset)["bad/scratch/0"] == "scratch"
    assert dataset.notes[0] == f"{tmp_path}: good/ and bad/ with masks/"
    assert dataset.notes[2].startswith(
        "no good pictures are set apart for testing: the maps of the fitted ones"
    )


def test_masks_lie_as_the_pictures_do(tmp_path: Path):
    """masks/bad/scratch/0.png or masks/scratch/0_mask.bmp; folders in either case."""
    good_and_bad(tmp_path, masks=False)
    draw(tmp_path / "bad" / "2.png")
    draw_mask(tmp_path / "masks" / "bad" / "Scratch" / "0.png")
    draw_mask(tmp_path / "masks" / "scratch" / "1_mask.bmp")
    draw_mask(tmp_path / "masks" / "2.png")
    (tmp_path / "masks").rename(tmp_path / "Masks")
    (tmp_path / "good").rename(tmp_path / "GOOD")
    dataset = load(tmp_path)
    assert all(dataset.mask(i) is not None for i in range(len(dataset.examples)))
    assert kinds(dataset)["bad/2"] == "bad"
    assert dataset.notes[1] == (
        "good pictures fitted: 4; tested: 3, 1 bad (1 with masks), 2 scratch (2 with masks)"
    )


def test_good_and_bad_without_masks(tmp_path: Path):
    dataset = load(good_and_bad(tmp_path, masks=False))
    assert dataset.notes[0] == f"{tmp_path}: good/ and bad/"
    assert dataset.notes[3] == "no masks: the metrics of pixels can't be computed, only those of pictures"
    batch = next(batches(dataset, dataset.split("folder").test, batch_size=2, with_masks=True))
    assert batch.masked is not None
    assert not batch.masked.any()


def test_good_alone_and_what_lies_beside_it(tmp_path: Path):
    good_and_bad(tmp_path, bad=0)
    draw(tmp_path / "ng" / "0.png")
    dataset = load(tmp_path)
    good = ["good/0", "good/1", "good/2", "good/3"]
    assert parts(dataset) == (good, [], good)
    assert dataset.notes[0] == f"{tmp_path}: good/ alone"
    assert dataset.notes[3] == "no defective pictures: no metric can be computed"
    assert dataset.notes[-1] == "passed over, outside good/, bad/ and masks/: 1: ng/0.png"


def test_plain_pictures_are_all_good_however_deep(tmp_path: Path):
    for name in ("b.png", "a/2.bmp", "a/1.JPG", "c/d/0.tif"):
        draw(tmp_path / name)
    dataset = load(tmp_path)
    names = ["a/1", "a/2", "b", "c/d/0"]
    assert parts(dataset) == (names, [], names)
    assert dataset.notes[0] == f"{tmp_path}: plain pictures, all taken to be good"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bad/0.png", "has a folder bad, .* that holds good/ or train/good/, or add a CSV"),
        ("test/0.png", "has a folder test,"),
        ("line1/good/0.png", "has a folder line1/good, .* train/good/, line1 perhaps, or add"),
        ("screw/train/good/0.png", "has a folder screw/train/good, .* screw perhaps"),
        ("line1/bad/0.png", "has a folder line1/bad,"),
    ],
)
def test_no_layout_but_a_name_that_tells_is_refused(tmp_path: Path, name: str, said: str):
    """Defective pictures are never fitted as good because nobody said where they are."""
    draw(tmp_path / name)
    draw(tmp_path / "0.png")
    with pytest.raises(DataError, match=said):
        load(tmp_path)


def test_masks_that_may_be_of_several(tmp_path: Path):
    good_and_bad(tmp_path)
    draw_mask(tmp_path / "masks" / "scratch" / "0_mask.png")
    with pytest.raises(
        DataError, match=r"has masks masks/scratch/0.png and masks/scratch/0_mask.png of one name"
    ):
        load(tmp_path)
    (tmp_path / "masks" / "scratch" / "0_mask.png").unlink()
    draw(tmp_path / "bad" / "scratch" / "0.jpg")
    with pytest.raises(
        DataError,
        match=r"has bad/scratch/0.jpg and bad/scratch/0.png, .*masks/scratch/0.png: rename one of them",
    ):
        load(tmp_path)


def test_masks_of_no_picture_are_named(tmp_path: Path):
    good_and_bad(tmp_path)
    draw_mask(tmp_path / "masks" / "dent" / "7.png")
    assert load(tmp_path).notes[-1] == "passed over, a mask of no picture: 1: masks/dent/7.png"


@pytest.mark.parametrize(("fraction", "held"), [(0.5, [0, 2]), (0.25, [0]), (0.01, [0]), (0.75, [0, 1, 2])])
def test_hold_out(tmp_path: Path, fraction: float, held: list[int]):
    dataset = load(good_and_bad(tmp_path), hold_out=fraction)
    train, test, left_out = parts(dataset)
    assert left_out == []
    assert [name for name in test if name.startswith("good")] == [f"good/{i}" for i in held]
    assert sorted(train + test) == sorted(example.name for example in dataset.examples)


def test_hold_out_where_it_makes_no_sense(tmp_path: Path, mvtec: Path):
    with pytest.raises(ArgumentError, match="sets good pictures apart for testing already: leave --hold-out"):
        load(mvtec, hold_out=0.5)
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match=r"^hold_out is .*: it must be above 0 and below 1$"):
            load(mvtec, hold_out=fraction)
    draw(tmp_path / "one" / "good" / "0.png")
    with pytest.raises(DataError, match="has no good pictures to fit on: add some, or hold out fewer"):
        load(tmp_path / "one", hold_out=0.5)


def test_one_good_picture_alone_cannot_be_left_out(tmp_path: Path):
    dataset = load(good_and_bad(tmp_path, good=1))
    assert parts(dataset)[2] == []
    assert dataset.notes[2].startswith(
        "no good pictures to test on, and one alone can't be left out: only the"
    )


def table(
    path: Path, rows: list[tuple[str, ...]], header=("path", "split", "label", "mask"), **options
) -> Path:
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        csv.writer(file, **options).writerows([header, *rows])
    return path


@pytest.fixture
def listed(tmp_path: Path) -> tuple[Path, list[tuple[str, ...]]]:
    for seed, name in enumerate(("p/0.png", "p/1.png", "p/2.png", "p/3", "bad/unlisted.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        draw(tmp_path / "x.png", seed=seed)
        (tmp_path / "x.png").rename(tmp_path / name)
    draw_mask(tmp_path / "m.png")
    rows = [
        ("p/2.png", "train", "good", ""),
        ("p/0.png", "train", "Good", ""),
        ("./p/1.png", "test", "crack", "m.png"),
        (r"p\3", "TEST", "good", ""),
    ]
    return tmp_path, rows


@pytest.mark.parametrize("options", [{}, {"delimiter": ";", "encoding": "utf-8-sig"}, {"delimiter": "\t"}])
def test_a_csv_comes_first(listed, options: dict):
    folder, rows = listed
    table(folder / "split.csv", rows, **options)
    (folder / "prices.csv").write_text("item,price\nscrew,1\n")
    (folder / "preise.csv").write_bytes(b"st\xfcck,preis\n1,2\n")
    (folder / "log.csv").write_text("x" * 200_000 + ",y\n")
    dataset = load(folder)
    assert parts(dataset) == (["p/2", "p/0"], ["p/1", "p/3"], [])
    assert kinds(dataset)["p/1"] == "crack"
    assert dataset.notes[0] == f"{folder}: as split.csv says"
    assert dataset.notes[-2:] == (
        "passed over, not in the CSV: 1: bad/unlisted.png",
        "passed over, without a picture's suffix: 3: log.csv, preise.csv, prices.csv",
    )
    assert parts(load(folder / "split.csv")) == parts(dataset)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("p/9.png", "train", "good", ""), r"line 6 of s.csv in .* names p/9.png, which is not there"),
        (
            ("../x.png", "train", "good", ""),
            r"line 6 .* names ../x.png, which is not there: give its path from",
        ),
        (("p/0.png", "train", "good", ""), r"line 6 .* names p/0.png a second time: leave one"),
        (("bad/unlisted.png", "val", "good", ""), r"has the split 'val': write train or test"),
        (("bad/unlisted.png", "test", "", ""), r"has no label: write good, or the kind of defect"),
        (("bad/unlisted.png", "train", "crack", ""), r"trains on a picture of crack: train on good ones"),
        (("bad/unlisted.png", "test", "crack", "n.png"), r"names n.png, which is not there"),
        (("bad/unlisted.png", "test", "a", "m.png", "b"), r"has 5 cells under 4 columns: quote its commas"),
    ],
)
def test_lines_that_cannot_be(listed, row: tuple[str, ...], said: str):
    folder, rows = listed
    table(folder / "s.csv", [*rows, row])
    with pytest.raises(DataError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_the_ends_of_a_tables_lines(listed):
    folder, rows = listed
    for end in ("\n", "\r\n", "\r"):
        table(folder / "s.csv", rows, lineterminator=end)
        assert parts(load(folder)) == (["p/2", "p/0"], ["p/1", "p/3"], [])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            'p/1.png,test,"crack,m.png\np/3,test,good,',
            r"^line 3 of s.csv in .* can't be read: mend its quotes",
        ),
        (
            'p/1.png,test,"crack,m.png\np/3,test,a"b,',
            r"^line 3 of s.csv in .* can't be read: mend its quotes",
        ),
        ('p/1.png,test,"crack\n",m.png', r"^line 3 of s.csv in .* has a quote that goes on in the next"),
    ],
)
def test_a_quote_swallows_no_line(listed, lines: str, said: str):
    folder, _ = listed
    (folder / "s.csv").write_text(f"path,split,label,mask\np/2.png,train,good,\n{lines}\n")
    with pytest.raises(DataError, match=said) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_tables_that_are_none(listed):
    folder, rows = listed
    table(folder / "s.csv", [row[:2] for row in rows], header=("path", "label"))
    with pytest.raises(
        DataError, match=r"s.csv in .* has the columns path, label and no split: give it path,split"
    ):
        load(folder)
    table(
        folder / "s.csv", [(*row, "good") for row in rows], header=("path", "split", "label", "mask", "label")
    )
    with pytest.raises(DataError, match=r"s.csv in .* has two columns label: leave one of them"):
        load(folder)
    table(folder / "s.csv", [])
    with pytest.raises(DataError, match=r"lists no pictures: add a line for each"):
        load(folder)
    (folder / "s.csv").write_bytes(b"path,split,label,mask\n\xe4.png,train,good,\n")
    with pytest.raises(DataError, match=r"^s.csv is not UTF-8: save it as CSV UTF-8$"):
        load(folder)
    for name in ("s.csv", "t.csv"):
        table(folder / name, rows)
    with pytest.raises(
        DataError, match=r"has several tables of pictures, s.csv, t.csv: name the one that counts"
    ):
        load(folder)
    assert load(folder / "t.csv").notes[0].endswith("t.csv: as t.csv says")


def test_a_zip(mvtec: Path, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("zip") / "p.zip"
    with zipfile.ZipFile(path, "w") as file:
        for picture in sorted(mvtec.rglob("*.png")):
            file.write(picture, f"part/{picture.relative_to(mvtec)}")
        file.writestr("__MACOSX/part/._000.png", b"no picture")
    windows = path.with_name("windows.zip")
    with zipfile.ZipFile(windows, "w") as file:
        for picture in sorted(mvtec.rglob("*.png")):
            file.writestr("part\\" + str(picture.relative_to(mvtec)).replace("/", "\\"), picture.read_bytes())
    dataset = load(path)
    assert parts(load(windows)) == parts(dataset)
    assert parts(dataset) == parts(load(mvtec))
    for ours, theirs in zip(
        batches(dataset, range(6), batch_size=6), batches(load(mvtec), range(6), batch_size=6), strict=True
    ):
        np.testing.assert_array_equal(ours.pictures, theirs.pictures)


def test_a_zip_says_what_it_passes_over(tmp_path: Path):
    good_and_bad(tmp_path / "p")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        for picture in sorted((tmp_path / "p").rglob("*.png")):
            file.write(picture, picture.relative_to(tmp_path))
        for name in ("__MACOSX/p/._0.png", "__MACOSX/p/._1.png", "p/.DS_Store", "p/good/Thumbs.db"):
            file.writestr(name, b"none")
    assert load(tmp_path / "p.zip").notes[-2:] == (
        "passed over, hidden: 1: p/.DS_Store",
        "passed over, left by an operating system: 2: __MACOSX, p/good/Thumbs.db",
    )


def test_a_zip_of_defective_pictures_alone_is_not_taken_to_be_good(tmp_path: Path):
    good_and_bad(tmp_path / "p")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
        for picture in (tmp_path / "p" / "bad").rglob("*.png"):
            file.write(picture, picture.relative_to(tmp_path / "p"))
    with pytest.raises(DataError, match=r"has a folder bad, and no layout says what its pictures are"):
        load(tmp_path / "p.zip")


def test_a_zip_with_two_files_of_one_name(tmp_path: Path):
    content = [tmp_path / f"{i}.png" for i in range(3)]
    for seed, path in enumerate(content):
        draw(path, seed=seed)
    for second, fails in ((content[1], True), (content[0], False)):
        with zipfile.ZipFile(tmp_path / "p.zip", "w") as file:
            file.write(content[0], "good/0.png")
            file.write(content[2], "good/1.png")
            renamed = zipfile.ZipInfo("x")
            renamed.filename = "good\\0.png"
            file.writestr(renamed, second.read_bytes())
        if fails:
            with pytest.raises(DataError, match=r"p.zip holds two files good/0.png, which differ: pack it"):
                load(tmp_path / "p.zip")
        else:
            assert parts(load(tmp_path / "p.zip"))[0] == ["0", "1"]


def test_a_link_to_itself(tmp_path: Path):
    good_and_bad(tmp_path)
    (tmp_path / "good" / "round.png").symlink_to("round.png")
    with pytest.raises(DataError, match=r"^can't read .*good/round.png: mend or remove it"):
        load(tmp_path)
    assert list(load(tmp_path, on_bad_picture="skip").skipped) == ["good/round.png"]


def test_places_that_hold_nothing(tmp_path: Path):
    with pytest.raises(ArgumentError, match=r"has no place by itself: name it by --data-dir$"):
        folder.load()
    with pytest.raises(
        DataError, match=r"nowhere does not exist: name a folder of pictures, a zip of one, or"
    ):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no pictures: name a folder that has"):
        load(tmp_path)
    draw(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png is a file: name a folder"):
        load(tmp_path / "a.png")
    with pytest.raises(ArgumentError, match="on_bad_picture is 'ask': choose one of stop, skip"):
        load(tmp_path, on_bad_picture="ask")


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([(1257, 500)], (640, 256)),
        ([(480, 640)], (256, 336)),
        ([(8, 8)], (256, 256)),
        ([(100, 200)] * 2 + [(200, 100)] * 3, (512, 256)),
        ([(1240, 500), (1257, 500), (1270, 500), (500, 500), (500, 500)], (640, 256)),
        ([(1, 1000)], (256, 256000)),
    ],
)
def test_the_default_size(sizes: list[tuple[int, int]], wanted: tuple[int, int]):
    assert default(sizes) == wanted


def test_pictures_of_another_aspect_are_counted_and_named(tmp_path: Path):
    for i in range(3):
        draw(tmp_path / f"{i}.png", size=(96, 64))
    draw(tmp_path / "wide.png", size=(64, 96))
    for resize, does in (
        ("squeeze", "squeezed to that"),
        ("crop", "cropped, and what is cut off isn't judged"),
        ("pad", "padded, and the padding isn't judged"),
    ):
        dataset = load(tmp_path, resize=resize)
        assert dataset.size == (384, 256)
        assert f"1 of another aspect than 384 × 256, {does}: wide" in dataset.notes
    assert of_another_aspect([(1240, 500), (1257, 500), (1200, 500), (1000, 500)], (640, 256)) == [3]


def test_padding_is_told_by_each_batch(tmp_path: Path):
    draw(tmp_path / "0.png", size=(64, 64))
    draw(tmp_path / "1.png", size=(64, 32))
    dataset = load(tmp_path, resize="pad", size=(64, 64))
    (batch,) = batches(dataset, [0, 1], batch_size=3)
    assert batch.judged is not None
    assert batch.judged.tolist() == [[0, 0, 64, 64], [0, 16, 64, 48], [0, 16, 64, 48]]
    assert batch.placings is not None
    assert [placing.original for placing in batch.placings] == [(64, 64), (64, 32)]
    (batch,) = batches(load(tmp_path, size=(64, 64)), [0, 1], batch_size=2)
    assert batch.judged is None


def test_twins_are_named(tmp_path: Path):
    good_and_bad(tmp_path)
    (tmp_path / "good" / "9.png").write_bytes((tmp_path / "good" / "0.png").read_bytes())
    (tmp_path / "bad" / "scratch" / "9.png").write_bytes((tmp_path / "good" / "1.png").read_bytes())
    notes = load(tmp_path).notes
    assert notes[-2:] == (
        "the same byte for byte, within training; left out, such a picture is not unseen: good/0 = good/9",
        "the same byte for byte, in training and in test: good/1 = bad/scratch/9",
    )


def test_two_names_that_differ_in_their_suffix_alone(tmp_path: Path):
    for name in ("a.png", "a.bmp", "b.png"):
        draw(tmp_path / name)
    assert parts(load(tmp_path))[0] == ["a.bmp", "a.png", "b"]


def test_it_is_looked_at_once_and_again_after_any_change(tmp_path: Path, own_home: Path):
    good_and_bad(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    calls: list[tuple[int, int]] = []

    def looked(*both: int) -> list[tuple[int, int]]:
        calls.clear()
        load(tmp_path, progress=lambda done, total: calls.append((done, total)))
        return list(calls)

    assert looked() == [(i, 6) for i in range(1, 7)]
    assert looked() == []
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written there
    draw_mask(tmp_path / "masks" / "scratch" / "0.png", value=77)
    assert len(looked()) == 6
    (cached,) = (own_home / "datasets" / "folder").iterdir()
    page = json.loads(cached.read_text())
    assert len(page["facts"]) == 6
    cached.write_text(cached.read_text()[:-9])
    assert len(looked()) == 6
    assert looked() == []


def test_the_registry_and_the_pipeline_take_it_like_any_other(tmp_path: Path):
    dataset = datasets.load("folder", data_dir=good_and_bad(tmp_path))
    split = dataset.split("folder")
    (batch,) = batches(dataset, split.test, batch_size=2, with_masks=True)
    assert batch.pictures.shape == (2, 336, 256, 3)
    assert batch.masks is not None
    assert (batch.masks.max(axis=(1, 2)) == 255).all()
