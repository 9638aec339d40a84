"""Methods side by side: a line for each and each fold in CSV; settings, seeds taken together, in Markdown."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxsode.report.tables import HEADINGS, METRICS, flatten

Page = Mapping[str, Any]
"""A method's `setting`, its `folds` and their `mean`, as metrics.json has them."""


def as_csv(pages: Sequence[Page]) -> str:
    """A line for each method and fold: the setting, the fold, what was chosen, the five metrics.

    Args:
        pages: of all methods.
    """
    settings = list(dict.fromkeys(name for page in pages for name in page["setting"]))
    chosen = ("chosen_epsilon", "chosen_shrinkage")
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow([*settings, "fold", "train", "test", *chosen, *METRICS])
    for page in pages:
        for fold in page["folds"]:
            choice = fold.get("choice", {})
            told = [choice.get(name.removeprefix("chosen_")) for name in chosen]
            values = [flatten(fold)[name] for name in METRICS]
            setting = [_text(page["setting"].get(name)) for name in settings]
            rows.writerow([*setting, fold["fold"], fold["train"], fold["test"], *told, *values])
    return out.getvalue()


def as_markdown(pages: Sequence[Page]) -> str:
    """Each setting's metrics, mean over folds ± deviation over seeds; and how far from the first setting's.

    Args:
        pages: of all methods. Seeds of one setting are one row.

    Returns:
        Two tables; the second, with the 95 % interval of the mean difference over seeds that both have
        (Student's t), where there are two settings or more.
    """
    groups: dict[str, dict[Any, Page]] = {}
    for page in pages:
        setting = {name: value for name, value in page["setting"].items() if name != "seed"}
        groups.setdefault(json.dumps(setting), {})[page["setting"].get("seed")] = page
    named = dict(zip(_names([json.loads(group) for group in groups]), groups.values(), strict=True))
    first = next(iter(named))
    rows = {name: [_mean(values) for values in _columns(group)] for name, group in named.items()}
    lines = _table("mean ± deviation over seeds", rows)
    if len(named) > 1:
        rows = {name: _apart(group, named[first]) for name, group in named.items() if name != first}
        lines += ["", *_table(f"less {first}: mean difference, 95 % interval over seeds", rows)]
    return "\n".join(lines) + "\n"


def _names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between them, in words: of the first all of it, of the others what they have otherwise."""
    names = list(dict.fromkeys(name for setting in settings for name in setting))
    differing = [n for n in names if len({json.dumps(setting.get(n)) for setting in settings}) > 1]
    first, *others = settings
    told = [[f"{n} {_text(first[n])}" for n in differing if first.get(n) is not None]]
    # A None is told too where the first has a value, so that no two are called alike.
    told += [
        [f"{n} {_text(s[n]) or 'none'}" for n in differing if n in s and s[n] != first.get(n)] for s in others
    ]
    return [", ".join(each) or "all" for each in told]


def _columns(group: Mapping[Any, Page]) -> list[list[float | None]]:
    """Of each metric its mean over folds, by seed."""
    flat = [flatten(page["mean"]) for page in group.values()]
    return [[row[name] for row in flat] for name in METRICS]


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "–"
    deviation = f" ± {np.std(known, ddof=1):.4f}" if len(known) > 1 else ""
    return f"{np.mean(known):.4f}{deviation}"


def _apart(group: Mapping[Any, Page], first: Mapping[Any, Page]) -> list[str]:
    from scipy import stats

    # What draws nothing was run once, and stands beside every seed.
    drawn = [each for each in (first, group) if len(each) > 1] or [first]
    seeds = [seed for seed in drawn[0] if all(seed in each for each in drawn)]
    ours, theirs = ([_at(g, seed) for seed in seeds] for g in (group, first))
    cells = []
    for name in METRICS:
        pairs = [(a[name], b[name]) for a, b in zip(ours, theirs, strict=True)]
        known = [a - b for a, b in pairs if a is not None and b is not None]
        if not known or len(known) < len(pairs):
            cells.append("–")
            continue
        cell = f"{np.mean(known):+.4f}"
        if len(known) > 1:
            half = stats.t.ppf(0.975, len(known) - 1) * np.std(known, ddof=1) / np.sqrt(len(known))
            cell += f" ({np.mean(known) - half:+.4f} … {np.mean(known) + half:+.4f})"
        cells.append(cell)
    return cells


def _at(group: Mapping[Any, Page], seed: Any) -> dict[str, float | None]:
    page = group[seed] if seed in group else next(iter(group.values()))
    return flatten(page["mean"])


def _table(title: str, rows: Mapping[str, Sequence[str]]) -> list[str]:
    headings = [title, *(heading.replace("\n", " ") for heading in HEADINGS)]
    lines = [headings, ["---"] * len(headings), *([name, *cells] for name, cells in rows.items())]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _text(value: Any) -> str:
    """A setting's value."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
