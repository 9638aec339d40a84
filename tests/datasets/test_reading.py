"""What Pillow gives only when asked: 16 bits in colour, large files without its warning, one picture each."""

import io
import struct

import numpy as np
import pytest
from own_pictures import encoded, png_header, png_of_16_bits, tiff_of_16_bits
from PIL import Image

from jaxsode.datasets.decode import decode_mask, open_picture
from jaxsode.datasets.reading import read, suffixes
from jaxsode.errors import ArgumentError, DataError
from jaxsode.preparation import RANGES, Preparation

LIMIT = Preparation().max_pixels


def values(*shape: int, highest: int = 65535) -> np.ndarray:
    return np.random.default_rng(0).integers(0, highest + 1, shape).astype(np.uint16)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_is_read_whole(channels: int):
    stored = values(7, 5, channels)
    read_back = read(png_of_16_bits(stored), where="it", max_pixels=LIMIT).values
    assert read_back is not None
    assert np.array_equal(read_back, stored[..., 0] if channels == 1 else stored)


@pytest.mark.parametrize("channels", [2, 4])
def test_png_of_16_bits_that_is_opaque(channels: int):
    stored = values(7, 5, channels)
    stored[..., -1] = 65535
    read_back = read(png_of_16_bits(stored), where="it", max_pixels=LIMIT).values
    assert read_back is not None
    assert np.array_equal(read_back, stored[..., 0] if channels == 2 else stored[..., :3])
    stored[3, 2, -1] = 65534
    with pytest.raises(
        DataError, match=r"^it has 16 bits and is partly transparent: save it without transparency$"
    ):
        read(png_of_16_bits(stored), where="it", max_pixels=LIMIT)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_16_bits_in_colour(order: str):
    stored = values(7, 5, 3)
    whole = tiff_of_16_bits(stored, order=order)
    read_back = read(whole, where="it", max_pixels=LIMIT).values
    assert read_back is not None
    assert np.array_equal(read_back, stored)


@pytest.mark.parametrize("white", RANGES)
def test_16_bits_are_scaled_by_the_range(white: int):
    stored = values(9, 8, 3, highest=white)
    ours = open_picture(png_of_16_bits(stored), channels=3, where="it", preparation=Preparation(range=white))
    exact = stored * 255.0 / white
    assert np.abs(np.asarray(ours) - exact).max() <= 0.5 + 1e-9


def test_what_passes_the_range_is_an_error():
    stored = values(4, 4, 1, highest=900)
    stored[2, 2] = 1024
    with pytest.raises(
        DataError,
        match=r"^it has a value of 1024, above the range that ends at 1023: give range 4095 to all pictures "
        r"and fit again, or leave it out$",
    ):
        open_picture(png_of_16_bits(stored), channels=1, where="it", preparation=Preparation(range=1023))


def _jpeg_2000_of_12_bits() -> bytes:
    """One of 8 bits whose header says 12."""
    content = bytearray(encoded(np.zeros((8, 8, 3), np.uint8), "JPEG2000"))
    start = content.index(b"\xff\x4f\xff\x51") + 42
    content[start : start + 9 : 3] = bytes([11] * 3)
    return bytes(content)


@pytest.mark.parametrize(
    "content",
    [
        b"P6 2 1 65535\n" + bytes([15, 160] * 6),
        b"P3 2 1 4095\n1 2 3 4 5 4000\n",
        struct.pack(">hBBHHHHll", 474, 0, 2, 3, 2, 1, 3, 0, 65535).ljust(512, b"\0") + bytes([15, 160] * 6),
        _jpeg_2000_of_12_bits(),
    ],
)
def test_16_bits_of_which_pillow_gives_8_are_refused(content: bytes):
    with pytest.raises(DataError, match=r"^a has 16 bits in a form that can't be read: save it as grey"):
        read(content, where="a", max_pixels=100)


def test_without_a_range_16_bits_are_refused():
    with pytest.raises(DataError, match=r"^it has 16 bits, and cameras fill .*: say what white is by range"):
        open_picture(
            png_of_16_bits(values(4, 4, 1)), channels=1, where="it", preparation=Preparation(range=None)
        )


def test_a_line_scan_of_900_million_pixels_is_refused_in_one_line():
    with pytest.raises(
        DataError,
        match=r"^it has 30000 × 30000 pixels \(height × width\), more than max_pixels, 178956970: raise it, "
        r"or cut the picture in tiles$",
    ):
        read(png_header(30_000, 30_000), where="it", max_pixels=LIMIT)


