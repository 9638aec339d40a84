"""What a target of `reproduce` is: rows of methods, columns of data, and the paper's numbers, from a TOML."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from jaxsode.errors import ArgumentError
from jaxsode.experiment.plan import Request, check_choice, folder
from jaxsode.home import readable
from jaxsode.report import METRICS

SEEDS = (0, 1, 2, 3, 4)
KINDS = ("table", "curve", "spectra", "maps", "time")
Deviation = Literal["seeds", "splits"]


@dataclass(frozen=True)
class Column:
    """Of a table: splits of a data set, and the metric that is shown of them.

    Attributes:
        label: its heading; the paper's numbers are found by it.
        dataset: of `jaxsode.datasets`.
        splits: whose mean it is; empty: all that the data set has.
        metric: one of `METRICS`; None takes the table's.
        deviation: what ± is formed over.
        compare: the column whose paper's numbers have the order that ours are compared with, where the paper
            has none for this one.
        without: beginnings of names: those pictures are neither fitted nor tested on.
        note: of the data, for those who read the numbers.
    """

    label: str
    dataset: str
    splits: tuple[str, ...] = ()
    metric: str | None = None
    deviation: Deviation = "seeds"
    compare: str | None = None
    without: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Row:
    """A method, and what the paper has for it.

    Attributes:
        label: its name.
        method: fields of `Request`: what is asked of the method and of the network. None: the paper only
            cites it.
        complexity: as the paper's column has it.
        paper: its numbers, by the columns' labels.
        paper_deviation: its ±, by the same.
        columns: labels of those that it is for; all where there are none.
        keep: of the layers that are extracted those whose features are kept, as they lie on the finest grid.
        test_every: of the test pictures every so-manieth is scored.
        seeds: those that it is run with, where they are other than the others'.
        slow: why it is computed only where that is asked for.
        recorded: numbers by column that an earlier run left, as `METRICS` lists them; for want of cells.
        record: what run that was.
        note: that a reader needs.
        line: of a curve: whether it is a line for all k.
        papers: whether backbone and k are the paper's, so that its numbers can be subtracted.
    """

    label: str
    method: Mapping[str, Any] | None = None
    complexity: str | None = None
    paper: Mapping[str, float] = field(default_factory=dict)
    paper_deviation: Mapping[str, float] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    keep: tuple[int, ...] = ()
    test_every: int = 1
    seeds: tuple[int, ...] | None = None
    slow: str | None = None
    recorded: Mapping[str, Sequence[float]] = field(default_factory=dict)
    record: str | None = None
    note: str | None = None
    line: bool = False
    papers: bool = True

    def setting(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Its fields of `Request`; what it doesn't say itself is the target's.

        Args:
            shared: the target's own.
        """
        assert self.method is not None
        own = dict(shared) | dict(self.method)
        if own.get("embedding") == "identity" and not str(own.get("precision")).startswith("eigenvectors"):
            own.pop("k", None)
        return own


@dataclass(frozen=True)
class Target:
    """A table or a figure of the paper.

    Attributes:
        name: "table1".
        source: what it was read from, as `read` takes it.
        title: above it.
        kind: one of `KINDS`.
        caption: below it.
        metric: that its columns show unless they say otherwise.
        method: fields of `Request` that its rows share.
        columns, rows: see there.
        k: of a curve.
        costs: whether time and memory of each row are measured.
        transpose: whether its columns are printed as lines.
        figures: what else the paper says of it, by name.
        pictures: of the panels, how many there are of each split.
    """

    name: str
    title: str
    source: str = ""
    kind: str = "table"
    caption: str = ""
    metric: str = "pro.paper"
    method: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    k: tuple[int, ...] = ()
    costs: bool = False
    transpose: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)
    pictures: int = 1

    def narrowed(
        self,
        *,
        dataset: Sequence[str] = (),
        split: Sequence[str] = (),
        rows: Sequence[str] = (),
        k: Sequence[int] = (),
        backbone: Sequence[str] = (),
    ) -> "Target":
        """The part of it that is asked for.

        A backbone or a k that a row has for itself keeps or drops that row; for the others it takes the place
        of the target's, so that a column may then be no longer the paper's.

        Args:
            dataset: names of data sets whose columns stay; all where there are none.
            split: names of splits that columns are cut to.
            rows: labels that stay.
            k, backbone: see above; of a curve the k that are drawn.

        Raises:
            ArgumentError: nothing is left, or a row by that name isn't there.
        """
        known = {row.label.casefold(): row for row in self.rows}
        for label in rows:
            if label.casefold() not in known:
                choices = ", ".join(row.label for row in self.rows)
                raise ArgumentError(f"--row {readable(label)} is none of {self.name}: choose {choices}")
        kept = [known[label.casefold()] for label in rows] or list(self.rows)
        made = replace(self, rows=tuple(kept))
        if dataset:
            made = replace(made, columns=tuple(c for c in made.columns if c.dataset in dataset))
        if split:
            # A column that names none has all, and so those that are asked for.
            cut = [(c, tuple(s for s in c.splits or split if s in split)) for c in made.columns]
            # All of a column, or a column of its own for what is left of it.
            columns = [
                c if left == c.splits else replace(c, label=f"{c.label}: {', '.join(left)}", splits=left)
                for c, left in cut
                if left
            ]
            made = replace(made, columns=tuple(columns))
        if k and self.k:
            made = replace(made, k=tuple(k))
        elif k:
            made = made._with("k", k)
        if backbone:
            made = made._with("backbone", backbone)
        if not made.rows or (self.columns and not made.columns):
            raise ArgumentError(
                f"nothing of {self.name} is left: ask for other data sets, splits, k or backbones"
            )
        return made

    def _with(self, name: str, values: Sequence[Any]) -> "Target":
        rows: list[Row] = []
        for row in self.rows:
            if row.method is None or name not in row.setting(self.method):
                rows.append(row)
            elif name in row.method:
                rows += [row] if row.method[name] in values else []
            elif list(values) == [self.method.get(name)]:
                rows.append(row)
            else:
                rows += [_other(row, name, value, several=len(values) > 1) for value in values]
        return replace(self, rows=tuple(rows))

    def sweep(self) -> Iterator[Row]:
        """The rows; of a curve one for each k."""
        for row in self.rows:
            if not self.k or row.line or row.method is None:
                yield row
                continue
            for k in self.k:
                yield replace(row, label=f"{row.label}, k = {k}", method=dict(row.method) | {"k": k})


