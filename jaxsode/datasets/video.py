"""Clips: frames of a video file by OpenCV, and of a `.npy` file, a frame at a time."""

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from jaxsode.errors import DataError

from .files import DAMAGED, Files, FolderFiles

_MISCOUNT = 2  # frames that a container may announce beyond those that its codec gives


def encoded_frames(files: Files, name: str, *, every: int) -> Iterator[tuple[int, bytes]]:
    """Every so many-th frame of a video, the first to begin with, as JPEG of quality 95, colour in full.

    They have been through a lossy codec already. At 256 × 256 this one moves UCSD Ped2's by a quarter of a
    grey level on average; lossless, the frames of ShanghaiTech would take some 40 GB. A video that ends too
    early is found out; of bytes changed within one OpenCV tells nothing, but its decoder prints them.

    Args:
        files: where it lies.
        name: of the video.
        every: at least 1.

    Yields:
        The frame's number, from 0, and its file's bytes.

    Raises:
        DataError: OpenCV isn't installed, or the video is cut short or unreadable.
    """
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(
            f"{name} in {files.path} is a video, and OpenCV, which reads them, is not installed: "
            f"pip install 'jaxsode[video]' ({error})"
        ) from error
    with _on_disk(files, name) as path:
        capture = cv2.VideoCapture(str(path))
        try:
            announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
            number = 0
            while capture.grab():
                if number % every == 0:
                    given, pixels = capture.retrieve()
                    if not given:
                        break
                    buffer = io.BytesIO()
                    colour = Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))
                    colour.save(buffer, "JPEG", quality=95, subsampling=0)
                    yield number, buffer.getvalue()
                number += 1
        finally:
            capture.release()
    if number == 0 or number < announced - _MISCOUNT:
        raise DataError(
            f"{name} in {files.path} is cut short or damaged, {number} of {announced} frames can be read: "
            "get it again, or put its frames in a folder of its name under training/frames"
        )


def npy_frames(files: Files, name: str) -> Iterator[np.ndarray]:
    """The frames of an array (frames, height, width), where no more than one is in memory.

    Args:
        files: where it lies.
        name: of the `.npy` file.

    Yields:
        Boolean (height, width): what is not 0.

    Raises:
        DataError: it is no such array of booleans or integers, or ends too early.
    """
    where = f"{name} in {files.path}"
    with files.open(name) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, by_columns, dtype = read(file)
        except (ValueError, *DAMAGED) as error:
            raise DataError(f"{where} is no .npy file, or only the start: get it again ({error})") from error
        if len(shape) != 3 or by_columns or dtype.kind not in "biu":
            order = "Fortran" if by_columns else "C"
            raise DataError(
                f"{where} is {dtype} {shape} in {order} order: save booleans or integers (frames, height, "
                "width) in C order"
            )
        frames, height, width = shape
        length = height * width * dtype.itemsize
        for number in range(frames):
            try:
                content = file.read(length)
            except DAMAGED as error:
                raise DataError(f"{where} is damaged: get it again ({error})") from error
            if len(content) < length:
                raise DataError(f"{where} ends in frame {number} of {frames}: get it again")
            yield np.frombuffer(content, dtype).reshape(height, width) != 0


@contextmanager
def _on_disk(files: Files, name: str) -> Iterator[Path]:
    """The file's path, of a temporary copy where it lies in a zip."""
    if isinstance(files, FolderFiles):
        yield files.path / name
        return
    with (
        tempfile.NamedTemporaryFile(prefix="jaxsode-", suffix=Path(name).suffix) as copy,
        files.open(name) as file,
    ):
        try:
            shutil.copyfileobj(file, copy)
            copy.flush()
        except DAMAGED as error:
            raise DataError(
                f"{name} in {files.path} can't be copied to {tempfile.gettempdir()}: get it again, or make "
                f"room there ({error})"
            ) from error
        yield Path(copy.name)
