"""mSTC: ShanghaiTech Campus, surveillance in 13 scenes, each trained on its own videos of nothing unusual.

Published by ShanghaiTech University (Liu, Luo, Lian and Gao, CVPR 2018). A split is a scene. As in the paper,
every fifth frame of the training clips is used, at most 5,000 a scene drawn by seed, and every test frame.

Frames that lie as pictures are read where they lie. Kept in the cache are those of the training videos, and
the masks of the frames with something unusual, as 1-bit PNG: the published arrays take 18 GB.
"""

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxsode.errors import ArgumentError, DataError
from jaxsode.home import expanded, home

from .dataset import Card, Dataset, Example, Progress, Record, Records, Split
from .files import DAMAGED, Files, FolderFiles, ZipFiles, fingerprint, unreadable
from .in_place import Encoded
from .prepared import prepared
from .video import encoded_frames, npy_frames
from .workers import in_order

HOMEPAGE = "https://svip-lab.github.io/dataset/campus_dataset.html"
CARD = Card(
    name="mstc",
    channels=3,
    description="ShanghaiTech Campus: 330 training and 107 test clips of surveillance in 13 scenes.",
    homepage=HOMEPAGE,
    licence="none known to us; for research, ShanghaiTech University: ask its authors for any other use",
    how_to_get=(
        f"get it from {HOMEPAGE} and give the folder shanghaitech that it is unpacked in (with training and "
        "testing), or a zip of it, as --data-dir"
    ),
)
SIZE = (256, 256)
SCENES = tuple(f"{scene:02d}" for scene in range(1, 14))
TRAINING_CLIPS, TEST_CLIPS, TEST_FRAMES = 330, 107, 42_883  # as published

_PATTERNS = ("training/videos/*", "training/frames/*/*", "testing/frames/*/*", "testing/test_pixel_mask/*")
_CLIP = re.compile(r"(?P<scene>\d\d)_\d+")
_FRAME = re.compile(r"(?P<number>\d+)\.(jpe?g|png|bmp)", re.IGNORECASE)
_KINDS = {  # by the two folders above: what lies there, and its suffix
    ("training", "videos"): (".avi", ".mp4"),
    ("testing", "test_pixel_mask"): (".npy",),
}
_CLIPS_AT_ONCE = 2  # OpenCV has threads of its own


@dataclass(frozen=True)
class Clip:
    """A clip: its frames' files in order, or its video, and its masks."""

    name: str  # "01_0014"
    part: str
    frames: dict[int, str] = field(default_factory=dict)
    video: str = ""
    masks: str = ""

    @property
    def scene(self) -> str:
        return self.name.partition("_")[0]


def load(
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    every: int = 5,
    most: int = 5000,
    seed: int = 0,
) -> Dataset:
    """ShanghaiTech Campus, or as many of its scenes as there are.

    Args:
        data_dir: the folder `shanghaitech` with `training` and `testing`, one that holds it, or a zip; by
            default $JAXSODE_HOME/datasets.
        progress: called with (done, total) clips while they are prepared, the first time.
        every: of a training clip's frames every so many-th is used, ≥ 1.
        most: how many training frames of a scene are used, ≥ 1.
        seed: draws them, 0 … 2³² - 1.

    Raises:
        ArgumentError: a number out of its range.
        DataError: the data are missing, or something is wrong with them.
    """
    for name, value, least in (("every", every, 1), ("most", most, 1), ("seed", seed, 0)):
        if not least <= value < 2**32:
            raise ArgumentError(f"{name} is {value}: choose {least} ≤ {name} < 2³²")
    files = _find(home() / "datasets" if data_dir is None else expanded(data_dir))
    clips = _clips(files)
    names = (name for clip in clips for name in (*clip.frames.values(), clip.video, clip.masks) if name)
    key = fingerprint(files, names, decided=("mstc", every))
    examples, stored = prepared(CARD, key, lambda: _records(files, clips, every, progress))
    places = {f"{clip.part}/{clip.name}/{n:06d}": name for clip in clips for n, name in clip.frames.items()}
    scenes = _scenes(clips)
    return Dataset(
        name=CARD.name,
        size=SIZE,
        channels=CARD.channels,
        paper_full_mask=False,
        examples=examples,
        splits={scene: _split(examples, scene, most, seed) for scene in scenes},
        records=_Frames(files, [places.get(example.name, "") for example in examples], stored),
        source=str(files.path),
        licence=CARD.licence,
        notes=tuple(_notes(clips, scenes, sum(example.part == "test" for example in examples))),
    )


