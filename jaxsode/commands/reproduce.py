"""jaxsode reproduce: a table or a figure of the paper's, ours beside it."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

import jaxsode
from jaxsode import report
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.progress import Shown
from jaxsode.errors import ArgumentError, OutputError
from jaxsode.experiment.record import environment
from jaxsode.home import expanded, readable
from jaxsode.reproduce import costs, curves, heatmaps, rows, spectra
from jaxsode.reproduce import tables as tables_
from jaxsode.reproduce.at_hand import AtHand
from jaxsode.reproduce.cells import Cells
from jaxsode.reproduce.compute import Found, Wanted, all_wanted, columns_of, complete_cells, look, missing
from jaxsode.reproduce.page import Panel, page
from jaxsode.reproduce.rows import Column, Target


@dataclass(frozen=True)
class Reproduce:
    """A table or a figure of the paper's by one command: each number computed once, kept in a small file, and
    set beside the paper's. What can't be computed for want of data or weights stays empty and says so.

    Leaves TARGET.csv, TARGET.md, TARGET.html, curves as TARGET.svg, and the numbers in cells/ of the output
    folder. Another run goes on with these; all else there is made of them anew.
    """

    target: Annotated[str, tyro.conf.Positional]
    """table1 … table5, figure1 … figure5, beyond (the recommended setting), time; or a TOML of your own."""
    dataset: tuple[str, ...] = ()
    """Only these data sets."""
    split: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--category", "--fold", "--scene"])] = ()
    """Only these categories, folds or scenes."""
    row: tuple[str, ...] = ()
    """Only these rows, by their labels."""
    seed: tuple[int, ...] = rows.SEEDS
    """Of rows that draw something."""
    k: tuple[int, ...] = ()
    """Other embedding sizes; of a curve those that are drawn."""
    backbone: tuple[str, ...] = ()
    """Other backbones."""
    data: tuple[str, ...] = ()
    """NAME=PATH: where a data set lies, if not in the cache."""
    weights: tuple[str, ...] = ()
    """BACKBONE=FILE, or BACKBONE=random to try it out; else from the cache, its package or its publisher."""
    output: Path = Path("paper")
    """Folder of the results; one that holds something else is refused."""
    compute: bool = True
    """Make what is missing; without, show what there is, which takes neither data nor weights."""
    slow: bool = False
    """Make the rows, too, that take hours."""
    costs: bool = True
    """Measure time and memory of a table's rows where that is part of it, each in a process of its own."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode reproduce") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    command = shlex.join([*prog.split(), *given])
    return exit_code(lambda: reproduce(tyro.cli(Reproduce, prog=prog, args=given), console, command))


def reproduce(asked: Reproduce, console: Console, command: str) -> None:
    """Do what the command does.

    Args:
        asked: what was asked for.
        console: for progress.
        command: as it was typed, for the page.

    Raises:
        JaxsodeError: a mistake of the user's. Cells that were finished are kept.
    """
    whole = rows.read(asked.target)
    if whole.kind == "time":
        _time(whole)
        return
    if asked.compute:
        check_device()
    target = whole.narrowed(
        dataset=asked.dataset, split=asked.split, rows=asked.row, k=asked.k, backbone=asked.backbone
    )
    output = _folder(asked.output)
    places = {name: expanded(Path(path)) for name, path in _pairs("--data", asked.data).items()}
    at_hand = AtHand(places, _pairs("--weights", asked.weights))
    cells = Cells(output / "cells")
    columns = columns_of(target, at_hand, compute=asked.compute)
    with Shown(console) as shown:
        made = _Made(asked, target, columns, at_hand, cells, shown)
        parts = made.panels() if target.kind == "maps" else made.numbers()
    machine = environment()
    facts = [
        command,
        f"jaxsode {jaxsode.__version__}, {machine['machine']['processor']}, {machine['device']}",
    ]
    facts += parts.said
    files = {
        f"{target.name}.html": page(
            target.title,
            [target.caption],
            svgs=parts.svgs,
            panels=parts.panels,
            tables=parts.tables,
            facts=facts,
        )
    }
    if parts.tables:
        texts = [table.markdown() for table in parts.tables]
        files[f"{target.name}.md"] = "\n".join([*texts, *(f"{line}\n" for line in parts.said)])
    if parts.csv is not None:
        files[f"{target.name}.csv"] = parts.csv
    files |= {f"{target.name}.svg": svg for svg in parts.svgs}
    for name, text in files.items():
        try:
            cells.folder.mkdir(parents=True, exist_ok=True)  # marks the folder as ours, of panels alone too
            report.write(output / name, text)
        except OSError as error:
            raise OutputError(f"{readable(output / name)} can't be written ({error.strerror})") from error
    for table in parts.tables[:1]:
        print(table.markdown())
    for line in parts.said:
        console.print(line, markup=False)
    console.print(readable(output / f"{target.name}.html"), markup=False)


