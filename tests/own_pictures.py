"""Pictures as people have them, drawn or encoded by hand."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def draw(
    path: Path, *, size: tuple[int, int] = (32, 24), seed: int = 0, grey: bool = False, **save
) -> np.ndarray:
    """Write random pixels there, by the format of its suffix; returns them."""
    pixels = np.random.default_rng(seed).integers(0, 256, size if grey else (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **save)
    return pixels


def draw_mask(path: Path, *, size: tuple[int, int] = (32, 24), value: int = 255) -> np.ndarray:
    """Write a mask with one rectangle of this value."""
    mask = np.zeros(size, np.uint8)
    mask[8:16, 4:12] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)
    return mask


def good_and_bad(folder: Path, *, good: int = 4, bad: int = 2, masks: bool = True) -> Path:
    """good/0.png …, bad/scratch/0.png … and their masks."""
    for seed in range(good):
        draw(folder / "good" / f"{seed}.png", seed=seed)
    for seed in range(bad):
        draw(folder / "bad" / "scratch" / f"{seed}.png", seed=100 + seed)
        if masks:
            draw_mask(folder / "masks" / "scratch" / f"{seed}.png")
    return folder


def with_orientation(path: Path, orientation: int, **options) -> np.ndarray:
    """Write a picture that carries an EXIF orientation; returns its pixels as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return draw(path, exif=exif, **options)


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of (height, width, C) values, C = 1 grey, 2 with alpha, 3 colour, 4 with alpha: Pillow writes
    grey alone."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_header(height: int, width: int) -> bytes:
    """A whole PNG of 8 bits, grey and black; small, however large it is."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    packed, row = zlib.compressobj(1), bytes(width + 1)
    rows = b"".join(packed.compress(row) for _ in range(height)) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of_16_bits(values: np.ndarray, *, order: str = "<") -> bytes:
    """An uncompressed TIFF of (height, width, 3) values, of either byte order."""
    height, width, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    at_pixels, at_bits = 8, 8 + len(pixels)
    tags = {256: width, 257: height, 258: at_bits, 259: 1, 262: 2, 273: at_pixels, 277: channels, 278: height}
    tags |= {279: len(pixels)}
    body = struct.pack(f"{order}H", len(tags))
    for tag, value in tags.items():
        kind, count = (3, channels) if tag == 258 else (4, 1)
        body += struct.pack(f"{order}HHII", tag, kind, count, value)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}I", at_bits + len(bits)) + pixels + bits + body + bytes(4)


def encoded(pixels: np.ndarray, format: str = "PNG", **options) -> bytes:
    """By Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=format, **options)
    return buffer.getvalue()
