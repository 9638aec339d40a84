"""Pages in one file of HTML, with all that they show in it: a fitted detector's, and the parts of others."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Tile:
    """A picture beside its overlay.

    Attributes:
        name: of the picture.
        score: its leave-one-out score.
        picture, overlay: (height, width, 3) uint8.
        marked: whether it lies so far out that it should be looked at.
    """

    name: str
    score: float
    picture: np.ndarray
    overlay: np.ndarray
    marked: bool = False


@dataclass(frozen=True, eq=False)
class Story:
    """What the page tells.

    Attributes:
        title: of the page.
        lead: sentences about the threshold, the first of them large.
        notes: what a reader must know.
        mean: (height, width, 3) uint8, of the good pictures.
        scores: (N,) of the good pictures; None without a threshold.
        threshold: None without one.
        rule: in a sentence, how the out-of-place ones are marked.
        worst: pictures most out of place, the worst first.
        examples: others.
        facts: (name, value) pairs of the table at the end.
    """

    title: str
    lead: Sequence[str]
    notes: Sequence[str]
    mean: np.ndarray
    scores: np.ndarray | None
    threshold: float | None
    rule: str
    worst: Sequence[Tile]
    examples: Sequence[Tile]
    facts: Sequence[tuple[str, Any]]


def page(story: Story) -> str:
    """The page as HTML: light or dark as the reader has it, nothing fetched.

    Args:
        story: what it tells.
    """
    e = escaped
    lead = "".join(
        f'<p class="{"lead" if i == 0 else ""}">{e(line)}</p>' for i, line in enumerate(story.lead)
    )
    notes = "".join(f"<li>{e(note)}</li>" for note in story.notes)
    facts = "".join(f"<tr><th>{e(name)}</th><td>{e(value)}</td></tr>" for name, value in story.facts)
    parts = [
        f"<header><h1>{e(story.title)}</h1>{lead}</header>",
        f'<ul class="notes">{notes}</ul>' if notes else "",
    ]
    if story.scores is not None:
        parts.append(
            "<section><h2>Scores of the good pictures, each as if it had not been fitted on</h2>"
            f"{_histogram(story.scores, story.threshold)}</section>"
        )
    if story.worst:
        parts.append(
            f"<section><h2>Most out of place</h2><p>{e(story.rule)}</p>{_tiles(story.worst)}</section>"
        )
    mean = image(story.mean, "the mean of the good pictures")
    parts.append(
        f'<section><h2>The mean picture</h2><div class="tiles"><figure>{mean}</figure></div></section>'
    )
    if story.examples:
        parts.append(f"<section><h2>Examples</h2>{_tiles(story.examples)}</section>")
    parts.append(f"<section><h2>Facts</h2><table>{facts}</table></section>")
    return document(story.title, "".join(parts))


def document(title: str, body: str) -> str:
    """A page as HTML: light or dark as the reader has it, nothing fetched.

    Args:
        title: of the page.
        body: HTML.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _tiles(tiles: Sequence[Tile]) -> str:
    figures = [
        f'<figure class="{"marked" if tile.marked else ""}"><div class="pair">'
        f"{image(tile.picture, tile.name)}"
        f"{image(tile.overlay, f'heat map of {tile.name}')}</div><figcaption>{escaped(tile.name)}<br>"
        f"<b>{tile.score:.3g}</b>{' · look at this one' if tile.marked else ''}</figcaption></figure>"
        for tile in tiles
    ]
    return f'<div class="tiles">{"".join(figures)}</div>'


_BINS, _WIDTH, _HEIGHT = 40, 720, 200


