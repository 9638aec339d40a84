"""Links between the documents lead somewhere, and the site has every page."""

import pkgutil
import re
import tomllib

import pytest
from documented import DOCS, PAGES, ROOT, named

import jaxsode
from jaxsode import cli

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def _prose(page):
    return re.sub(
        r"```.*?^```$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def _anchors(page):
    """What the site and the repository's pages make of the headings."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def _broken(page):
    """Links of a page that lead nowhere, or out of the site."""
    for target in _LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        if (
            not to.is_file()
            or (anchor and anchor not in _anchors(to))
            or (DOCS in page.parents and DOCS not in to.parents)
        ):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page):
    assert not list(_broken(page))


def test_what_leads_nowhere_is_seen(tmp_path):
    (tmp_path / "other.md").write_text("# One thing, and another\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#one-thing-and-another) [c](https://example.org) `[d](gone.md)`\n"
        "[e](gone.md) ![f](gone.png) [g](other.md#gone) [h](#gone)\n"
    )
    assert list(_broken(page)) == ["gone.md", "gone.png", "other.md#gone", "#gone"]


def _listed(nav):
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from _listed(value) if isinstance(value, list) else [value]


def test_the_site_lists_every_page_once():
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(_listed(project["nav"])) == sorted(
        str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")
    )


def test_the_reference_names_what_is_there():
    """And lacks nothing of the package's face: what it exports, the algebra's steps, the commands."""
    pages = (DOCS / "reference").glob("*.md")
    names = {name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)}
    there = [pkgutil.resolve_name(name) for name in names]
    assert all(getattr(jaxsode, name) in there or name == "algebra" for name in jaxsode.__all__)
    assert {
        f"jaxsode.algebra.{step.name}" for step in pkgutil.iter_modules(jaxsode.algebra.__path__)
    } <= names
    described = {name.split(".")[2] for name in names if name.startswith("jaxsode.commands.")}
    assert described - {"options"} == cli.COMMANDS.keys() - {"convert"}  # which has argparse's own help
