"""Pictures as people have them: what `jaxsode inspect` prints of each, and what a run would compute on."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from own_pictures import (
    draw,
    draw_mask,
    encoded,
    good_and_bad,
    png_header,
    png_of_16_bits,
    with_orientation,
)
from PIL import Image

from jaxsode import datasets
from jaxsode.commands import inspect
from jaxsode.datasets import folder
from jaxsode.errors import DataError

Capture = pytest.CaptureFixture[str]


def inspected(capsys: Capture, *arguments: object) -> list[str]:
    """What the command prints, the first line left out."""
    assert inspect.main([*map(str, arguments)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()[1:]


def refused(capsys: Capture, *arguments: object) -> str:
    """The one line by which it fails."""
    assert inspect.main([*map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("error: ").removesuffix("\n")


def deep(path: Path, *, highest: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Write a PNG of 16 bits whose highest value is this."""
    values = np.random.default_rng(seed).integers(0, highest, (40, 40, channels)).astype(np.uint16)
    values[3, 3] = highest
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png_of_16_bits(values))
    return values


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("highest", "white"), [(200, 255), (256, 1023), (4000, 4095), (4095, 4095), (4096, 16383), (65535, 65535)]
)
def test_the_range_of_16_bits_is_found_said_and_applied(
    tmp_path: Path, capsys: Capture, highest: int, white: int, channels: int
):
    deep(tmp_path / "good" / "0.png", highest=highest // 2, channels=channels)
    values = deep(tmp_path / "good" / "1.png", highest=highest, channels=channels, seed=1)
    deep(tmp_path / "bad" / "0.png", highest=highest // 3, channels=channels)
    lines = inspected(capsys, tmp_path)
    mode = "L" if channels == 1 else "RGB"
    assert f"pixels: 3 {mode} of 16 bits" in lines
    said = f"16 bits: the highest value is {highest}; white is {white}, the least range that no training "
    assert f"{said}picture passes; what passes it is an error" in lines
    dataset = folder.load(data_dir=tmp_path, size=(40, 40))
    assert dataset.preparation.range == white
    assert dataset.channels == channels
    assert np.abs(dataset.picture(1) - values * 255.0 / white).max() <= 0.5 + 1e-9


def test_a_test_picture_that_passes_the_range(tmp_path: Path, capsys: Capture):
    deep(tmp_path / "good" / "0.png", highest=4000)
    deep(tmp_path / "good" / "1.png", highest=4000, seed=1)
    deep(tmp_path / "bad" / "0.png", highest=4096)
    line = "bad/0.png has a value of 4096, above the range that ends at 4095: give range 16383 to all "
    line += "pictures and fit again, or leave it out"
    assert refused(capsys, tmp_path, "--on-bad-picture", "stop") == f"{line} (in {tmp_path})"
    assert f"can't be used: 1: {line}" in inspected(capsys, tmp_path)
    dataset = folder.load(data_dir=tmp_path, range=16383)
    assert dataset.preparation.range == 16383
    assert (
        "16 bits: the highest value is 4096; white is 16383, as asked for; what passes it is an error"
        in inspected(capsys, tmp_path, "--range", 16383)
    )
    assert "good/0.png has a value of 4000, above the range that ends at 1023" in refused(
        capsys, tmp_path, "--range", 1023, "--on-bad-picture", "stop"
    )


def test_16_bits_that_no_training_picture_has(tmp_path: Path, capsys: Capture):
    good_and_bad(tmp_path, bad=0)
    deep(tmp_path / "bad" / "0.png", highest=900)
    assert refused(capsys, tmp_path, "--on-bad-picture", "stop").startswith(
        "bad/0.png has 16 bits, and no training picture has: say what white is by --range, one of 255, 1023"
    )
    lines = inspected(capsys, tmp_path, "--range", 1023)
    assert "of 8 bits are 4 others, whose white is 255" in lines


def test_grey_and_colour_together(tmp_path: Path, capsys: Capture):
    draw(tmp_path / "0.png", grey=True)
    draw(tmp_path / "1.png", seed=1)
    assert "pixels: 1 L of 8 bits, 1 RGB of 8 bits" in inspected(capsys, tmp_path)
    assert folder.load(data_dir=tmp_path).channels == 3


def test_orientation_without_masks_is_applied(tmp_path: Path, capsys: Capture):
    draw(tmp_path / "0.png", size=(48, 32))
    stored = with_orientation(tmp_path / "1.png", 6, size=(32, 48))
    lines = inspected(capsys, tmp_path)
    assert "sizes: 2 of 48 × 32 (height × width); resized to 384 × 256" in lines
    assert "1 turned upright by their EXIF orientation: 1" in lines
    dataset = folder.load(data_dir=tmp_path, size=(48, 32))
    assert np.array_equal(dataset.picture(1), np.rot90(stored, -1))
    assert dataset.preparation.upright


def test_orientation_beside_a_mask_is_refused(tmp_path: Path, capsys: Capture):
    good_and_bad(tmp_path)
    with_orientation(tmp_path / "bad" / "scratch" / "0.png", 3)
    assert refused(capsys, tmp_path, "--on-bad-picture", "stop").startswith(
        "bad/scratch/0.png carries an EXIF orientation (3), and picture and mask may be meant on either side "
        "of it: save the picture as it is seen, without one, and draw the mask on that"
    )
    (tmp_path / "masks" / "scratch" / "0.png").unlink()
    assert "1 turned upright by their EXIF orientation: bad/scratch/0" in inspected(capsys, tmp_path)
    # and while it runs, should the files change after they were looked at
    dataset = folder.load(data_dir=tmp_path)
    with_orientation(tmp_path / "bad" / "scratch" / "1.png", 8)
    index = [example.name for example in dataset.examples].index("bad/scratch/1")
    with pytest.raises(DataError, match=r"^folder: picture bad/scratch/1 carries an EXIF orientation \(8\)"):
        dataset.picture(index)


def test_masks_of_several_values(tmp_path: Path):
    good_and_bad(tmp_path)
    mask = draw_mask(tmp_path / "masks" / "scratch" / "0.png", value=100)
    mask[0, 0] = 1
    mask[20:24] = 255
    image = Image.fromarray(mask)
    image.putpalette(np.random.default_rng(0).integers(1, 256, 768, dtype=np.uint8).tobytes())
    palette = np.array(image.getpalette(), np.uint8)
    palette[:3] = 0
    image.putpalette(palette.tobytes())
    for each in (Image.fromarray(mask), image):
        each.save(tmp_path / "masks" / "scratch" / "0.png")
        dataset = folder.load(data_dir=tmp_path, size=(32, 24))
        index = [example.name for example in dataset.examples].index("bad/scratch/0")
        ours = dataset.mask(index)
        assert ours is not None
        assert np.array_equal(ours, np.where(mask > 0, 255, 0))


def all_white(path: Path) -> None:
    draw_mask(path)
    Image.fromarray(np.full((32, 24), 255, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (
            lambda p: draw_mask(p, size=(32, 23)),
            "masks/scratch/0.png is 32 × 23, its picture 32 × 24 (",
        ),
        (
            lambda p: draw_mask(p, value=0),
            "masks/scratch/0.png is all black and bad/scratch/0.png defective",
        ),
        (all_white, "masks/scratch/0.png marks every pixel: draw what is good in black"),
        (
            lambda p: p.write_bytes(b"GIF8"),
            "masks/scratch/0.png is not a picture, or only the start",
        ),
        (
            lambda p: p.write_bytes(encoded(np.eye(32, 24, dtype=np.uint8), "JPEG")),
            "masks/scratch/0.png is a JPEG",
        ),
    ],
    ids=["size", "black", "white", "damaged", "jpeg"],
)
def test_masks_that_cannot_be(tmp_path: Path, capsys: Capture, spoil: Callable[[Path], object], line: str):
    good_and_bad(tmp_path)
    spoil(tmp_path / "masks" / "scratch" / "0.png")
    assert refused(capsys, tmp_path, "--on-bad-picture", "stop").startswith(line)
    dataset = folder.load(data_dir=tmp_path, on_bad_picture="skip")
    assert list(dataset.skipped) == ["bad/scratch/0.png"]
    assert "bad/scratch/0" not in [example.name for example in dataset.examples]


def test_masks_that_may_be_inverted_are_named(tmp_path: Path, capsys: Capture):
    good_and_bad(tmp_path)
    said = "1 masks mark more than half of their picture (all that is not black): bad/scratch/1"
    assert said not in inspected(capsys, tmp_path)
    mask = tmp_path / "masks" / "scratch" / "1.png"
    Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    assert said in inspected(capsys, tmp_path)


def test_a_good_picture_whose_mask_marks_something(tmp_path: Path, capsys: Capture):
    draw(tmp_path / "train" / "good" / "0.png")
    draw(tmp_path / "test" / "good" / "1.png")
    draw_mask(tmp_path / "ground_truth" / "good" / "1_mask.png", value=0)
    inspected(capsys, tmp_path)
    draw_mask(tmp_path / "ground_truth" / "good" / "1_mask.png")
    assert refused(capsys, tmp_path, "--on-bad-picture", "stop").startswith(
        "ground_truth/good/1_mask.png marks a defect in test/good/1.png, which is among the good: move one"
    )


def test_what_lies_about(tmp_path: Path, capsys: Capture):
    for name in ("a.PNG", "b.JPG", "c.Tiff", "d.png/e.png"):
        draw(tmp_path / name)
    for name in (
        ".DS_Store",
        "._a.PNG",
        "Thumbs.db",
        "notes.txt",
        ".cache/x.png",
        "__MACOSX/._b.JPG",
        "w.h5",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    (tmp_path / "more").symlink_to(tmp_path / "d.png")
    os.mkfifo(tmp_path / "pipe.png")
    lines = inspected(capsys, tmp_path)
    assert lines[0] == "good pictures fitted: 4; tested: 0"
    assert lines[-5:] == [
        "passed over, a link to a folder, which is not followed: 1: more",
        "passed over, hidden: 3: .DS_Store, ._a.PNG, .cache",
        "passed over, left by an operating system: 2: Thumbs.db, __MACOSX",
        "passed over, neither a file nor a folder: 1: pipe.png",
        "passed over, without a picture's suffix: 2: notes.txt, w.h5",
    ]
    names = [example.name for example in folder.load(data_dir=tmp_path).examples]
    assert names == ["a", "b", "c", "d.png/e"]


def link(path: Path) -> None:
    path.symlink_to(path.parent / "gone.png")


def animated(path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 200)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


def short(path: Path) -> None:
    whole = encoded(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))
    path.write_bytes(whole[:-600])


BAD = {
    "empty": (lambda p: p.write_bytes(b""), "x.png is empty: get the file again"),
    "no picture": (
        lambda p: p.write_bytes(b"hello"),
        "x.png is not a picture, or only the start",
    ),
    "cut short": (short, "x.png is cut short or damaged: get the file again"),
    "link": (link, "can't read {}/x.png: mend or remove it (a link to nothing)"),
    "animated": (animated, "x.png holds 2 pictures: save the one that counts in a file of its own"),
    "large": (
        lambda p: p.write_bytes(png_header(30_000, 30_000)),
        "x.png has 30000 × 30000 pixels (height × width), more than max_pixels, 178956970: raise it, or cut",
    ),
    "float": (
        lambda p: p.write_bytes(encoded(np.ones((8, 8), np.float32), "TIFF")),
        "x.png has 32 bits a pixel, or signed ones, of no known range: save it with 8 or 16 bits",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_picture_stops_or_is_named(tmp_path: Path, capsys: Capture, kind: str):
    make, line = BAD[kind]
    line = line.format(tmp_path)
    for seed in range(2):
        draw(tmp_path / f"{seed}.png", seed=seed)
    make(tmp_path / "x.png")
    stopped = refused(capsys, tmp_path, "--on-bad-picture", "stop")
    assert stopped.startswith(line)
    assert stopped.endswith(f"(in {tmp_path}; --on-bad-picture skip goes on without it)")
    for _ in range(2):  # also when it is known from before
        lines = inspected(capsys, tmp_path)
        assert lines[0] == "good pictures fitted: 2; tested: 0"
        assert lines[-1].startswith(f"can't be used: 1: {line}")
    assert refused(capsys, tmp_path, "--on-bad-picture", "stop") == stopped
    with pytest.raises(DataError):
        datasets.load("folder", data_dir=tmp_path)  # which stops unless told otherwise


def test_max_pixels_is_an_option(tmp_path: Path, capsys: Capture):
    draw(tmp_path / "0.png")
    assert "0.png has 32 × 24 pixels (height × width), more than max_pixels, 767" in refused(
        capsys, tmp_path, "--max-pixels", 767, "--on-bad-picture", "stop"
    )
    inspected(capsys, tmp_path, "--max-pixels", 768)


def test_no_good_picture_can_be_used(tmp_path: Path, capsys: Capture):
    good_and_bad(tmp_path, good=1)
    (tmp_path / "good" / "0.png").write_bytes(b"")
    line = f"{tmp_path} has no good pictures that can be used: good/0.png is empty: get the file again"
    assert refused(capsys, tmp_path) == line


@pytest.mark.parametrize("name", [b"\xff\xfe.png", "grün.png".encode(), b"a\nb.png", b"x [red] %s.png"])
def test_names_that_are_not_utf_8_or_not_one_line(tmp_path: Path, capsys: Capture, name: bytes):
    draw(tmp_path / "0.png")
    shown = {b"\xff\xfe.png": r"\xff\xfe.png", b"a\nb.png": r"a\nb.png"}.get(name, os.fsdecode(name))
    draw(tmp_path / "x.png", seed=1)
    (tmp_path / "x.png").rename(tmp_path / os.fsdecode(name))
    lines = inspected(capsys, tmp_path)
    assert any(shown.removesuffix(".png") in line for line in lines)
    dataset = folder.load(data_dir=tmp_path, size=(32, 24))
    assert {example.name for example in dataset.examples} == {"0", shown.removesuffix(".png")}
    for index in range(2):
        assert dataset.picture(index).shape == (32, 24, 3)
    (tmp_path / os.fsdecode(name)).write_bytes(b"")
    assert refused(capsys, tmp_path, "--on-bad-picture", "stop").startswith(f"{shown} is empty")


def test_cmyk(tmp_path: Path, capsys: Capture):
    red = Image.new("RGB", (32, 32), (200, 30, 30))
    red.convert("CMYK").save(tmp_path / "0.jpg", quality=95)
    assert "pixels: 1 CMYK of 8 bits" in inspected(capsys, tmp_path)
    dataset = folder.load(data_dir=tmp_path, size=(32, 32))
    assert np.abs(dataset.picture(0) - np.array([200.0, 30, 30])).max() <= 2


def test_a_picture_of_8_by_8(tmp_path: Path, capsys: Capture):
    draw(tmp_path / "0.png", size=(256, 256))
    draw(tmp_path / "1.png", size=(8, 8))
    lines = inspected(capsys, tmp_path)
    assert "1 enlarged more than four times, 8 × 8 for one: 1" in lines
    assert folder.load(data_dir=tmp_path).picture(1).shape == (256, 256, 3)


def test_twins_sizes_and_counts_before_anything_is_computed(tmp_path: Path, capsys: Capture):
    good_and_bad(tmp_path)
    assert inspect.main([str(tmp_path), "--hold-out", "0.5", "--size", "64", "48"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}: good/ and bad/ with masks/",
        "good pictures fitted: 2; tested: 4, 2 good, 2 scratch (2 with masks)",
        "sizes: 6 of 32 × 24 (height × width); resized to 64 × 48",
        "pixels: 6 RGB of 8 bits",
    ]


def test_the_command_says_what_it_wants(capsys: Capture, tmp_path: Path):
    assert "does not exist: name a folder of pictures" in refused(capsys, tmp_path / "nowhere")
    with pytest.raises(SystemExit):
        inspect.main(["--help"])
    assert "what is passed over and why" in " ".join(capsys.readouterr().out.split())
