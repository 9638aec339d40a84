"""Figure 3: eigenvalues of WᵀCW without ε, in float64, sorted at each location, then averaged over all.

C is the covariance of the aligned features X (N, F) of one location; with Z = XW, centred, WᵀCW = ZᵀZ/N. A
row of the grid is done at a time: N · W · F numbers of float64.
"""

import csv
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import cpu_count
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsode.algebra.precision import EIGENVECTORS
from jaxsode.algebra.pyramid import align
from jaxsode.errors import ArgumentError
from jaxsode.experiment.record import environment
from jaxsode.method import Method
from jaxsode.reproduce.at_hand import AtHand
from jaxsode.reproduce.cells import Cells
from jaxsode.reproduce.compute import Bar, Group, features_of
from jaxsode.reproduce.curves import COLOURS, STYLE, as_svg, pyplot
from jaxsode.reproduce.rows import Column, Row, Target
from jaxsode.reproduce.tables import NOTHING, Footnotes, Results, Table

ABOVE = 1e-4
"""The paper counts the eigenvalues above it."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Of one W.

    Attributes:
        mean: (k,) expected eigenvalues, descending.
        above: share of all eigenvalues of all locations above `ABOVE`; None of the end of a spectrum.
        still: share of them that belong to a chosen channel which never varies at its location: of sampled
            features, whose W has but one 1 in a column; else 0.
    """

    mean: np.ndarray
    above: float | None
    still: float


def spectra(
    maps: Sequence[np.ndarray], Ws: Sequence[np.ndarray], *, done: Callable[[int], None]
) -> list[Spectrum]:
    """The spectrum of WᵀCW for each W.

    Args:
        maps: (N, h, w, C) for each scale, the finest first.
        Ws: (F, k) each.
        done: called with the number of rows of the grid just done.

    Raises:
        ArgumentError: no pictures.
    """
    N, H, width = maps[0].shape[:3]
    if not N:
        raise ArgumentError("there are no pictures to take a covariance of")
    sources = [_sources(m.shape[1:3], (H, width)) for m in maps]
    Ws = [np.asarray(W, np.float64) for W in Ws]
    picked = [np.argmax(W, axis=0) if _selects(W) else None for W in Ws]

    def row(h: int) -> list[tuple[np.ndarray, int, int]]:
        x = [m.reshape(N, -1, m.shape[-1])[:, source[h]] for m, source in zip(maps, sources, strict=True)]
        X = np.concatenate(x, axis=-1, dtype=np.float64).swapaxes(0, 1)  # (W, N, F)
        still = np.all(X[:, :1] == X, axis=1)
        X -= X.mean(axis=1, keepdims=True)
        found = []
        for W, chosen in zip(Ws, picked, strict=True):
            Z = X @ W
            values = np.linalg.eigvalsh(Z.swapaxes(1, 2) @ Z / N)[:, ::-1]
            never = 0 if chosen is None else int(still[:, chosen].sum())
            found.append((values.sum(axis=0), int((values > ABOVE).sum()), never))
        return found

    totals: list[list[Any]] = [[0.0, 0, 0] for _ in Ws]
    with _one_thread(), ThreadPoolExecutor(cpu_count()) as pool:
        for found in pool.map(row, range(H)):
            for total, parts in zip(totals, found, strict=True):
                for i, part in enumerate(parts):
                    total[i] = total[i] + part
            done(1)
    size = H * width
    return [
        Spectrum(values / size, above / (size * W.shape[1]), never / (size * W.shape[1]))
        for W, (values, above, never) in zip(Ws, totals, strict=True)
    ]


def smallest(pictures: int, features: int, k: int) -> bool:
    """Whether the k smallest eigenvalues of C are all 0 for want of pictures: its rank is N − 1 at most.

    Args:
        pictures, features, k: N, F, k.
    """
    return pictures - 1 <= features - k