def test_what_pillow_would_warn_of_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # above it a warning, above twice an error
    for side in (12, 40):
        pixels = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
        stored = read(encoded(pixels), where="it", max_pixels=side**2)
        assert np.array_equal(np.asarray(stored.image), pixels)
        with pytest.raises(DataError, match="more than max_pixels"):
            read(encoded(pixels), where="it", max_pixels=side**2 - 1)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_several_pictures_in_a_file(format: str):
    frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (0, 100, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, format, save_all=True, append_images=frames[1:])
    with pytest.raises(
        DataError, match=r"^it holds 3 pictures: save the one that counts in a file of its own$"
    ):
        read(buffer.getvalue(), where="it", max_pixels=LIMIT)


def test_a_phones_second_picture_is_no_concern():
    first = Image.fromarray(np.full((16, 16, 3), 90, np.uint8))
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    stored = read(buffer.getvalue(), where="it", max_pixels=LIMIT)
    assert stored.image.format == "MPO"
    assert stored.size == (16, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF"])
def test_orientation(format: str, orientation: int):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(pixels, format, exif=exif)
    as_stored = np.asarray(Image.open(io.BytesIO(encoded(pixels, format))))
    turned = {
        1: as_stored,
        2: as_stored[:, ::-1],
        3: as_stored[::-1, ::-1],
        4: as_stored[::-1],
        5: as_stored.T,
        6: np.rot90(as_stored, -1),
        7: as_stored[::-1, ::-1].T,
        8: np.rot90(as_stored),
    }[orientation]
    upright = Preparation(upright=True)
    ours = open_picture(content, channels=1, where="it", preparation=upright)
    assert np.array_equal(np.asarray(ours), turned)
    assert read(content, where="it", max_pixels=LIMIT).size == turned.shape
    if orientation == 1:
        return
    with pytest.raises(
        DataError, match=rf"^it carries an EXIF orientation \({orientation}\), .*: save the picture as"
    ):
        open_picture(content, channels=1, where="it", preparation=upright, beside_mask=True)
    if format == "TIFF":  # which Pillow turns by itself
        with pytest.raises(DataError, match="carries an EXIF orientation"):
            open_picture(content, channels=1, where="it")
    else:
        assert np.array_equal(np.asarray(open_picture(content, channels=1, where="it")), as_stored)


MARKED = Preparation(marked=True)
TRUTH = np.kron(np.array([[0, 1], [0, 1]]), np.ones((4, 4))).astype(np.uint8)


def palette(colours: list[int]) -> bytes:
    image = Image.fromarray(TRUTH * 2)
    image.putpalette(bytes(colours))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        encoded(TRUTH * 255),
        encoded(TRUTH * 100),
        encoded(TRUTH),
        encoded(TRUTH.astype(bool)),
        encoded(TRUTH.astype(np.uint16) * 300),
        encoded(TRUTH.astype(np.int32) * 7, "TIFF"),
        encoded(np.stack([TRUTH * 200, TRUTH * 0, TRUTH * 0], -1)),
        encoded(np.stack([TRUTH * 0 + 255] * 3 + [TRUTH * 255], -1)),
        palette([0, 0, 0, 255, 255, 255, 128, 0, 0]),
        png_of_16_bits(np.stack([TRUTH, TRUTH * 0, TRUTH * 0], -1)),
    ],
    ids=["255", "100", "1", "1-bit", "16-bit", "32-bit", "colour", "transparent", "palette", "16-bit-colour"],
)
def test_all_of_a_mask_that_is_not_black_counts(content: bytes):
    ours = decode_mask(content, size=(8, 8), where="it", preparation=MARKED)
    assert np.array_equal(ours, TRUTH * 255)


def test_masks_that_are_refused():
    with pytest.raises(
        DataError, match=r"^it is a JPEG, which blurs a mask's edges: draw the mask as a PNG$"
    ):
        decode_mask(encoded(TRUTH * 255, "JPEG"), size=(8, 8), where="it", preparation=MARKED)
    with pytest.raises(DataError, match=r"^it has 32 bits a pixel, or signed ones, of no known range"):
        decode_mask(encoded(TRUTH.astype(np.float32), "TIFF"), size=(8, 8), where="it", preparation=MARKED)


def test_only_what_can_be_decoded_has_a_pictures_suffix():
    known = suffixes()
    assert {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".jp2", ".pgm", ".gif"} <= known
    assert not {".h5", ".hdf", ".grib", ".mpg", ".eps", ".ps", ".wmf", ".pdf", ".npy", ".txt"} & known


@pytest.mark.parametrize("options", [{"resize": "stretch"}, {"range": 1000}, {"max_pixels": 0}])
def test_preparations_that_there_are_not(options: dict):
    with pytest.raises(ArgumentError, match=rf"^{next(iter(options))} is .*: (choose one of|it must)"):
        Preparation(**options)
