"""Miniatures of the published data sets: their names, modes and oddities, a few small pictures of noise.

Each is name -> bytes, to be written as a folder, a zip or a tar.
"""

import io
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

Files = dict[str, bytes]

# What unpacking, copying and looking at pictures leaves behind.
LEFTOVERS = (".DS_Store", "Thumbs.db", "desktop.ini", "._000.png", ".hidden/000.png", "__MACOSX/._000.png")


def encode(pixels: np.ndarray, format: str = "PNG", **settings: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **settings)
    return buffer.getvalue()


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 160, shape, dtype=np.uint8)


def spot(height: int, width: int) -> np.ndarray:
    """A mask of 0 and 255."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    return mask


def mvtec_ad(*categories: str) -> Files:
    """12 good training pictures, two good and three defective test pictures of each category.

    screw, grid and zipper are grey. Masks are of 8 bits, of one kind of defect of 1 bit; good ones have none.
    """
    files = {}
    for number, category in enumerate(categories):
        shape = (40, 40) if category in ("grid", "screw", "zipper") else (40, 40, 3)
        files[f"{category}/license.txt"] = files[f"{category}/readme.txt"] = b"read me"
        for index in range(12):
            files[f"{category}/train/good/{index:03d}.png"] = encode(noise(100 * number + index, *shape))
        for kind, count in (("good", 2), ("scratch_head", 2), ("thread_side", 1)):
            for index in range(count):
                picture = noise(1000 + 100 * number + index, *shape)
                if kind != "good":
                    picture[spot(40, 40) > 0] = 10
                    mask = spot(40, 40) if kind == "scratch_head" else spot(40, 40) > 0
                    files[f"{category}/ground_truth/{kind}/{index:03d}_mask.png"] = encode(mask)
                files[f"{category}/test/{kind}/{index:03d}.png"] = encode(picture)
    return files


def kolektor2() -> Files:
    """Five training pictures, 10301 defective and there twice; four for testing, the last defective."""
    files = {"split_weakly_0.pyb": b"\x80\x04."}
    numbers = {"train": (10000, 10001, 10002, 10003, 10301), "test": (20000, 20001, 20002, 20003)}
    for part, members in numbers.items():
        for number in members:
            height, width = 63 + number % 5, 23
            picture, mask = noise(number, height, width, 3), np.zeros((height, width), np.uint8)
            if number in (10301, 20003):
                mask = spot(height, width)
                picture[mask > 0] = 10
            files[f"{part}/{number}.png"] = encode(picture)
            files[f"{part}/{number}_GT.png"] = encode(mask)
    for end in ("", "_GT"):
        files[f"train/10301{end} (copy).png"] = files[f"train/10301{end}.png"]
    return files


def mstc(*scenes: str, videos: bool = False, frames: int = 11) -> Files:
    """Two training clips and one test clip of each scene, whose frames from 4 to 6 are unusual.

    Training clips are videos (for which OpenCV is needed) or frames that somebody has taken out of them.
    """
    files = {}
    for scene in scenes:
        for clip in (f"{scene}_001", f"{scene}_002"):
            pixels = [noise(int(clip[-1]) * 100 + n, 48, 64, 3) for n in range(frames)]
            if videos:
                files[f"training/videos/{clip}.avi"] = avi(pixels)
            else:
                for n, picture in enumerate(pixels):
                    files[f"training/frames/{clip}/{n:04d}.jpg"] = encode(picture, "JPEG", quality=90)
        masks = np.zeros((9, 48, 64), np.uint8)
        for n in range(9):
            picture = noise(n, 48, 64, 3)
            if 4 <= n <= 6:
                masks[n] = spot(48, 64) > 0
                picture[masks[n] > 0] = 10
            files[f"testing/frames/{scene}_0014/{n:03d}.jpg"] = encode(picture, "JPEG", quality=90)
        files[f"testing/test_pixel_mask/{scene}_0014.npy"] = npy(masks)
        files[f"testing/test_frame_mask/{scene}_0014.npy"] = npy(masks.any((1, 2)))
    return files


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def avi(pictures: Iterable[np.ndarray]) -> bytes:
    """A video, coded as the published ones are."""
    import cv2

    first, *others = pictures
    with tempfile.NamedTemporaryFile(suffix=".avi") as file:
        fourcc = cv2.VideoWriter.fourcc(*"XVID")
        writer = cv2.VideoWriter(file.name, fourcc, 24, (first.shape[1], first.shape[0]))
        for picture in (first, *others):
            writer.write(np.ascontiguousarray(picture[..., ::-1]))
        writer.release()
        return Path(file.name).read_bytes()


def littered(files: Files) -> Files:
    """With what operating systems leave behind, in each folder and at the top."""
    folders = {"", *(name.rpartition("/")[0] + "/" for name in files if "/" in name)}
    return files | {folder + name: b"litter" for folder in folders for name in LEFTOVERS}


def write_folder(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: Files) -> Path:
    """As MVTec packs it: folders first, and nothing in it may be written to."""
    with tarfile.open(path, "w:xz", preset=0) as archive:
        folders = sorted({name.rpartition("/")[0] for name in files})
        for folder in folders:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o555
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o444
            archive.addfile(info, io.BytesIO(content))
    return path
