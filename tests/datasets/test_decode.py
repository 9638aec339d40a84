import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxsode.datasets.decode import check_pair, decode_mask, decode_picture
from jaxsode.errors import DataError


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def decoded(image: Image.Image, channels: int, format: str = "PNG", **options) -> np.ndarray:
    """At its own size, where resizing changes nothing."""
    size = (image.height, image.width)
    return decode_picture(encoded(image, format, **options), size=size, channels=channels, where="it")


def bilinear(values: np.ndarray, length: int) -> np.ndarray:
    """Antialiased bilinear resizing of the first axis, in float64, from its definition."""
    scale = len(values) / length
    support = max(scale, 1.0)
    out = np.empty((length, *values.shape[1:]))
    for i in range(length):
        centre = (i + 0.5) * scale
        j = np.arange(max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), len(values)))
        weights = np.maximum(1 - np.abs((j + 0.5 - centre) / support), 0)
        out[i] = np.tensordot(weights / weights.sum(), values[j], axes=1)
    return out


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_resizing_is_antialiased_bilinear(seed: int, shape: tuple[int, int], size: tuple[int, int]):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    ours = decode_picture(encoded(Image.fromarray(pixels)), size=size, channels=1, where="it")
    assert ours.shape == (*size, 1)
    assert ours.dtype == np.uint8
    referee = bilinear(bilinear(pixels.astype(np.float64), size[0]).T, size[1]).T
    assert np.abs(ours[..., 0] - referee).max() <= 1.01  # Pillow rounds to 8 bits after each axis


def test_16_bits_are_scaled_and_not_clipped():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    ours = decoded(Image.fromarray(every), 1)
    assert np.array_equal(ours[..., 0], np.rint(every / 65535 * 255).astype(np.uint8))
    assert np.array_equal(decoded(Image.fromarray(every), 3), np.repeat(ours, 3, axis=-1))


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bits_of_either_byte_order(order: str):
    every = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    image = Image.frombytes(
        "I;16" if order == "<u2" else "I;16B", (64, 64), every.astype(np.dtype(order)).tobytes()
    )
    assert np.array_equal(decoded(image, 1, "TIFF")[..., 0], np.rint(every / 257).astype(np.uint8))


def test_colour_becomes_luma_where_grey_is_expected():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    ours = decoded(Image.fromarray(pixels), 1)[..., 0]
    assert np.abs(ours - pixels @ np.array([0.299, 0.587, 0.114])).max() <= 0.51
    assert np.array_equal(decoded(Image.fromarray(pixels), 3), pixels)


def test_grey_is_repeated_where_colour_is_expected():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
    assert np.array_equal(decoded(Image.fromarray(pixels), 3), np.repeat(pixels[..., None], 3, axis=-1))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_is_looked_up(channels: int):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 4, (6, 5), dtype=np.uint8))
    image.putpalette(rng.integers(0, 256, 12, dtype=np.uint8).tobytes())
    assert image.mode == "P"
    assert np.array_equal(decoded(image, channels), decoded(image.convert("RGB"), channels))


def test_what_is_transparent_lies_on_black():
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    alpha = np.full((6, 5, 1), 255, np.uint8)
    alpha[:2] = 0
    alpha[2:4] = 128
    ours = decoded(Image.fromarray(np.concatenate([colour, alpha], axis=-1)), 3)
    assert np.abs(ours - colour * (alpha / 255)).max() <= 1
    assert np.array_equal(ours[4:], colour[4:])
    grey = np.stack([colour[..., 0], alpha[..., 0]], axis=-1)
    assert np.abs(decoded(Image.fromarray(grey), 1)[..., 0] - grey[..., 0] * (alpha[..., 0] / 255)).max() <= 1


def test_a_transparent_value_of_a_png_lies_on_black():
    pixels = np.array([[10, 200, 30]], np.uint8)
    assert decoded(Image.fromarray(pixels), 1, transparency=200)[0, :, 0].tolist() == [10, 0, 30]


