"""What is known of a picture once it has been decoded with its mask: found once for a folder, and kept.

Nothing of the pictures is kept, only sizes, modes and digests, in $JAXSODE_HOME/datasets/folder.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from jaxsode.errors import DataError
from jaxsode.home import home
from jaxsode.preparation import Preparation

from . import leftovers
from .dataset import Progress
from .decode import check_not_turned, check_sizes, converted, open_mask
from .files import Files, fingerprint
from .layouts import GOOD, Entry
from .listing import shown
from .pipeline import WORKERS
from .reading import read
from .workers import in_order

_GREY = ("1", "L", "LA", "La")
_VERSION = 2  # one more whenever the same files would give other facts


@dataclass(frozen=True)
class Facts:
    """Of a picture that can be used.

    Attributes:
        size: (height, width), upright.
        mode: as Pillow calls it: "L", "RGB", "CMYK".
        bits: of each channel, 8 or 16.
        highest: its highest value where it has 16 bits, else 0.
        is_grey: whether it has no colours.
        is_turned: whether its EXIF orientation turns it.
        digest: of its bytes.
        mask: the same of its mask; "" where there is none.
        marked: the share of its pixels that the mask marks.
    """

    size: tuple[int, int]
    mode: str
    bits: int
    highest: int
    is_grey: bool
    is_turned: bool
    digest: str
    mask: str
    marked: float


Found = Facts | str
"""Facts, or the line that says why a picture can't be used."""


def all_of(
    files: Files, entries: Sequence[Entry], *, max_pixels: int, stop: bool, progress: Progress | None
) -> list[Found]:
    """The facts of pictures, from the cache if nothing has changed.

    Args:
        files: where they lie.
        entries: which, and their masks.
        max_pixels: see `Preparation`.
        stop: whether the first that can't be used is an error.
        progress: called with (done, total) while they are decoded.

    Raises:
        DataError: one can't be used, or the cache can't be written.
    """
    names = [name for entry in entries for name in (entry.picture, entry.mask) if name is not None]
    decided = (_VERSION, max_pixels, [(entry.kind == GOOD, entry.mask is not None) for entry in entries])
    key = fingerprint(files, names, decided=decided)
    of_path = sha256(os.fsencode(files.path.absolute())).hexdigest()[:16]
    place = home() / "datasets" / "folder" / f"{of_path}.json"
    found = _kept(place, key)
    if found is None:
        found = list(_examined(files, entries, max_pixels, stop, progress))
        _keep(place, key, found)
    for facts in found:
        if stop and isinstance(facts, str):
            raise _bad(facts, files)
    return found


def _examined(
    files: Files, entries: Sequence[Entry], max_pixels: int, stop: bool, progress: Progress | None
) -> Iterator[Found]:
    preparation = Preparation(upright=True, marked=True, max_pixels=max_pixels)

    def examine(entry: Entry) -> Found:
        try:
            return _examine(files, entry, preparation)
        except DataError as error:
            return str(error)

    for done, found in enumerate(in_order(examine, entries, workers=WORKERS, ahead=2 * WORKERS), start=1):
        if stop and isinstance(found, str):
            raise _bad(found, files)
        yield found
        if progress is not None:
            progress(done, len(entries))


def _examine(files: Files, entry: Entry, preparation: Preparation) -> Facts:
    where, encoded = shown(entry.picture), files.read(entry.picture)
    stored = read(encoded, where=where, max_pixels=preparation.max_pixels)
    values = stored.values
    is_grey = stored.image.mode in _GREY if values is None else values.ndim == 2
    converted(stored, "L" if is_grey else "RGB", where, preparation.range)
    mask = None if entry.mask is None else files.read(entry.mask)
    marked = 0.0
    if mask is not None:
        check_not_turned(stored, where)
        marked = _checked(mask, entry, stored.size, preparation)
    return Facts(
        size=stored.size,
        mode=stored.image.mode if values is None else "L" if values.ndim == 2 else "RGB",
        bits=8 if values is None else 16,
        highest=0 if values is None else int(values.max()),
        is_grey=is_grey,
        is_turned=stored.orientation != 1,
        digest=sha256(encoded).hexdigest(),
        mask="" if mask is None else sha256(mask).hexdigest(),
        marked=marked,
    )


def _checked(mask: bytes, entry: Entry, size: tuple[int, int], preparation: Preparation) -> float:
    """The share of the pixels that a mask marks."""
    where, picture = shown(entry.mask or ""), shown(entry.picture)
    image = open_mask(mask, where=where, preparation=preparation)
    check_sizes(size, (image.height, image.width), where)
    marks = np.asarray(image)
    if marks.all():
        raise DataError(f"{where} marks every pixel: draw what is good in black")
    if entry.kind == GOOD and marks.any():
        raise DataError(f"{where} marks a defect in {picture}, which is among the good: move one of them")
    if entry.kind != GOOD and not marks.any():
        raise DataError(f"{where} is all black and {picture} defective: mark what is, or leave the mask out")
    return float((marks != 0).mean())


def _bad(line: str, files: Files) -> DataError:
    return DataError(f"{line} (in {shown(str(files.path))}; --on-bad-picture skip goes on without it)")


def _kept(place: Path, key: str) -> list[Found] | None:
    try:
        page = json.loads(place.read_text(encoding="utf-8"))
        if page["fingerprint"] != key:
            return None
        return [facts if isinstance(facts, str) else _facts(facts) for facts in page["facts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there are none, or not whole: they are found again


def _facts(page: dict[str, Any]) -> Facts:
    height, width = page.pop("size")
    return Facts(size=(height, width), **page)


def _keep(place: Path, key: str, found: Sequence[Found]) -> None:
    page = {
        "fingerprint": key,
        "facts": [facts if isinstance(facts, str) else asdict(facts) for facts in found],
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=leftovers.prefix(), dir=place.parent) as unfinished:
            whole = Path(unfinished) / place.name
            whole.write_text(json.dumps(page), encoding="utf-8")
            whole.replace(place)
    except OSError as error:
        raise DataError(
            f"can't write what is known of the pictures into {place.parent}: make room there, or set "
            f"JAXSODE_HOME to a folder with room, where you may write ({error.strerror})"
        ) from error
