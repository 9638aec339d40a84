"""From cells to what is read: numbers with deviations, tables, and whether the order is the paper's."""

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxsode.report import METRICS, flatten
from jaxsode.reproduce.compute import Found, Wanted
from jaxsode.reproduce.rows import Column, Row, Target

NAMES = {
    "pixel_auroc.pooled": "ROC (pooled)",
    "pixel_auroc.paper": "ROC (paper)",
    "pro.pooled": "PRO (pooled)",
    "pro.paper": "PRO (paper)",
    "image_auroc": "picture ROC",
}
"""Of `METRICS`, in a heading."""

NOTHING = "–"
Results = Mapping[tuple[str, str], Sequence[tuple[Wanted, Found]]]
"""By the labels of row and column, see `jaxsode.reproduce.compute.all_wanted`."""


@dataclass(frozen=True)
class Number:
    """A mean over splits of means over seeds.

    Attributes:
        value: None where any part is missing.
        seeds: mean over splits of the deviation over seeds; None of one seed.
        splits: deviation over splits; None of one split.
        why: there is no value.
        record: it was not computed as a cell, but left by this.
    """

    value: float | None
    seeds: float | None = None
    splits: float | None = None
    why: str = ""
    record: str | None = None


@dataclass(frozen=True)
class Table:
    """Of texts.

    Attributes:
        title: above it.
        headings: of its columns; the first column's are labels.
        lines: as many texts each.
        notes: below it.
    """

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default=())

    def markdown(self) -> str:
        """As Markdown, its title as a heading."""
        rows = [self.headings, ["---"] * len(self.headings), *self.lines]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        notes = "".join(f"\n- {note}" for note in self.notes)
        return f"## {self.title}\n\n{table}\n" + (f"{notes}\n" if notes else "")


def number(row: Row, column: Column, metric: str, found: Sequence[tuple[Wanted, Found]]) -> Number:
    """The number of a row and a column.

    Args:
        row, column: which.
        metric: of `METRICS`.
        found: its cells.
    """
    reasons = list(dict.fromkeys(f.why for _, f in found if f.page is None))
    if not found or reasons:
        if column.label in row.recorded:
            return Number(row.recorded[column.label][METRICS.index(metric)], record=row.record)
        return Number(None, why="; ".join(_joined(reasons)) or ("" if row.method else "cited"))
    by_split: dict[str, list[float | None]] = {}
    for each, f in found:
        assert f.page is not None
        by_split.setdefault(each.split, []).append(flatten(f.page["scores"])[metric])
    if any(value is None for values in by_split.values() for value in values):
        return Number(None, why="not defined: these pictures have no such metric")
    values = [[float(v) for v in of if v is not None] for of in by_split.values()]
    means = [float(np.mean(of)) for of in values]
    seeds = [float(np.std(of, ddof=1)) for of in values if len(of) > 1]
    return Number(
        float(np.mean(means)),
        seeds=float(np.mean(seeds)) if len(seeds) == len(values) else None,
        splits=float(np.std(means, ddof=1)) if len(means) > 1 else None,
    )


def _joined(reasons: Iterable[str]) -> list[str]:
    """ "a of X is missing", "b of X is missing" as one."""
    parts: dict[str, list[str]] = {}
    others = []
    for reason in reasons:
        name, of, rest = reason.partition(" of ")
        if of and rest.endswith(" is missing") and "weights" not in name:
            parts.setdefault(rest, []).append(name)
        else:
            others.append(reason)
    return [*(f"{', '.join(names)} of {rest}" for rest, names in parts.items()), *others]


def shown(value: float | None) -> str:
    """Three digits, as the paper prints them."""
    return NOTHING if value is None else _three(value)


def _three(value: float, sign: str = "") -> str:
    text = f"{abs(value):.3f}"
    text = text.removeprefix("0") if value < 1 else text
    return (("−" if value < 0 and float(text) else sign) if sign or value < 0 else "") + text