@dataclass(frozen=True)
class _Parts:
    tables: Sequence[tables_.Table] = ()
    svgs: Sequence[str] = ()
    panels: Sequence[Panel] = ()
    csv: str | None = None
    said: Sequence[str] = ()


@dataclass(frozen=True)
class _Made:
    """What a run makes."""

    asked: Reproduce
    target: Target
    columns: Sequence[Column]
    at_hand: AtHand
    cells: Cells
    shown: Shown

    def numbers(self) -> _Parts:
        """Of a table, a curve or spectra."""
        asked, target = self.asked, self.target
        wanted = all_wanted(target, self.columns, self.at_hand, asked.seed)
        if asked.compute:
            everything = [each for of in wanted.values() for each in of]
            groups = missing(self.cells, self.at_hand, everything, slow=asked.slow)
            make = spectra.complete_spectra if target.kind == "spectra" else complete_cells
            make(self.cells, self.at_hand, groups, bar=self._bar, say=self.shown.say)
        results = {
            place: [(each, look(self.cells, self.at_hand, each, compute=asked.compute)) for each in of]
            for place, of in wanted.items()
        }
        if target.kind == "spectra":
            svg = spectra.draw(target, self.columns, results)
            table = spectra.share_table(target, self.columns, results)
            return _Parts([table], [svg] if svg else [], csv=spectra.as_csv(results))
        if target.kind == "curve":
            svg = curves.draw(target, self.columns, results)
            made = curves.curve_tables(target, self.columns, results)
            made += tables_.metric_tables(target, self.columns, results)
            return _Parts(made, [svg] if svg else [], csv=tables_.as_csv(results))
        made = [tables_.main_table(target, self.columns, results)]
        if target.costs and (table := self._costs(wanted, results)):
            made.append(table)
        made += tables_.metric_tables(target, self.columns, results)
        said = tables_.orders(target, self.columns, results)
        return _Parts(made, csv=tables_.as_csv(results), said=said)

    def _costs(
        self,
        wanted: Mapping[tuple[str, str], list[Wanted]],
        results: Mapping[tuple[str, str], list[tuple[Wanted, Found]]],
    ) -> tables_.Table | None:
        """Of the first cell of each row, on the first data that there are."""
        label = next((c for (_, c), found in results.items() if any(f.page for _, f in found)), None)
        known = {row.label for row in rows.read(self.target.source).rows}
        firsts = {
            row: of[0] for (row, column), of in wanted.items() if column == label and of and row in known
        }
        if self.asked.compute and self.asked.costs:
            costs.complete_costs(self.cells, self.at_hand, self.target, firsts, say=self.shown.say)
        return costs.cost_table(self.cells, self.at_hand, self.target, firsts, compute=self.asked.compute)

    def panels(self) -> _Parts:
        """Of a figure of heat maps."""
        if not self.asked.compute:
            raise ArgumentError(f"{self.target.name} is drawn, not kept: leave --no-compute out")
        seeds = self.asked.seed[:1]

        def wanted(column: Column, split: str) -> list[Wanted]:
            one = Column(column.label, column.dataset, (split,))
            return [of[0] for of in all_wanted(self.target, [one], self.at_hand, seeds).values()]

        lost: list[str] = []
        drawn = list(
            heatmaps.panels(
                self.target, self.columns, self.at_hand, wanted, bar=self._bar, missing=lost.append
            )
        )
        return _Parts(panels=drawn, said=lost)

    @contextmanager
    def _bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        with self.shown.task(what, total) as task:
            yield task.advance


def _folder(given: Path) -> Path:
    """The output folder: one of ours, or a new or empty one."""
    output = expanded(given)
    if output.exists() and (
        not output.is_dir() or (any(output.iterdir()) and not (output / "cells").is_dir())
    ):
        raise OutputError(
            f"--output {readable(output)} holds something else: choose a new or an empty folder"
        )
    return output


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    made = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not (name and equals and path):
            raise ArgumentError(f"{option} {readable(each)} is no NAME=PATH")
        made[name] = path
    return made


def _time(target: Target) -> None:
    """The bench's own command, in a checkout; the paper's seconds beside what it found."""
    bench = Path(jaxsode.__file__).parents[1] / "bench"
    if not bench.is_dir():
        raise ArgumentError("time is the bench's: run it in a checkout of jaxsode, where bench/ lies")
    sizes = [str(k) for k in target.k]
    command = [sys.executable, "-m", f"{bench.name}.run", "inverse", "--k", *sizes]
    code = subprocess.run(command, cwd=bench.parent).returncode
    if code:
        raise ArgumentError(
            f"the bench, {shlex.join(command)}, ended with exit code {code}: see what it said"
        )
    first, *_, last = (target.figures[f"k{k}"] for k in target.k)
    print(target.caption.strip())
    print(f"{first} s at k = {sizes[0]}, {last} s at k = {sizes[-1]}: {last / first:.2f} ×")