def test_one_bit_and_cmyk():
    bits = np.array([[True, False], [False, True]])
    assert decoded(Image.fromarray(bits), 1)[..., 0].tolist() == [[255, 0], [0, 255]]
    red = Image.new("RGB", (16, 16), (200, 30, 30))
    assert np.abs(decoded(red.convert("CMYK"), 3, "TIFF") - np.array([200.0, 30, 30])).max() <= 1


def test_orientation_is_left_as_stored():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # "rotate by 90°"
    assert np.array_equal(decoded(image, 1, exif=exif)[..., 0], pixels)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bits_have_no_known_range(dtype: type):
    with pytest.raises(DataError, match=r"^it has 32 bits a pixel.*save it with 8 or 16 bits$"):
        decoded(Image.fromarray(np.ones((4, 4), dtype)), 1, "TIFF")


def tiff_of_float64() -> bytes:
    """By hand: Pillow writes none, as it reads none."""
    pixels = np.zeros((4, 4), "<f8").tobytes()
    tags = {256: 4, 257: 4, 258: 64, 259: 1, 262: 1, 273: 8, 277: 1, 278: 4, 279: len(pixels), 339: 3}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    return header + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("content", "channels", "what"),
    [
        (tiff_of_float64(), 1, "is a TIFF of a kind that can't be read"),
        (tiff_of_float64(), 3, "is a TIFF of a kind that can't be read"),
        (encoded(Image.new("LAB", (8, 8)), "TIFF"), 1, "has pixels of mode LAB"),
    ],
)
def test_pixels_of_another_kind(content: bytes, channels: int, what: str):
    """Neither damaged nor cut short: getting the file again would not help."""
    with pytest.raises(DataError) as caught:
        decode_picture(content, size=(4, 4), channels=channels, where="it")
    assert str(caught.value) == f"it {what}: save it as grey or RGB, with 8 or 16 bits"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_tiff_cut_short_is_not_of_another_kind():
    with pytest.raises(DataError, match=r"^it is not a picture, or only the start: get the file again$"):
        decode_picture(tiff_of_float64()[:150], size=(4, 4), channels=1, where="it")


def cut_short(format: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    whole = encoded(Image.fromarray(pixels), format)
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"not a picture", "not a picture"),
        (cut_short("JPEG"), "cut short"),
        (cut_short("PNG"), "cut short"),
        (cut_short("BMP"), "cut short"),
    ],
)
def test_unreadable(content: bytes, what: str):
    with pytest.raises(DataError, match=rf"^kos02/Part0.jpg is {what}.*: get the file again") as caught:
        decode_picture(content, size=(8, 8), channels=1, where="kos02/Part0.jpg")
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value)


def test_a_mask_is_resized_as_a_picture_is():
    mask = np.zeros((30, 20), np.uint8)
    mask[10:17, 4:9] = 255
    ours = decode_mask(encoded(Image.fromarray(mask), "BMP"), size=(15, 8), where="it")
    assert np.array_equal(
        ours, decode_picture(encoded(Image.fromarray(mask)), size=(15, 8), channels=1, where="it")[..., 0]
    )
    assert ours.shape == (15, 8)
    assert ours.max() == 255
    assert set(np.unique(ours)) - {0, 255}  # edges lie between


def check(picture: np.ndarray, mask: np.ndarray) -> bool:
    files = [encoded(Image.fromarray(pixels)) for pixels in (picture, mask)]
    return check_pair(*files, channels=1, where=("the picture", "the mask"))


def test_check_pair_tells_whether_anything_is_defective():
    picture, mask = np.zeros((5, 6), np.uint8), np.zeros((5, 6), np.uint8)
    assert check(picture, mask) is False
    mask[3, 3] = 255
    assert check(picture, mask) is True


def test_check_pair_refuses_a_mask_that_does_not_fit():
    picture = np.zeros((5, 6), np.uint8)
    with pytest.raises(DataError, match=r"^the mask is 6 × 5, its picture 5 × 6 \(height × width\): draw"):
        check(picture, np.zeros((6, 5), np.uint8))
    with pytest.raises(DataError, match=r"^the mask has no value above 1: mark what is defective by 255$"):
        check(picture, np.eye(5, 6, dtype=np.uint8))
