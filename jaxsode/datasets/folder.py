"""A folder of one's own pictures, read where they lie: nothing is copied, nothing is written there.

The first layout that matches counts: a CSV `path,split,label,mask`; MVTec's (train/good, test/KIND,
ground_truth/KIND/NAME_mask.png); good/ and bad/, with or without masks/; good/ alone; plain pictures, all
taken to be good.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from jaxsode.errors import ArgumentError, DataError
from jaxsode.home import expanded
from jaxsode.preparation import MAX_PIXELS, RANGES, Preparation, Resize

from . import facts as facts_of
from . import layouts, sizes, table, understood
from .dataset import Card, Dataset, Example, Progress, Split
from .decode import check_range
from .facts import Facts
from .files import Files
from .layouts import GOOD, Entry, Layout
from .listing import TreeFiles, UnpackedFiles, passed_over, shown
from .reading import suffixes

NAME = "folder"
CARD = Card(NAME, channels=3, description="Pictures of your own, read where they lie.")
ON_BAD = ("stop", "skip")


def load(
    *,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    size: tuple[int, int] | None = None,
    hold_out: float | None = None,
    resize: Resize = "squeeze",
    range: int | None = None,
    max_pixels: int = MAX_PIXELS,
    on_bad_picture: str = "stop",
    testing: bool = True,
) -> Dataset:
    """The pictures of a folder, or of a zip.

    Where no good pictures are set apart for testing, all are fitted and `Split.left_out` has them. What was
    understood stands in `Dataset.notes`, a line each.

    Args:
        data_dir: the folder, a zip of it, or its CSV. It is only read.
        progress: called with (done, total) pictures while they are looked at, the first time.
        size: (height, width) they are resized to; by default the shorter side is 256, see `sizes.default`.
        hold_out: the fraction of good pictures that is tested on, evenly spread over their order.
        resize: see `Preparation`.
        range: what is white in files of 16 bits; by default the least of `RANGES` that holds all values of
            the training pictures.
        max_pixels: see `Preparation`.
        on_bad_picture: "stop" at one that can't be used, or "skip" it: then `Dataset.skipped` has it.
        testing: whether `Dataset.notes` say what is tested.

    Raises:
        ArgumentError: an option out of its range, or one that contradicts the layout.
        DataError: there are no pictures, no layout says what they are, or one can't be used.
    """
    if data_dir is None:
        raise ArgumentError("a folder of your own has no place by itself: name it by --data-dir")
    if on_bad_picture not in ON_BAD:
        raise ArgumentError(f"on_bad_picture is {on_bad_picture!r}: choose one of {', '.join(ON_BAD)}")
    if hold_out is not None and not 0 < hold_out < 1:
        raise ArgumentError(f"hold_out is {hold_out}: it must be above 0 and below 1")
    preparation = Preparation(resize, range, upright=True, marked=True, max_pixels=max_pixels)
    files, over, csv = _files(expanded(data_dir))
    source = shown(str(data_dir))
    layout, over = _layout(files, over, csv, source)
    stop = on_bad_picture == "stop"
    found = facts_of.all_of(files, layout.entries, max_pixels=max_pixels, stop=stop, progress=progress)
    read = _Read(source, layout.entries, found)
    split = read.split(hold_out)
    if range is None and (white := read.least_range(split)) is not None:
        preparation = Preparation(resize, white, upright=True, marked=True, max_pixels=max_pixels)
    read = read.within(preparation.range, stop=stop)
    split = read.split(hold_out)
    examples = _examples(read.entries)
    size = size or sizes.default([each.size for each in read.facts])
    return Dataset(
        name=NAME,
        size=size,
        channels=1 if all(each.is_grey for each in read.facts) else 3,
        paper_full_mask=False,
        examples=examples,
        splits={split.name: split},
        records=_Records(files, read.entries),
        source=source,
        notes=understood.lines(
            source=source,
            layout=layout.says,
            examples=examples,
            masked=[entry.mask is not None for entry in read.entries],
            facts=read.facts,
            split=split,
            size=size,
            preparation=preparation,
            asked_range=range is not None,
            passed_over=over,
            skipped=read.skipped,
            testing=testing,
        ),
        skipped=read.skipped,
        preparation=preparation,
        fingerprint=sha256("".join(each.digest + each.mask for each in read.facts).encode()).hexdigest(),
    )


class _Read:
    """Pictures that can be used, and those that can't."""

    def __init__(self, source: str, entries: Sequence[Entry], found: Sequence[facts_of.Found]):
        self.source = source
        both = list(zip(entries, found, strict=True))
        usable = [(entry, each) for entry, each in both if isinstance(each, Facts)]
        self.entries = [entry for entry, _ in usable]
        self.facts = [each for _, each in usable]
        self.skipped = {shown(entry.picture): each for entry, each in both if isinstance(each, str)}

    def split(self, hold_out: float | None) -> Split:
        """What is fitted and what tested, as indices into `entries`."""
        good = [i for i, entry in enumerate(self.entries) if entry.kind == GOOD and entry.part != "test"]
        test = [i for i, entry in enumerate(self.entries) if entry.part == "test"]
        apart = any(self.entries[i].kind == GOOD for i in test)
        if hold_out is not None:
            if apart:
                raise ArgumentError(
                    f"{self.source} sets good pictures apart for testing already: leave --hold-out away"
                )
            n = max(round(hold_out * len(good)), 1)
            held = {good[i * len(good) // n] for i in range(n)} if good else set()
            good = [i for i in good if i not in held]
            test = sorted({*test, *held})
        if not good and self.skipped:
            first = next(iter(self.skipped.values()))
            raise DataError(f"{self.source} has no good pictures that can be used: {first}")
        if not good:
            raise DataError(f"{self.source} has no good pictures to fit on: add some, or hold out fewer")
        left_out = good if hold_out is None and not apart and len(good) > 1 else []
        return Split(NAME, tuple(good), tuple(test), tuple(left_out))

    def least_range(self, split: Split) -> int | None:
        """The least range that holds all training pictures of 16 bits; None if there are none."""
        deep = [self.facts[i].highest for i in split.train if self.facts[i].bits == 16]
        return min(end for end in RANGES if end >= max(deep)) if deep else None

    def within(self, white: int | None, *, stop: bool) -> "_Read":
        """Those whose values don't exceed the range."""
        found: list[facts_of.Found] = []
        for entry, each in zip(self.entries, self.facts, strict=True):
            line = _out_of_range(shown(entry.picture), each, white)
            if line is not None and stop:
                raise DataError(f"{line} (in {self.source})")
            found.append(each if line is None else line)
        again = _Read(self.source, self.entries, found)
        again.skipped = self.skipped | again.skipped
        return again


def _out_of_range(where: str, each: Facts, white: int | None) -> str | None:
    if each.bits == 8:
        return None
    if white is None:
        return (
            f"{where} has 16 bits, and no training picture has: say what white is by --range, one of "
            f"{', '.join(map(str, RANGES))}"
        )
    try:
        check_range(each.highest, white, where)
    except DataError as error:
        return str(error)
    return None


def _files(path: Path) -> tuple[Files, dict[str, str], str | None]:
    """The files, what else lies there and why it doesn't count, and the name of the CSV if one was named."""
    if path.is_dir():
        files = TreeFiles(path)
        return files, dict(files.skipped), None
    suffix = path.suffix.lower()
    if path.is_file() and suffix == ".zip":
        files = UnpackedFiles(path, telling=layouts.TELLING)
        return files, dict(files.skipped), None
    if path.is_file() and suffix == ".csv":
        files = TreeFiles(path.parent)
        return files, dict(files.skipped), path.name
    what = "is a file" if path.exists() else "does not exist"
    raise DataError(f"{shown(str(path))} {what}: name a folder of pictures, a zip of one, or its CSV")


def _layout(
    files: Files, over: dict[str, str], csv: str | None, source: str
) -> tuple[Layout, dict[str, str]]:
    """The layout, and all that was passed over, by name."""
    names = []
    for name in files.names:
        reasons = [reason for part in name.split("/") if (reason := passed_over(part)) is not None]
        if reasons:
            over[name] = reasons[0]
        else:
            names.append(name)
    tables = {}
    for name in [csv] if csv else names:
        if name.lower().endswith(".csv") and "/" not in name:
            content = files.read(name)
            if csv or table.is_ours(content):
                tables[name] = table.text_of(content, shown(name))
    if len(tables) > 1:
        raise DataError(
            f"{source} has several tables of pictures, {understood.named(map(shown, tables))}: name the one "
            "that counts by --data-dir"
        )
    known = suffixes()
    pictures = [name for name in names if f".{name.lower().rpartition('.')[2]}" in known]
    if tables:
        ((name, text),) = tables.items()
        entries = table.entries(text, where=f"{shown(name)} in {source}", files=names)
        layout = Layout(f"as {shown(name)} says", tuple(entries), {})
    else:
        layout = layouts.of_folders(pictures, where=source)
    if not layout.entries:
        raise DataError(f"{source} has no pictures: name a folder that has, .png or .jpg for example")
    used = {entry.picture for entry in layout.entries} | {entry.mask for entry in layout.entries}
    may_be = frozenset(pictures)
    for name in names:
        if name not in used and name not in tables:
            other = "not in the CSV" if tables else "outside of the layout"
            over[name] = layout.skipped.get(name, other if name in may_be else "without a picture's suffix")
    return layout, {shown(name): reason for name, reason in over.items()}


def _examples(entries: Sequence[Entry]) -> tuple[Example, ...]:
    """By their paths, without the suffix where that leaves one name for each."""
    paths = [shown(entry.picture) for entry in entries]
    bare = [str(PurePosixPath(path).with_suffix("")) for path in paths]
    times = Counter(bare)
    return tuple(
        Example(
            short if times[short] == 1 else path,
            group=NAME,
            kind=shown(entry.kind),
            part=entry.part,
            defective=entry.kind != GOOD,
        )
        for entry, path, short in zip(entries, paths, bare, strict=True)
    )


@dataclass(frozen=True)
class _Pair(Mapping[str, bytes]):
    """A picture's file and its mask's, read when asked for."""

    files: Files
    names: Mapping[str, str]

    def __getitem__(self, which: str, /) -> bytes:
        return self.files.read(self.names[which])

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class _Records:
    files: Files
    entries: Sequence[Entry]

    def __getitem__(self, index: int, /) -> Mapping[str, bytes]:
        entry = self.entries[index]
        return _Pair(self.files, {"picture": entry.picture} | ({"mask": entry.mask} if entry.mask else {}))
