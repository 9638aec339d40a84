"""A number once computed, in a small JSON file, found again by all that decides it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxsode import report
from jaxsode.datasets import Dataset, Split
from jaxsode.errors import OutputError
from jaxsode.home import readable

SCHEMA = 1
METRICS_VERSION = 1
"""One more whenever a metric's value changes for the same maps."""

Key = Mapping[str, Any]
"""What decides a cell's numbers, as JSON holds it."""

OF_DATA = frozenset(("pictures", "size", "preparation", "full_mask", "weights"))
"""Of a key what only data and weights tell."""


def fingerprint(dataset: Dataset, split: Split) -> str:
    """Of the pictures and masks that a split consists of, byte for byte, and what each is taken for.

    Args:
        dataset: that holds them.
        split: of it.

    Returns:
        Sixteen hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in (split.train, split.test, split.left_out):
        digest.update(f"{len(part)};".encode())
        for index in part:
            example, record = dataset.examples[index], dataset.records[index]
            told = (example.name, example.kind, example.defective)
            digest.update(repr(told).encode("utf-8", "surrogateescape"))
            for name in ("picture", "mask"):
                content = record.get(name) or b""
                digest.update(f"{len(content)};".encode())
                digest.update(content)
    return digest.hexdigest()[:16]


def digest(key: Key) -> str:
    """Sixteen hexadecimal digits of a key."""
    text = json.dumps(key, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


@dataclass(frozen=True)
class Cells:
    """A folder of cells.

    A file is written whole or not at all. Two processes may fill one folder: what both compute is the same.

    Attributes:
        folder: DATASET/SPLIT/NAME-DIGEST.json lies in it. It need not exist.
        made: digests of those that this process computed.
    """

    folder: Path
    made: set[str] = field(default_factory=set)

    def path(self, key: Key) -> Path:
        """Where a cell lies."""
        name = f"{key['kind']}-{key['label']}" if key["kind"] != "metrics" else str(key["label"])
        plain = "".join(c if c.isalnum() or c in "-._" else "-" for c in name)[:120]
        return self.folder / key["dataset"] / str(key["split"]) / f"{plain}-{digest(key)}.json"

    def get(self, key: Key) -> dict[str, Any] | None:
        """What was computed, or None.

        Args:
            key: of the cell.

        Raises:
            OutputError: the file is no such cell.
        """
        path = self.path(key)
        page = report.read_json(path)
        if page is None:
            return None
        if not isinstance(page, dict) or page.get("key") != json.loads(json.dumps(key)):
            raise OutputError(f"{readable(path)} is another cell than its name says: remove it")
        return page

    def matching(self, part: Key) -> dict[str, Any] | None:
        """What was computed, known by a part of its key: where data or weights aren't there to tell the rest.

        Args:
            part: of the key; all but what data and weights decide.

        Raises:
            OutputError: there are two, of other data or other weights.
        """
        part = json.loads(json.dumps(part))
        found: list[tuple[Path, dict[str, Any]]] = []
        for path in sorted((self.folder / part["dataset"] / str(part["split"])).glob("*.json")):
            page = report.read_json(path)
            key = page.get("key", {}) if isinstance(page, dict) else {}
            if {name: value for name, value in key.items() if name not in OF_DATA} == part:
                found.append((path, page))
        if len(found) > 1:
            raise OutputError(
                f"{readable(found[0][0])} and {readable(found[1][0].name)} are of other data or other "
                "weights: have these at hand, or remove one"
            )
        return found[0][1] if found else None

    def put(self, key: Key, result: Mapping[str, Any]) -> None:
        """Keep what was computed.

        Args:
            key: of the cell.
            result: of what JSON can hold.

        Raises:
            OutputError: the folder can't be written.
        """
        path = self.path(key)
        try:
            report.write_json(path, {"key": key, **result})
        except FileNotFoundError:
            if not path.exists():  # else another process has just put the same one there
                raise
        except OSError as error:
            raise OutputError(
                f"{readable(path)} can't be written ({error.strerror}): choose another --output"
            ) from error
        self.made.add(digest(key))