def complete_spectra(
    cells: Cells, at_hand: AtHand, groups: Sequence[Group], *, bar: Bar, say: Callable[[str], None]
) -> None:
    """Make those that are missing.

    Args:
        cells, at_hand, groups, bar, say: see `jaxsode.reproduce.compute.complete_cells`.
    """
    for group in groups:
        features = features_of(at_hand, group)
        about = environment()
        for name in dict.fromkeys(each.split for each, _ in group):
            members = [(each, key) for each, key in group if each.split == name]
            split, _ = members[0][0].data(at_hand)
            F = sum(features.backbone.channels)
            with bar(f"{members[0][0].plan.dataset} · {name} · features", len(split.train)) as task:
                maps = _gathered(features, split.train, task)
            Ws = [_matrix(each.method, F) for each, _ in members]
            with bar(f"{name} · eigenvalues, rows", maps[0].shape[1]) as task:
                found = _found(members, maps, Ws, F, task)
            for (each, key), spectrum in zip(members, found, strict=True):
                page = {"mean": spectrum.mean.tolist(), "above": spectrum.above, "still": spectrum.still}
                cells.put(key, {"train": len(split.train), "spectrum": page, "environment": about})
                say(f"{each.method} · {name} · finished")


def _found(members: Group, maps: list[np.ndarray], Ws: list[np.ndarray], F: int, done: Any) -> list[Spectrum]:
    """The k smallest of C are the end of all of C's, where they aren't 0."""
    N = maps[0].shape[0]
    ends = [_end(each.method) for each, _ in members]
    asked = [None if k is not None and smallest(N, F, k) else W for k, W in zip(ends, Ws, strict=True)]
    made = iter(spectra(maps, [W for W in asked if W is not None], done=done))
    found = []
    for k, W in zip(ends, asked, strict=True):
        if W is None:
            assert k is not None
            found.append(Spectrum(np.zeros(k), None, 0.0))
            continue
        spectrum = next(made)
        # Sorted at each location before the mean, so that the mean's end is the mean of the ends.
        found.append(spectrum if k is None else Spectrum(spectrum.mean[-k:], None, 0.0))
    return found


def _of_eigenvectors(method: Any) -> bool:
    return isinstance(method, Method) and method.precision in EIGENVECTORS


def _end(method: Any) -> int | None:
    return method.k if _of_eigenvectors(method) else None


def _matrix(method: Any, F: int) -> np.ndarray:
    if not isinstance(method, Method):
        raise ArgumentError(f"{method} has no covariance to show eigenvalues of")
    return np.eye(F) if _of_eigenvectors(method) else np.asarray(method.matrix(F))


def _gathered(features: Any, indices: Sequence[int], done: Callable[[int], None]) -> list[np.ndarray]:
    parts: list[list[np.ndarray]] = []
    for maps, valid in features.batches(indices):
        parts.append([np.asarray(m)[:valid] for m in maps])
        done(valid)
    return [np.concatenate(scale) for scale in zip(*parts, strict=True)]


def _sources(shape: tuple[int, ...], grid: tuple[int, int]) -> np.ndarray:
    """(H, W): of each location of the grid, which one of a coarser map it takes."""
    numbers = jnp.arange(shape[0] * shape[1], dtype=jnp.float32).reshape(*shape, 1)
    return np.asarray(align(numbers, grid)[..., 0]).astype(int)


def _selects(W: np.ndarray) -> bool:
    return bool(np.all((W == 0) | (W == 1)) and np.all(W.sum(axis=0) == 1))


