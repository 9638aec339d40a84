"""A KolektorSDD in miniature: three units, one of each fold, of three parts, the last of each defective."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

UNITS = {"kos01": "2", "kos02": "1", "kos05": "3"}
PARTS = 3


def encode(pixels: np.ndarray, format: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=format, **settings)
    return buffer.getvalue()


def miniature_files() -> dict[str, bytes]:
    """Name → bytes: `kosNN/PartM.jpg` and its label."""
    rng = np.random.default_rng(0)
    files = {}
    for unit in UNITS:
        for part in range(PARTS):
            height, width = 60 + int(rng.integers(5)), 25
            mask = np.zeros((height, width), np.uint8)
            if part == PARTS - 1:
                mask[20:30, 5:15] = 255
            picture = rng.integers(0, 256, (height, width), dtype=np.uint8)
            files[f"{unit}/Part{part}.jpg"] = encode(picture, "JPEG", quality=90)
            files[f"{unit}/Part{part}_label.bmp"] = encode(mask, "BMP")
    return files


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"KolektorSDD/{name}", content)
    return path


@pytest.fixture
def files() -> dict[str, bytes]:
    return miniature_files()


@pytest.fixture
def as_folder(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    return lambda files: write_folder(tmp_path / "published", files)


@pytest.fixture
def as_zip(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    return lambda files: write_zip(tmp_path / "KolektorSDD.zip", files)