def _histogram(scores: np.ndarray, threshold: float | None) -> str:
    """An inline SVG: how many pictures have which score, and the threshold."""
    top = max(float(scores.max()), 0.0 if threshold is None else threshold) * 1.05 or 1.0
    low = min(float(scores.min()), top) * 0.95
    counts, edges = np.histogram(scores, bins=_BINS, range=(low, top))
    x = (edges - low) / (top - low) * _WIDTH
    tallest = max(int(counts.max()), 1)
    bars = "".join(
        f'<rect class="{"above" if threshold is not None and left >= threshold else "bar"}" x="{a:.1f}" '
        f'y="{_HEIGHT - c / tallest * _HEIGHT:.1f}" width="{max(b - a - 1, 1):.1f}" '
        f'height="{c / tallest * _HEIGHT:.1f}">'
        f"<title>{left:.3g} to {right:.3g}: {c}</title></rect>"
        for a, b, c, left, right in zip(x[:-1], x[1:], counts, edges[:-1], edges[1:], strict=True)
        if c
    )
    line = ""
    if threshold is not None:
        at = (threshold - low) / (top - low) * _WIDTH
        anchor = "end" if at > _WIDTH / 2 else "start"
        line = (
            f'<line class="threshold" x1="{at:.1f}" x2="{at:.1f}" y1="-6" y2="{_HEIGHT}"/>'
            f'<text x="{at + (-6 if anchor == "end" else 6):.1f}" y="10" text-anchor="{anchor}">threshold '
            f"{threshold:.4g}</text>"
        )
    ticks = "".join(
        f'<text class="tick" x="{(value - low) / (top - low) * _WIDTH:.1f}" y="{_HEIGHT + 18}" '
        f'text-anchor="middle">{value:.3g}</text>'
        for value in np.linspace(low, top, 6)
    )
    return (
        f'<svg viewBox="-20 -14 {_WIDTH + 40} {_HEIGHT + 40}" role="img" '
        f'aria-label="histogram of {len(scores)} scores">{bars}'
        f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>{line}{ticks}</svg>'
    )


_LONGEST = 320  # pixels of a thumbnail's longer side


def image(pixels: np.ndarray, says: str, *, longest: int = _LONGEST) -> str:
    """A picture within a page.

    Args:
        pixels: (height, width, 3) uint8.
        says: what it shows, for those who can't see it.
        longest: pixels that its longer side is shrunk to.
    """
    from PIL import Image

    shrunk = Image.fromarray(np.ascontiguousarray(pixels))
    shrunk.thumbnail((longest, longest))
    file = io.BytesIO()
    shrunk.save(file, "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="{escaped(says)}" src="data:image/jpeg;base64,{data}">'


def escaped(value: Any) -> str:
    """A text as HTML shows it, whatever is in it."""
    text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return html.escape(text)


_STYLE = """
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5c6670;--paper:#fff;--card:#f3f5f7;--line:#d5dbe1;
--good:#3b7ea1;--bad:#c8452f}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebee;--soft:#9aa5af;--paper:#14181c;--card:#1f252b;
--line:#37404a;--good:#6db3d6;--bad:#ff7a5f}}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1.25rem 4rem}
h1{font-size:1.6rem;margin:0 0 .5rem}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
p{margin:.3rem 0;color:var(--soft);max-width:46rem}p.lead{font-size:1.2rem;color:var(--ink)}
ul.notes{margin:1rem 0;padding:.8rem 1rem .8rem 2rem;background:var(--card);border-left:4px solid var(--good)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}
figure{margin:0;padding:.6rem;background:var(--card);border:1px solid var(--line);border-radius:.4rem}
figure.marked{border-color:var(--bad);border-width:2px}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:.4rem}img{width:100%;display:block;border-radius:.2rem}
figcaption{font-size:.85rem;margin-top:.4rem;color:var(--soft);overflow-wrap:anywhere}
figcaption b{color:var(--ink)}
svg{width:100%;height:auto}.bar{fill:var(--good)}.above{fill:var(--bad)}.axis{stroke:var(--line)}
.threshold{stroke:var(--bad);stroke-width:2;stroke-dasharray:5 4}svg text{fill:var(--ink);font-size:13px}
svg text.tick{fill:var(--soft)}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}th{font-weight:500;color:var(--soft);width:14rem}
"""