def _one_thread() -> AbstractContextManager[Any]:
    """Locations over the cores, each factorised by one thread: LAPACK's own cost more than they bring."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise ArgumentError("spectra want threadpoolctl: pip install 'jaxsode[reproduce]'") from error
    return threadpool_limits(1)


def _pages(found: Sequence[Any]) -> list[dict[str, Any]] | None:
    pages = [f.page for _, f in found]
    return None if not pages or any(page is None for page in pages) else [page for page in pages if page]


def share_table(target: Target, columns: Sequence[Column], results: Results) -> Table:
    """What share of the eigenvalues lies above `ABOVE`, and the paper's.

    Args:
        target, columns, results: see `jaxsode.reproduce.tables.main_table`.
    """
    notes = Footnotes()
    headings, cells = [""], [[row.label for row in target.rows]]
    for column in columns:
        texts, still = [], []
        for row in target.rows:
            found = results.get((row.label, column.label), ())
            pages = _pages(found)
            if row.line or pages is None:
                why = "; ".join(dict.fromkeys(f.why for _, f in found if f.page is None))
                texts.append(f"{NOTHING} {notes.mark(_nothing(row.label, pages, why))}")
                still.append("")
                continue
            values = [100 * page["spectrum"]["above"] for page in pages]
            texts.append(_percent(values))
            still.append(_percent([100 * page["spectrum"]["still"] for page in pages]))
        headings += [column.label, f"{column.label}: of channels that never vary"]
        cells += [texts, still]
        if any(papers := [_share(row, column) for row in target.rows]):
            headings.append(f"{column.label}: the paper's")
            cells.append(papers)
    kept = [i for i, texts in enumerate(cells) if any(texts)]
    lines = list(zip(*(cells[i] for i in kept), strict=True))
    title = f"{target.title}: share above {ABOVE:g}"
    return Table(title, [headings[i] for i in kept], lines, notes.lines())


def as_csv(results: Results) -> str:
    """A line for each eigenvalue of each cell, the largest first, with the shares of its cell.

    Args:
        results: of all rows.
    """
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["row", "column", "dataset", "split", "seed", "above", "still", "order", "expected"])
    for (row, column), found in results.items():
        for wanted, f in found:
            if f.page is not None:
                spectrum, seed = f.page["spectrum"], wanted.part()["method"].get("seed")
                names = [row, column, wanted.plan.dataset, wanted.split, seed]
                for order, value in enumerate(spectrum["mean"], 1):
                    lines.writerow([*names, spectrum["above"], spectrum["still"], order, value])
    return out.getvalue()


def _nothing(label: str, pages: Any, why: str) -> str:
    if pages is None:
        return why
    if all(not any(page["spectrum"]["mean"]) for page in pages):
        numbers = "/".join(dict.fromkeys(str(page["train"]) for page in pages))
        return f"{label}: all 0, since C of {numbers} pictures has a rank below that; not drawn"
    return f"{label}: a line to compare with, drawn dashed"


def _share(row: Row, column: Column) -> str:
    if column.label not in row.paper:
        return ""
    deviation = row.paper_deviation.get(column.label)
    return f"{100 * row.paper[column.label]:.4g} %" + (
        "" if deviation is None else f" ± {100 * deviation:.2f}"
    )


def _percent(values: Sequence[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f} %{deviation}"


def draw(target: Target, columns: Sequence[Column], results: Results) -> str | None:
    """The spectra as SVG, an axis for each column that has some; None where none has.

    Args:
        target, columns, results: see `share_table`.

    Raises:
        ArgumentError: matplotlib isn't installed.
    """
    known = []
    for column in columns:
        rows = [(row, _pages(results.get((row.label, column.label), ()))) for row in target.rows]
        if any(pages for _, pages in rows):
            known.append((column, [(row, pages) for row, pages in rows if pages]))
    if not known:
        return None
    plt = pyplot()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(known), figsize=(4.6 * len(known), 3.8), squeeze=False, layout="constrained"
        )
        for axis, (column, rows) in zip(axes[0], known, strict=True):
            for (row, pages), colour in zip(rows, COLOURS, strict=False):
                means = np.array([page["spectrum"]["mean"] for page in pages])
                mean = np.maximum(means.mean(axis=0), 0)
                if row.line and not mean.any():
                    continue
                order = np.arange(1, len(mean) + 1)
                line: Any = {"color": "black", "linestyle": "--"} if row.line else {"color": colour}
                axis.plot(order, np.where(mean > 0, mean, np.nan), label=row.label, **line)
            axis.axhline(ABOVE, color="grey", linewidth=0.8, linestyle=":")
            axis.set_title(column.label)
            axis.set_yscale("log")
            axis.set_ylim(bottom=1e-9)
            axis.set_xlabel("eigenvalue, the largest first")
            axis.set_ylabel("expected over locations")
            axis.legend(frameon=False)
        return as_svg(figure)