class _Frames:
    """Frames from where they lie or else from the cache, and masks from the cache."""

    def __init__(self, files: Files, places: list[str], stored: Records):
        self._files, self._places, self._stored = files, places, stored

    def __getitem__(self, index: int, /) -> Mapping[str, bytes]:
        def mask() -> bytes:
            return self._stored[index]["mask"]

        def picture() -> bytes:
            name = self._places[index]
            return self._files.read(name) if name else self._stored[index]["picture"]

        return Encoded(picture=picture, mask=mask)


def _find(path: Path) -> Files:
    remedy = f"get it again from {HOMEPAGE}"
    try:
        if path.is_file() and path.suffix.lower() != ".zip":
            raise DataError(f"{path} is not a zip: unpack it, and give the folder shanghaitech as --data-dir")
        if path.is_file():
            return ZipFiles(path, remedy)
        for folder in (path, path / "shanghaitech"):
            if folder.is_dir() and (files := FolderFiles(folder, *_PATTERNS)).names:
                return files
        what = "holds no ShanghaiTech Campus" if path.is_dir() else "does not exist"
    except OSError as error:
        raise unreadable(path, error) from error
    raise DataError(f"{path} {what}: {CARD.how_to_get}")


def _clips(files: Files) -> list[Clip]:
    """The clips by scene, training before test, each with all that it needs."""
    clips: dict[tuple[str, str], Clip] = {}
    videos: dict[tuple[str, str], str] = {}
    masks: dict[tuple[str, str], str] = {}

    def put(into: dict, key: object, name: str) -> None:
        if into.setdefault(key, name) != name:
            raise DataError(f"{files.path} has both {into[key]} and {name}: remove one of them")

    for name in files.names:
        *_, top, what, last = "", "", *name.lower().split("/")
        if suffixes := _KINDS.get((top, what)):
            stem, dot, suffix = last.rpartition(".")
            if dot + suffix in suffixes:
                key = (_clip(files, name, stem), "test" if top == "testing" else "train")
                put(masks if suffix == "npy" else videos, key, name)
            continue
        *_, top, frames, clip, file = "", "", "", *name.lower().split("/")
        match = _FRAME.fullmatch(file)
        if frames == "frames" and top in ("training", "testing") and match:
            key = (_clip(files, name, clip), "test" if top == "testing" else "train")
            put(clips.setdefault(key, Clip(*key)).frames, int(match["number"]), name)
    for key, video in videos.items():
        if key in clips:
            raise DataError(
                f"{files.path} has both {video} and frames of it in training/frames: remove one of them"
            )
        clips[key] = Clip(*key, video=video)
    if not clips:
        raise DataError(f"{files.path} holds no clips training/videos/SS_NNN.avi: get it from {HOMEPAGE}")
    checked = [
        _checked(files, clip, masks.get((clip.name, "test"), "") if clip.part == "test" else "")
        for clip in clips.values()
    ]
    if orphans := sorted(masks.keys() - clips.keys()):
        raise DataError(
            f"{files.path} has {masks[orphans[0]]} but no frames testing/frames/{orphans[0][0]}: add them, "
            "or remove it"
        )
    return sorted(checked, key=lambda clip: (clip.scene, clip.part == "test", clip.name))


def _clip(files: Files, name: str, clip: str) -> str:
    match = _CLIP.fullmatch(clip)
    if match is None or match["scene"] not in SCENES:
        raise DataError(
            f"{files.path} has {name}, of no scene of ShanghaiTech Campus (01_… to 13_…): rename or remove it"
        )
    return clip


def _checked(files: Files, clip: Clip, masks: str) -> Clip:
    """The clip with its frames in order, which must be all of them, and its masks."""
    numbers = sorted(clip.frames)
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        lost = next(n for n in range(numbers[0], numbers[-1]) if n not in clip.frames)
        raise DataError(f"{files.path} has no frame {lost} of clip {clip.name}: unpack it again")
    if clip.part == "test" and not masks:
        raise DataError(
            f"{files.path} has frames of {clip.name} but no testing/test_pixel_mask/{clip.name}.npy: add it, "
            "or remove them"
        )
    frames = {n: clip.frames[n] for n in numbers}
    return Clip(clip.name, clip.part, frames=frames, video=clip.video, masks=masks)