def read(name: str) -> Target:
    """A target.

    Args:
        name: of one in configs/paper, or the path of a TOML of one's own.

    Raises:
        ArgumentError: there is none, or it says what it can't.
    """
    path = Path(name) if name.endswith(".toml") else places().get(name)
    if path is None or not path.is_file():
        raise ArgumentError(
            f"{readable(name)} is no target: choose {', '.join(places())}, or give a TOML of your own"
        )
    try:
        page = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"{readable(path)} can't be read: {error}") from error
    where = readable(path.name)
    columns = [_made(Column, each, f"{where}, [[column]]") for each in page.pop("column", [])]
    rows = [_made(Row, each, f"{where}, [[row]]") for each in page.pop("row", [])]
    target = _made(Target, {"name": path.stem, "source": name} | page, where)
    _check(target, rows, columns, where)
    return replace(target, rows=tuple(rows), columns=tuple(columns))


def places() -> dict[str, Path]:
    """The targets that there are, by name."""
    return {path.stem: path for path in sorted((folder() / "paper").glob("*.toml"))}


def _made(kind: type, page: Any, where: str) -> Any:
    names = {f.name for f in fields(kind)}
    if not isinstance(page, dict):
        raise ArgumentError(f"{where} is no table: give its fields, {', '.join(sorted(names))}")
    for name in page:
        if name not in names:
            raise ArgumentError(f"{where}: {readable(name)} is unknown: choose of {', '.join(sorted(names))}")
    try:
        return kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in page.items()})
    except TypeError as error:
        raise ArgumentError(f"{where}: {error}") from error


def _check(target: Target, rows: Sequence[Row], columns: Sequence[Column], where: str) -> None:
    check_choice(f"kind of {where}", target.kind, KINDS)
    known = {f.name for f in fields(Request)}
    for what, asked in (
        (where, target.method),
        *((f"{where}, {row.label}", row.method or {}) for row in rows),
    ):
        for name in asked:
            if name not in known:
                raise ArgumentError(f"{what}: {readable(name)} is nothing that a method has")
    for metric in (target.metric, *(c.metric for c in columns if c.metric)):
        check_choice(f"metric of {where}", metric, METRICS)
    labels = {c.label for c in columns}
    for column in columns:
        if column.compare is not None and column.compare not in labels:
            raise ArgumentError(f"{where}, {column.label}: there is no column {readable(column.compare)}")
    for row in rows:
        for name in (*row.paper, *row.paper_deviation, *row.recorded, *row.columns):
            if name not in labels:
                raise ArgumentError(f"{where}, {row.label}: there is no column {readable(name)}")
    for each, what in ((rows, "rows"), (columns, "columns")):
        names = [x.label for x in each]
        if len(set(names)) < len(names):
            raise ArgumentError(f"{where}: two {what} have one label")


def _other(row: Row, name: str, value: Any, *, several: bool) -> Row:
    """With another value than the paper's: its numbers then are good for the order alone."""
    label = f"{row.label}, {name} = {value}" if several else row.label
    return replace(row, label=label, method=dict(row.method or {}) | {name: value}, papers=False)
