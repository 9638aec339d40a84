"""A CSV that says which picture is what: path, split, label, mask, a line a picture."""

import csv
import io
from collections.abc import Collection

from jaxsode.errors import DataError

from .layouts import GOOD, Entry
from .listing import shown

COLUMNS = ("path", "split", "label", "mask")
_SPLITS = ("train", "test")


def header_of(text: str) -> tuple[list[str], str]:
    """The names of a CSV's columns in lower case, and what divides them: a comma, or what Excel writes."""
    first = text.partition("\n")[0]
    divider = max(",;\t", key=first.count)
    return [name.strip().lower() for name in next(csv.reader([first], delimiter=divider), [])], divider


def is_ours(text: str) -> bool:
    """Whether a CSV speaks of pictures: it has a column `path`."""
    return "path" in header_of(text)[0]


def text_of(content: bytes, where: str) -> str:
    """A CSV's text.

    Args:
        content: the file's bytes.
        where: names it in messages.

    Raises:
        DataError: it isn't UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8: save it as CSV UTF-8") from error


def entries(text: str, *, where: str, files: Collection[str]) -> list[Entry]:
    """The pictures that a CSV lists.

    Args:
        text: the CSV's.
        where: names it in messages.
        files: names of all files there are; paths start where the CSV lies.

    Raises:
        DataError: columns are missing, a file is, or a line contradicts itself or another.
    """
    header, divider = header_of(text)
    if lacking := [name for name in COLUMNS[:3] if name not in header]:
        raise DataError(
            f"{where} has the columns {', '.join(header)} and no {', '.join(lacking)}: give it "
            f"{','.join(COLUMNS)} (mask may be empty), or move it away"
        )
    known = frozenset(files)
    found: dict[str, Entry] = {}

    def file(value: str, line: str) -> str:
        for name in (value, value.replace("\\", "/")):
            if (inner := name.removeprefix("./")) in known:
                return inner
        raise DataError(
            f"{line} names {shown(value)}, which is not there: give its path from the CSV's folder, within it"
        )

    reader = csv.reader(io.StringIO(text), delimiter=divider)
    next(reader)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        line = f"line {reader.line_num} of {where}"
        if len(cells) > len(header):
            raise DataError(f"{line} has {len(cells)} cells under {len(header)} columns: quote its commas")
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        path, split, label = (row.get(name, "") for name in COLUMNS[:3])
        split = split.lower()
        if split not in _SPLITS:
            raise DataError(f"{line} has the split {shown(split)!r}: write train or test")
        if not label:
            raise DataError(f"{line} has no label: write good, or the kind of defect")
        kind = GOOD if label.lower() == GOOD else label
        if split == "train" and kind != GOOD:
            raise DataError(
                f"{line} trains on a picture of {shown(kind)}: train on good ones, test the others"
            )
        picture = file(path, line)
        if picture in found:
            raise DataError(f"{line} names {shown(path)} a second time: leave one of them")
        mask = file(row["mask"], line) if row.get("mask") else None
        found[picture] = Entry(picture, split, kind, mask)
    if not found:
        raise DataError(f"{where} lists no pictures: add a line for each")
    return list(found.values())
