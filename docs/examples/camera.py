"""A camera over the line: a decision for each frame, until it ends or Ctrl-C.

    python camera.py DETECTOR [SOURCE]

DETECTOR is what `jaxsode fit` left. SOURCE is a camera's number (0), a video file or address that OpenCV
reads (pip install 'jaxsode[video]'), or a folder of pictures. A camera doesn't wait: its newest frame counts.
"""

import sys
import threading
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from jaxsode.datasets.decode import open_picture
from jaxsode.drift import Drift
from jaxsode.errors import JaxsodeError
from jaxsode.inspection import Inspector
from jaxsode.preparation import Preparation


def of_folder(folder: Path, preparation: Preparation) -> Generator[tuple[str, Image.Image]]:
    """Each file as the detector's own were read: turned upright, 16 bits by their range."""
    for path in sorted(folder.iterdir()):
        yield path.name, open_picture(path.read_bytes(), channels=3, where=str(path), preparation=preparation)


def of_video(source: str) -> Generator[tuple[str, Image.Image]]:
    """Every frame of a file; of a camera the newest, whatever came since the last one."""
    try:
        import cv2
    except ImportError:
        sys.exit("camera.py needs OpenCV for a camera or a video: pip install 'jaxsode[video]'")
    live = source.isdigit()
    video = cv2.VideoCapture(int(source) if live else source)
    if not video.isOpened():
        sys.exit(f"{source} can't be opened: give a camera's number, a video or a folder")

    def image(frame: np.ndarray) -> Image.Image:
        return Image.fromarray(frame[..., ::-1])  # OpenCV has blue first, files and detectors have red

    if not live:
        number = 0
        while (read := video.read())[0]:
            yield f"frame {number}", image(read[1])
            number += 1
        return
    newest: list[tuple[int, np.ndarray]] = []
    come, stop = threading.Condition(), threading.Event()

    def keep() -> None:
        number = 0
        while not stop.is_set() and (read := video.read())[0]:
            with come:
                newest[:] = [(number, read[1])]
                come.notify()
            number += 1
        video.release()
        with come:
            newest[:] = [(-1, np.empty(0))]
            come.notify()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        while True:
            with come:
                come.wait_for(lambda: newest)
                number, frame = newest.pop()
            if number < 0:
                return
            yield f"frame {number}", image(frame)
    finally:  # of Ctrl-C too: the camera is let go of before the program ends
        stop.set()
        keeper.join()


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    detector, source = sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else "0"
    inspector = Inspector.load(Path(detector))
    if inspector.calibration is None:
        sys.exit(f"{inspector.why_no_threshold}")
    preparation = inspector.detector.preparation or Preparation(upright=True)  # as its own pictures were
    size = inspector.detector.size
    drift = Drift(inspector.calibration.scores, inspector.calibration.threshold)
    frames = of_folder(Path(source), preparation) if Path(source).is_dir() else of_video(source)
    try:
        with closing(frames):
            for name, image in frames:
                found = inspector(preparation.resized(image, size)[None])
                told = inspector.told(found, 0, (image.height, image.width))
                line = f"{name}  score {told['score']:.4g}  p {told['p_value']:.2g}  {told['decision']}"
                print(line, flush=True)
                if alarm := drift.add(told["score"], told["decision"] == "defective"):
                    print(alarm, flush=True)
    except JaxsodeError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"{drift.seen} frames, {drift.defective} defective")


if __name__ == "__main__":
    main()
