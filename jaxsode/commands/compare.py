"""jaxsode compare: the settings of several runs side by side, as one table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxsode import report
from jaxsode.commands.exits import exit_code
from jaxsode.errors import ArgumentError
from jaxsode.home import expanded, readable

_OF_THE_RUN = ("backbone", "size", "fit_on", "picture_score")
"""What else makes a number, beside a method's own setting."""


@dataclass(frozen=True)
class Compare:
    """Print the settings of several runs side by side: mean ± deviation over seeds, and the distance from the
    first, paired by seed. All must be of one data set's same splits."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that jaxsode run left."""
    csv: bool = False
    """A line for each method and fold instead, as CSV."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode compare") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    return exit_code(lambda: compare(tyro.cli(Compare, prog=prog, args=arguments)))


def compare(asked: Compare) -> None:
    """Print what the command prints.

    Args:
        asked: what was asked for.

    Raises:
        ArgumentError: a folder without results, or results that can't be compared.
    """
    pages = [page for run in asked.runs for page in _pages(expanded(run))]
    if not pages:
        raise ArgumentError("there is nothing to compare: name the folders of runs")
    first = _tested(pages[0])
    for page in pages[1:]:
        if (other := _tested(page)) != first:
            raise ArgumentError(f"the runs tested {first} and {other}: compare runs on the same pictures")
    print(report.as_csv(pages) if asked.csv else report.as_markdown(pages), end="")


def _pages(run: Path) -> Iterator[dict[str, Any]]:
    """Of each method of a run, its setting with what else made its numbers."""
    files = sorted([*run.glob("metrics.json"), *run.glob("*/metrics.json")], key=lambda f: f.stat().st_mtime)
    if not files:
        raise ArgumentError(f"{readable(run)} holds no metrics.json: name a folder that jaxsode run left")
    for file in files:
        page = report.read_json(file)
        if page is None or page.get("schema") != report.SCHEMA or "config" not in page:
            raise ArgumentError(f"{readable(file)} is not of this version's results: run it again")
        yield page | {"setting": page["setting"] | {name: page["config"].get(name) for name in _OF_THE_RUN}}


def _tested(page: dict[str, Any]) -> str:
    folds = ", ".join(f"{fold['fold']} ({fold['test']} pictures)" for fold in page["folds"])
    return f"{page['dataset']['name']}: {folds}"
