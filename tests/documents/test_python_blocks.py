"""The documents' Python runs as it stands there, from a page's first block to its last, on tiny pictures."""

import pkgutil
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from documented import DOCS, PAGES, README, blocks, named
from PIL import Image

from jaxsode import Detector, backbones
from jaxsode.backbones import registry

SMALLER = {"(256, 256)": "(32, 48)", "k=100": "k=4"}  # what is changed of them, so that they run at once


def _shape(x) -> tuple[int, ...]:
    return tuple(x.shape)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders that the pages name, and a network without a download."""
    rng = np.random.default_rng(0)
    for name, n in {"good": 11, "new": 3, "more": 9}.items():
        (tmp_path / name / "deeper").mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / ("deeper" if i % 2 else "") / f"{i}.png")

    def random(name: str) -> backbones.Backbone:
        return registry.create(name, layers=(1, 2))

    monkeypatch.setattr(backbones, "load", random)
    monkeypatch.chdir(tmp_path)


def _run(*pages: Path) -> dict:
    """All blocks, in one namespace; what they left in it."""
    known: dict = {}
    for page in pages:
        for block in blocks(page, "python"):
            for here, smaller in SMALLER.items():
                block = block.replace(here, smaller)
            exec(compile(block, named(page), "exec"), known)
    return known


@pytest.mark.usefixtures("folders")
def test_the_readme():
    known = _run(README)
    assert (known["detector"].size, int(known["detector"].count)) == ((32, 48), 11)
    assert _shape(known["maps"]) == (3, 32, 48)


@pytest.mark.usefixtures("folders")
def test_the_pages_on_python():
    known = _run(DOCS / "how-to" / "python.md", DOCS / "how-to" / "jax.md", DOCS / "how-to" / "algebra.md")
    assert (known["detector"].size, int(known["detector"].count)) == ((32, 48), 11)
    assert known["detector"].method.k == 4
    assert _shape(known["maps"]) == (3, 32, 48)
    assert Path("detector").is_dir()
    counts = {name: int(known[name].count) for name in ("updated", "removed", "other", "merged", "blunter")}
    assert counts == {"updated": 20, "removed": 11, "other": 9, "merged": 20, "blunter": 11}
    assert float(known["blunter"].method.epsilon) == pytest.approx(0.1)
    assert _shape(known["unseen"]) == (11, 32, 48)
    assert known["calibration"].rank == 11
    assert list(known["inspected"].defective) == list(known["inspected"].p_values <= 0.1)
    keys = jax.random.split(jax.random.key(0), 4)
    good, test = (
        tuple(jax.random.normal(key, (n, 8 // s, 12 // s, 6)) for key, s in zip(pair, (1, 2), strict=True))
        for pair, n in ((keys[:2], 9), (keys[2:], 3))
    )
    assert _shape(known["score"](good, test)) == (3, 8, 12)


@pytest.mark.usefixtures("folders")
def test_the_combiner_is_a_fit():
    """Called as Beam calls one: accumulators filled apart, one of them empty, merged, output."""
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (4, 32, 48, 3), dtype=np.uint8) for _ in range(5)]
    combiner = _run(DOCS / "how-to" / "machines.md")["Combiner"]()
    combiner.setup()
    states = [combiner.create_accumulator() for _ in range(3)]
    for i, batch in enumerate(batches):
        states[i % 2] = combiner.add_input(states[i % 2], batch)
    detector = combiner.extract_output(combiner.merge_accumulators(states))
    whole = Detector.fit(batches, combiner.backbone, combiner.method)
    ours, theirs = (np.asarray(each.anomaly_map(batches[0])) for each in (detector, whole))
    assert int(detector.count) == 20
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.max()


def test_the_table_below_a_block_is_what_it_prints(capsys):
    page = DOCS / "how-to" / "threshold.md"
    _run(page)
    assert f"\n{capsys.readouterr().out}\n" in page.read_text(encoding="utf-8")


def test_no_other_page_has_python_that_nothing_runs():
    run = {
        README,
        *(DOCS / "how-to" / f"{name}.md" for name in ("python", "jax", "algebra", "machines", "threshold")),
    }
    assert {page for page in PAGES if blocks(page, "python")} == run


def test_the_first_needs_fewer_than_ten_lines():
    lines = [line for line in blocks(README, "python")[0].splitlines() if line]
    assert "anomaly_map" in lines[-1]
    assert len(lines) < 10


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_name_in_it_is_there(page):
    for name in set(re.findall(r"`(jaxsode\.[a-zA-Z_.]+)", page.read_text(encoding="utf-8"))):
        assert pkgutil.resolve_name(name) is not None