def _records(files: Files, clips: list[Clip], every: int, progress: Progress | None) -> Iterator[Record]:
    def of(clip: Clip) -> list[Record]:
        return list(_tested(files, clip) if clip.part == "test" else _trained(files, clip, every))

    for done, records in enumerate(
        in_order(of, clips, workers=_CLIPS_AT_ONCE, ahead=_CLIPS_AT_ONCE), start=1
    ):
        yield from records
        if progress is not None:
            progress(done, len(clips))


def _trained(files: Files, clip: Clip, every: int) -> Iterator[Record]:
    if clip.video:
        frames = encoded_frames(files, clip.video, every=every)
    else:
        frames = ((n, b"") for order, n in enumerate(clip.frames) if order % every == 0)
    for number, encoded in frames:
        yield Record(_example(clip, number, defective=False), encoded)


def _tested(files: Files, clip: Clip) -> Iterator[Record]:
    frames = list(clip.frames.items())
    count = 0
    for count, mask in enumerate(npy_frames(files, clip.masks), start=1):
        if count > len(frames):
            continue
        number, name = frames[count - 1]
        if mask.shape != (size := _size(files, name)):
            raise DataError(
                f"{clip.masks} in {files.path} is {mask.shape[0]} × {mask.shape[1]}, its frame {name} "
                f"{size[0]} × {size[1]} (height × width): get both again"
            )
        buffer = io.BytesIO()
        if defective := bool(mask.any()):
            Image.fromarray(mask).save(buffer, "PNG")
        yield Record(_example(clip, number, defective=defective), b"", buffer.getvalue())
    if count != len(frames):
        raise DataError(
            f"{clip.masks} in {files.path} has {count} frames, its clip {len(frames)}: get both again"
        )


def _size(files: Files, name: str) -> tuple[int, int]:
    """(height, width) of a frame, by its header alone."""
    try:
        with files.open(name) as file, Image.open(file) as image:
            return image.height, image.width
    except (UnidentifiedImageError, *DAMAGED) as error:
        raise DataError(
            f"{name} in {files.path} is not a picture, or only the start: get it again"
        ) from error


def _example(clip: Clip, number: int, *, defective: bool) -> Example:
    kind = "unusual" if defective else "good"
    return Example(f"{clip.part}/{clip.name}/{number:06d}", clip.scene, kind, clip.part, defective)


def _scenes(clips: list[Clip]) -> list[str]:
    """Those that can be both trained and tested on."""
    parts = defaultdict(set)
    for clip in clips:
        parts[clip.scene].add(clip.part)
    return [scene for scene, found in parts.items() if len(found) == 2]


def _split(examples: tuple[Example, ...], scene: str, most: int, seed: int) -> Split:
    train = [i for i, e in enumerate(examples) if (e.group, e.part) == (scene, "train")]
    test = tuple(i for i, e in enumerate(examples) if (e.group, e.part) == (scene, "test"))
    if len(train) > most:
        rng = np.random.default_rng([seed, int(scene)])
        train = sorted(int(i) for i in rng.choice(train, most, replace=False))
    return Split(scene, train=tuple(train), test=test)


def _notes(clips: list[Clip], scenes: list[str], test_frames: int) -> Iterator[str]:
    counts = Counter(clip.part for clip in clips)
    found = (counts["train"], counts["test"], test_frames)
    if found != (TRAINING_CLIPS, TEST_CLIPS, TEST_FRAMES):
        yield (
            f"{found[0]} training clips, {found[1]} test clips and {found[2]:,} test frames are here where "
            f"ShanghaiTech Campus has {TRAINING_CLIPS}, {TEST_CLIPS} and {TEST_FRAMES:,}"
        )
    if lacking := [scene for scene in SCENES if scene not in scenes]:
        yield (
            f"{len(scenes)} of 13 scenes can be trained and tested on, not {', '.join(lacking)}: a mean is "
            "over those that can"
        )