class Footnotes:
    """Numbered reasons, each once."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def mark(self, note: str) -> str:
        """The mark of a note."""
        if note not in self.notes:
            self.notes.append(note)
        return f"[{self.notes.index(note) + 1}]"

    def lines(self) -> list[str]:
        """All of them."""
        return [f"[{i}] {note}" for i, note in enumerate(self.notes, 1)]


def told(value: Number, column: Column, notes: Footnotes) -> str:
    """A number with its deviation, or a dash with the reason.

    Args:
        value, column: which.
        notes: for the reason.
    """
    if value.value is None:
        return (
            NOTHING
            if value.why == "cited"
            else f"{NOTHING} {notes.mark(value.why)}"
            if value.why
            else NOTHING
        )
    text = shown(value.value)
    if column.deviation == "splits" and value.splits is not None:
        text += f" ± {_three(value.splits)}"
        if value.seeds is not None:
            text += f" (over seeds {_three(value.seeds)})"
    elif value.seeds is not None:
        text += f" ± {_three(value.seeds)}"
    return text if value.record is None else f"{text} {notes.mark(f'not computed here: {value.record}')}"


def main_table(target: Target, columns: Sequence[Column], results: Results) -> Table:
    """The paper's table: ours, the paper's, and the difference where data, backbone and k are the paper's.

    Args:
        target, columns: what it is.
        results: of all rows.
    """
    notes = Footnotes()
    rows = list(target.sweep())
    per_column: list[tuple[str, list[str]]] = []
    for column in columns:
        metric = column.metric or target.metric
        numbers = [number(row, column, metric, results.get((row.label, column.label), ())) for row in rows]
        ours = [
            NOTHING if row.columns and column.label not in row.columns else told(n, column, notes)
            for row, n in zip(rows, numbers, strict=True)
        ]
        papers = [_papers(row, column) for row in rows]
        apart = [
            _three(n.value - row.paper[column.label], "+")
            if n.value is not None and n.record is None and row.papers and column.label in row.paper
            else ""
            for row, n in zip(rows, numbers, strict=True)
        ]
        per_column.append((column.label, ours))
        if any(papers):
            per_column.append((f"{column.label}: the paper's", papers))
        if any(apart):
            per_column.append((f"{column.label}: difference", apart))
    labels = [f"{row.label} {notes.mark(row.note)}" if row.note else row.label for row in rows]
    about = [f"{column.label}: {column.note}" for column in columns if column.note]
    metrics = dict.fromkeys(NAMES[column.metric or target.metric] for column in columns)
    title = f"{target.title} ({', '.join(metrics)})"
    if target.transpose:
        return _transposed(title, labels, columns, per_column, [*notes.lines(), *about])
    complexity = [row.complexity or "" for row in rows]
    leading = [("", labels), *([("complexity", complexity)] if any(complexity) else [])]
    headings, cells = zip(*leading, *per_column, strict=True)
    return Table(title, headings, list(zip(*cells, strict=True)), [*notes.lines(), *about])


def _transposed(
    title: str,
    labels: Sequence[str],
    columns: Sequence[Column],
    per_column: Sequence[tuple[str, list[str]]],
    notes: Sequence[str],
) -> Table:
    """Each row as two columns or three."""
    by_heading = dict(per_column)
    kinds = {"": "", "the paper's": ": the paper's", "difference": ": difference"}
    headings, cells = [""], [[column.label for column in columns]]
    for i, label in enumerate(labels):
        for kind, ending in kinds.items():
            texts = [
                by_heading[c.label + ending][i] if c.label + ending in by_heading else "" for c in columns
            ]
            if all(text in ("", NOTHING) for text in texts):
                continue
            headings.append(f"{label}: {kind}" if kind else label)
            cells.append(texts)
    return Table(title, headings, list(zip(*cells, strict=True)), notes)


def _papers(row: Row, column: Column) -> str:
    if column.label not in row.paper:
        return ""
    text = _three(row.paper[column.label])
    deviation = row.paper_deviation.get(column.label)
    return text if deviation is None else f"{text} ± {_three(deviation)}"


def metric_tables(target: Target, columns: Sequence[Column], results: Results) -> list[Table]:
    """All five metrics of each column that has numbers.

    Args:
        target, columns, results: see `main_table`.
    """
    made = []
    seen: list[tuple[Any, ...]] = []
    for column in columns:
        key = (column.dataset, column.splits, column.without)
        if key in seen:  # another metric of the same cells
            continue
        seen.append(key)
        notes = Footnotes()
        lines = []
        for row in target.sweep():
            found = results.get((row.label, column.label), ())
            numbers = [number(row, column, metric, found) for metric in METRICS]
            if any(n.value is not None for n in numbers):
                lines.append((row.label, *(told(n, column, notes) for n in numbers)))
        if lines:
            title = f"All five metrics: {column.label}" + (f" ({column.note})" if column.note else "")
            if column.metric:  # the label names one of them
                title = f"All five metrics: {', '.join(column.splits)} of {column.dataset}"
            made.append(Table(title, ("", *(NAMES[m] for m in METRICS)), lines, notes.lines()))
    return made


def orders(target: Target, columns: Sequence[Column], results: Results) -> list[str]:
    """In words, whether our rows stand in the paper's order: a sentence for each column that can be compared.

    Args:
        target, columns, results: see `main_table`.
    """
    said = []
    for column in columns:
        against = column.compare or column.label
        metric = column.metric or target.metric
        known: list[_Ranked] = []
        for row in target.sweep():
            n = number(row, column, metric, results.get((row.label, column.label), ()))
            comparable = row.papers and not row.keep  # kept layers: another row's figure, on another grid
            if comparable and against in row.paper and n.value is not None and n.record is None:
                known.append(_Ranked(row.label, n.value, n.seeds or 0.0, row.paper[against]))
        apart = [
            (a, b) if a.paper > b.paper else (b, a)
            for a, b in itertools.combinations(known, 2)
            if a.paper != b.paper
        ]
        if not apart:
            continue
        turned: dict[_Ranked, list[_Ranked]] = {}
        for a, b in apart:
            if a.ours < b.ours:
                turned.setdefault(b, []).append(a)
        agreeing = len(apart) - sum(map(len, turned.values()))
        where = column.label if against == column.label else f"{column.label} beside the paper's {against}"
        line = f"{where}: {agreeing} of {len(apart)} pairs of rows in the paper's order."
        if turned:
            listed = "; ".join(
                f"{b} above {', '.join(f'{a} ≈' if _close(a, b) else str(a) for a in below)}"
                for b, below in turned.items()
            )
            line += f" The other way round, the paper's in brackets, ≈ within the seeds' deviation: {listed}."
        said.append(line)
    return said


@dataclass(frozen=True)
class _Ranked:
    label: str
    ours: float
    seeds: float
    paper: float

    def __str__(self) -> str:
        return f"{self.label} {shown(self.ours)} ({shown(self.paper)})"


def _close(a: _Ranked, b: _Ranked) -> bool:
    return abs(a.ours - b.ours) < a.seeds + b.seeds


def as_csv(results: Results) -> str:
    """A line for each cell: row, column, split, seed, the five metrics, the record if it is one.

    Args:
        results: of all rows.
    """
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["row", "column", "dataset", "split", "seed", *METRICS, "record"])
    for (row, column), found in results.items():
        for wanted, f in found:
            if f.page is not None:
                method = wanted.part()["method"]
                values = [flatten(f.page["scores"])[m] for m in METRICS]
                names = [row, column, wanted.plan.dataset, wanted.split, method.get("seed")]
                lines.writerow([*names, *values, f.page.get("record")])
    return out.getvalue()
