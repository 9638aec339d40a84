"""A CSV that says which picture is what: path, split, label, mask, a line a picture."""

import csv
import io
from collections.abc import Collection, Iterator

from jaxsode.errors import DataError

from .layouts import GOOD, Entry
from .listing import shown

COLUMNS = ("path", "split", "label", "mask")
_SPLITS = ("train", "test")


def header_of(text: str) -> tuple[list[str], str]:
    """The names of a CSV's columns in lower case, and what divides them: a comma, or what Excel writes."""
    first = io.StringIO(text, newline=None).readline()
    divider = max(",;\t", key=first.count)
    try:
        return [name.strip().lower() for name in next(csv.reader([first], delimiter=divider), [])], divider
    except csv.Error:  # a line of no table of ours
        return [], divider


def is_ours(content: bytes) -> bool:
    """Whether a CSV speaks of pictures: it has a column `path`; or may have, and isn't UTF-8."""
    try:
        return "path" in header_of(content.decode("utf-8-sig"))[0]
    except UnicodeDecodeError:
        return b"path" in content.replace(b"\0", b"").splitlines()[0].lower()  # in UTF-16, too


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
    if twice := [name for name in COLUMNS if header.count(name) > 1]:
        raise DataError(f"{where} has two columns {twice[0]}: leave one of them")
    known = frozenset(files)
    found: dict[str, Entry] = {}

    def file(value: str, line: str) -> str:
        for name in (value, value.replace("\\", "/")):
            if (inner := name.removeprefix("./")) in known:
                return inner
        raise DataError(
            f"{line} names {shown(value)}, which is not there: give its path from the CSV's folder, within it"
        )

    for number, cells in _rows(text, divider, where):
        if not any(cell.strip() for cell in cells):
            continue
        line = f"line {number} of {where}"
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


def _rows(text: str, divider: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """The lines' numbers and cells; a quote that isn't closed must not swallow the next lines' pictures."""
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=divider, strict=True)
    begun = 1
    try:
        for cells in reader:
            if reader.line_num > begun:
                raise DataError(f"line {begun} of {where} has a quote that goes on in the next: close it")
            if begun > 1:
                yield begun, cells
            begun += 1
    except csv.Error as error:
        raise DataError(f"line {begun} of {where} can't be read: mend its quotes ({error})") from error
