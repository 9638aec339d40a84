"""A run's page: tables, curves and heat maps in one file of HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxsode.report.page import document, escaped, image
from jaxsode.reproduce.tables import Table

_STYLE = """<style>main{max-width:none}table{width:auto}th{width:auto}td,th{padding-right:1.2rem;
white-space:nowrap}tbody th{color:var(--ink)}section{overflow-x:auto}pre{white-space:pre-wrap}
section svg{max-width:70rem;background:#fff}figure.panel{display:inline-block;margin:0 .8rem .8rem 0}
figure.panel img{width:auto;max-width:100%}</style>"""


@dataclass(frozen=True, eq=False)
class Panel:
    """A strip of pictures.

    Attributes:
        name: what it shows.
        pixels: (height, width, 3) uint8.
    """

    name: str
    pixels: np.ndarray


def page(
    title: str,
    lead: Sequence[str],
    *,
    svgs: Sequence[str] = (),
    panels: Sequence[Panel] = (),
    tables: Sequence[Table] = (),
    facts: Sequence[str] = (),
) -> str:
    """The page as HTML.

    Args:
        title: of the page.
        lead: sentences below it.
        svgs: curves.
        panels: heat maps.
        tables: all of them.
        facts: lines at the end: the command, the machine.
    """
    parts = [
        f"<header><h1>{escaped(title)}</h1>{''.join(f'<p>{escaped(line)}</p>' for line in lead)}</header>"
    ]
    parts += [f"<section>{svg[svg.index('<svg') :]}</section>" for svg in svgs]
    if panels:
        shown = "".join(
            f'<figure class="panel">{image(p.pixels, p.name, longest=1400)}'
            f"<figcaption>{escaped(p.name)}</figcaption></figure>"
            for p in panels
        )
        parts.append(f"<section>{shown}</section>")
    parts += [_table(table) for table in tables]
    parts.append(f"<section><pre>{escaped(chr(10).join(facts))}</pre></section>")
    return document(title, _STYLE + "".join(parts))


def _table(table: Table) -> str:
    head = "".join(f"<th>{escaped(h)}</th>" for h in table.headings)
    rows = "".join(
        f"<tr><th>{escaped(line[0])}</th>{''.join(f'<td>{escaped(cell)}</td>' for cell in line[1:])}</tr>"
        for line in table.lines
    )
    notes = "".join(f"<p>{escaped(note)}</p>" for note in table.notes)
    return (
        f"<section><h2>{escaped(table.title)}</h2><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{notes}</section>"
    )
