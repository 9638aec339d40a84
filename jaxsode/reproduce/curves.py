"""Figure 2: a metric against k, a line for each embedding, and the full rank's dashed."""

import io
from collections.abc import Sequence
from typing import Any

from jaxsode.errors import ArgumentError
from jaxsode.reproduce.rows import Column, Row, Target
from jaxsode.reproduce.tables import NAMES, Footnotes, Number, Results, Table, number, told

STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "jaxsode",
    "svg.fonttype": "none",
}
COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b")


def pyplot() -> Any:
    """Matplotlib's, drawing into files alone.

    Raises:
        ArgumentError: it isn't installed.
    """
    try:
        import matplotlib  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ArgumentError("curves want matplotlib: pip install 'jaxsode[reproduce]'") from error
    matplotlib.use("svg")
    from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports]

    return plt


def as_svg(figure: Any) -> str:
    """A figure's SVG, the same for the same figure; it is closed."""
    file = io.StringIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot().close(figure)
    return file.getvalue()


def at(row: Row, k: int) -> str:
    """The label of a row of a curve at k, as `Target.sweep` has it."""
    return row.label if row.line else f"{row.label}, k = {k}"


def numbers(target: Target, column: Column, row: Row, results: Results) -> list[Number]:
    """A row's number at each k.

    Args:
        target, column, row: which.
        results: of all.
    """
    metric = column.metric or target.metric
    return [number(row, column, metric, results.get((at(row, k), column.label), ())) for k in target.k]


def curve_tables(target: Target, columns: Sequence[Column], results: Results) -> list[Table]:
    """A table for each column of data: a line for each k, a column for each row.

    Args:
        target, columns, results: see `jaxsode.reproduce.tables.main_table`.
    """
    made = []
    for column in columns:
        notes = Footnotes()
        of = [[told(n, column, notes) for n in numbers(target, column, row, results)] for row in target.rows]
        lines = [(str(k), *cells) for k, cells in zip(target.k, zip(*of, strict=True), strict=True)]
        title = f"{target.title}: {column.label} ({NAMES[column.metric or target.metric]})"
        about = [column.note] if column.note else []
        made.append(Table(title, ("k", *(row.label for row in target.rows)), lines, [*notes.lines(), *about]))
    return made


def draw(target: Target, columns: Sequence[Column], results: Results) -> str | None:
    """The curves as SVG, an axis for each column that has numbers; None where none has.

    Args:
        target, columns, results: see `curve_tables`.

    Raises:
        ArgumentError: matplotlib isn't installed.
    """
    known = [
        (column, [(row, numbers(target, column, row, results)) for row in target.rows]) for column in columns
    ]
    known = [(c, rows) for c, rows in known if any(n.value is not None for _, ns in rows for n in ns)]
    if not known:
        return None
    plt = pyplot()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(known), figsize=(4.6 * len(known), 3.8), squeeze=False, layout="constrained"
        )
        for axis, (column, rows) in zip(axes[0], known, strict=True):
            for (row, of), colour in zip(rows, COLOURS, strict=False):
                _line(axis, target, row, of, colour)
            axis.set_title(column.label)
            axis.set_xscale("log")
            axis.set_xticks(target.k, [str(k) for k in target.k])
            axis.minorticks_off()
            axis.set_xlabel("k")
            axis.set_ylabel(NAMES[column.metric or target.metric])
            axis.legend(frameon=False)
        return as_svg(figure)


def _line(axis: Any, target: Target, row: Row, of: Sequence[Number], colour: str) -> None:
    points = [(k, n.value, n.seeds or 0) for k, n in zip(target.k, of, strict=True) if n.value is not None]
    if not points:
        return
    if row.line:
        axis.axhline(points[0][1], color="black", linestyle="--", linewidth=1, label=row.label)
        return
    ks, values, spread = zip(*points, strict=True)
    axis.errorbar(ks, values, yerr=spread, color=colour, marker="o", markersize=4, capsize=3, label=row.label)
