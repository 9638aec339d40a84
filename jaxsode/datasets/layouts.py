"""What the folders' names say of the pictures in them. The first layout that matches counts."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxsode.errors import DataError

from .listing import shown

GOOD = "good"
TELLING = ("bad", "test", "ground_truth", "masks", "mask", "ng", "defect", "defects", "defective", "anomaly")


@dataclass(frozen=True)
class Entry:
    """A picture and what it is.

    Attributes:
        picture: its file's name.
        part: "train" or "test", "" where nothing says which.
        kind: "good", or what is wrong with it.
        mask: its mask's file; None where there is none.
    """

    picture: str
    part: str
    kind: str
    mask: str | None = None


@dataclass(frozen=True)
class Layout:
    """What was understood.

    Attributes:
        says: which layout, in words.
        entries: the pictures, in the order of their paths.
        skipped: names of files that don't belong to it, and why.
    """

    says: str
    entries: tuple[Entry, ...]
    skipped: Mapping[str, str]


def of_folders(names: Sequence[str], *, where: str) -> Layout:
    """The layout that the folders' names tell; they may be in either case.

    Args:
        names: of all files with a picture's suffix, in order.
        where: names the folder in messages.

    Raises:
        DataError: a folder's name says that not all is good, and no layout says what is what; or a mask
            that may be of several pictures.
    """
    tops = {name.split("/")[0].lower() for name in names if "/" in name}
    in_train_good = [name for name in names if _starts(name, "train", GOOD)]
    if in_train_good:
        return _mvtec(names, in_train_good, where)
    if GOOD in tops:
        return _good_and_bad(names, where, bad="bad" in tops)
    for name in names:
        for depth, folder in enumerate(folders := name.split("/")[:-1]):
            if folder.lower() in TELLING or folder.lower() == GOOD:
                it = "/".join(folders[: depth + 1])
                above = folders[:depth]
                inner = "/".join(above[:-1] if above and above[-1].lower() == "train" else above)
                perhaps = f", {shown(inner)} perhaps" if inner else ""
                raise DataError(
                    f"{where} has a folder {shown(it)}, and no layout says what its pictures are: name the "
                    f"folder that holds good/ or train/good/{perhaps}, or add a CSV path,split,label,mask"
                )
    return Layout("plain pictures, all taken to be good", tuple(Entry(name, "", GOOD) for name in names), {})


def _mvtec(names: Sequence[str], train: list[str], where: str) -> Layout:
    tested = [name for name in names if _starts(name, "test") and name.count("/") >= 2]
    masks = [name for name in names if _starts(name, "ground_truth")]
    of = _masks(tested, masks, lambda name: [_below(name, 1)], where)
    entries = [Entry(name, "train", GOOD) for name in train]
    entries += [Entry(name, "test", _kind(name.split("/")[1]), of.get(name)) for name in tested]
    what = "train/good" + (", test/KIND" if tested else "") + (", ground_truth/KIND" if masks else "")
    used = {*train, *tested, *of.values()}
    skipped = _others(names, used, masks, "outside train/good, test/KIND and ground_truth/KIND")
    return Layout(f"MVTec's ({what})", tuple(entries), skipped)


def _good_and_bad(names: Sequence[str], where: str, *, bad: bool) -> Layout:
    good = [name for name in names if _starts(name, GOOD)]
    defective = [name for name in names if _starts(name, "bad")]
    masks = [name for name in names if _starts(name, "masks")]
    of = _masks(defective, masks, lambda name: [name, _below(name, 1)], where)
    entries = [Entry(name, "", GOOD) for name in good]
    for name in defective:
        folders = name.split("/")[1:-1]
        entries.append(Entry(name, "test", _kind(folders[0]) if folders else "bad", of.get(name)))
    what = "good/ and bad/" if bad else "good/ alone"
    says = f"{what} with masks/" if masks else what
    skipped = _others(names, {*good, *defective, *of.values()}, masks, "outside good/, bad/ and masks/")
    return Layout(says, tuple(entries), skipped)


def _kind(folder: str) -> str:
    return GOOD if folder.lower() == GOOD else folder


def _starts(name: str, *folders: str) -> bool:
    parts = name.split("/")
    return len(parts) > len(folders) and tuple(part.lower() for part in parts[: len(folders)]) == folders


def _below(name: str, depth: int) -> str:
    return "/".join(name.split("/")[depth:])


def _stem(name: str) -> str:
    """Without the suffix, and with folders in lower case, since only they may differ in it."""
    *folders, file = name.split("/")
    return "/".join([*(folder.lower() for folder in folders), file.rpartition(".")[0] or file])


def _masks(
    pictures: Iterable[str], masks: Sequence[str], places: Callable[[str], list[str]], where: str
) -> dict[str, str]:
    """The mask of each picture that has one: of the same name as one of its `places`, or that and _mask."""
    by_stem: dict[str, str] = {}
    for mask in masks:
        stem = _stem(_below(mask, 1)).removesuffix("_mask")
        if other := by_stem.get(stem):
            raise DataError(f"{where} has masks {shown(other)} and {shown(mask)} of one name: remove one")
        by_stem[stem] = mask
    of: dict[str, str] = {}
    taken: dict[str, str] = {}
    for picture in pictures:
        found = [mask for place in places(picture) if (mask := by_stem.get(_stem(place))) is not None]
        if not found:
            continue
        if len(found) > 1 or found[0] in taken:
            first, second = (found[0], found[1]) if len(found) > 1 else (taken[found[0]], picture)
            raise DataError(
                f"{where} has {shown(first)} and {shown(second)}, and can't tell which goes with "
                f"{shown(picture if len(found) > 1 else found[0])}: rename one of them"
            )
        of[picture], taken[found[0]] = found[0], picture
    return of


def _others(names: Sequence[str], used: set[str], masks: Sequence[str], outside: str) -> dict[str, str]:
    of_masks = frozenset(masks)
    return {
        name: "a mask of no picture" if name in of_masks else outside for name in names if name not in used
    }
