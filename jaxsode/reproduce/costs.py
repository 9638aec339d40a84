"""What a row takes: seconds of a run of its own, memory by formula, and the peak of its process."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsode import report
from jaxsode.errors import OutputError
from jaxsode.reproduce.at_hand import AtHand, Missing
from jaxsode.reproduce.cells import Cells, Key, digest
from jaxsode.reproduce.compute import Wanted
from jaxsode.reproduce.rows import Row, Target
from jaxsode.reproduce.tables import NOTHING, Footnotes, Table

TAKEN = ("train", "test", "timing", "memory", "state_bytes", "environment")
"""What a cost's cell takes over from the child's."""


def complete_costs(
    cells: Cells,
    at_hand: AtHand,
    target: Target,
    firsts: Mapping[str, Wanted],
    *,
    say: Callable[[str], None],
) -> None:
    """Run each row whose cost isn't known in a process of its own.

    Args:
        cells, at_hand, target: see `jaxsode.reproduce.compute`.
        firsts: of each row by its label, the cell that is run.
        say: for progress.

    Raises:
        OutputError: the child failed.
    """
    for label, each in firsts.items():
        try:
            key = _key(each.key(at_hand))
        except Missing:
            continue
        if cells.get(key) is None:
            say(f"{target.name}: time and memory of {label}")
            page = _of_child(target, label, each, at_hand)
            cells.put(key, {name: page[name] for name in TAKEN})


def cost_table(
    cells: Cells, at_hand: AtHand, target: Target, firsts: Mapping[str, Wanted], *, compute: bool
) -> Table | None:
    """Time and memory of each row; None where nothing is known.

    Args:
        cells, at_hand, target, firsts: see `complete_costs`.
        compute: see `jaxsode.reproduce.compute.look`.
    """
    notes = Footnotes()
    lines, where = [], ""
    for row in target.rows:
        page = _known(cells, at_hand, firsts.get(row.label), compute=compute)
        if page is None:
            if row.label in firsts:
                lines.append((row.label, row.complexity or "", *[NOTHING] * 5))
            continue
        where = where or _where(firsts[row.label], page)
        lines.append(_line(row, page))
    if not where:
        return None
    headings = ("", "complexity", "fit, s", "score, s", "compile, s", "state, GB", "peak of the process, GB")
    notes.mark(where)
    return Table(f"{target.title}: time and memory", headings, lines, notes.lines())


def _line(row: Row, page: Mapping[str, Any]) -> tuple[str, ...]:
    timing, memory = page["timing"], page["memory"]
    both = f"{timing['blocks_s']:.1f} for both, in blocks" if timing["blocks_s"] else None
    fit, score = (both or f"{timing['fit_s']:.1f}"), ("" if both else f"{timing['score_s']:.1f}")
    state = NOTHING if page["state_bytes"] is None else f"{page['state_bytes'] / 1e9:.2f}"
    peak = f"{memory['process_peak'] / 1e9:.2f}"
    if memory["device_peak"]:
        peak += f", of the device {memory['device_peak'] / 1e9:.2f}"
    return (row.label, row.complexity or "", fit, score, f"{timing['compile_s']:.1f}", state, peak)


def _where(each: Wanted, page: Mapping[str, Any]) -> str:
    machine = page["environment"]["machine"]
    return (
        f"One run of each row in a process of its own, on {each.split} of {each.plan.dataset}: "
        f"{page['train']} pictures fitted on, {page['test']} scored, the network among it. "
        f"{machine['processor']}, {machine['cores']} cores, device {page['environment']['device']}."
    )


def _known(cells: Cells, at_hand: AtHand, each: Wanted | None, *, compute: bool) -> Mapping[str, Any] | None:
    if each is None:
        return None
    if not compute:
        return cells.matching(_key(each.part()))
    try:
        return cells.get(_key(each.key(at_hand)))
    except Missing:
        return None


def _key(key: Key) -> Key:
    return {**key, "kind": "cost"}


def _of_child(target: Target, label: str, each: Wanted, at_hand: AtHand) -> Mapping[str, Any]:
    options: list[str] = [
        "--row",
        label,
        "--dataset",
        each.plan.dataset,
        "--split",
        each.split,
    ]
    method = each.part()["method"]
    options += ["--seed", str(method.get("seed") or 0)]
    options += ["--backbone", each.plan.backbone]
    if method.get("k") is not None:
        options += ["--k", str(method["k"])]
    for option, given in (("--data", at_hand.places), ("--weights", at_hand.weights)):
        if given:
            options += [option, *(f"{name}={path}" for name, path in given.items())]
    with tempfile.TemporaryDirectory(prefix="jaxsode-cost-") as folder:
        output = Path(folder) / "output"
        command = [sys.executable, "-m", "jaxsode.reproduce", target.source, "--output", str(output)]
        child = subprocess.run([*command, "--no-costs", *options], capture_output=True, text=True)
        files: Sequence[Path] = sorted((output / "cells").glob("*/*/*.json"))
        if child.returncode or not files:
            says = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise OutputError(f"{label} on its own came to nothing ({says}): see with {' '.join(options)}")
        wanted = digest(each.key(at_hand))
        found = [page for page in map(report.read_json, files) if digest(page["key"]) == wanted]
        if not found:
            raise OutputError(f"{label} on its own was another cell: see with {' '.join(options)}")
        return found[0]
