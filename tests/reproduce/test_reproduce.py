"""jaxsode reproduce: rows of a TOML become cells, cells become tables; what is finished is not done again."""

import csv
import dataclasses
import json
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.algebra import EMBEDDINGS, PRECISIONS
from jaxsode.algebra.moments import covariance
from jaxsode.algebra.precision import Spec, Whitener, whitener
from jaxsode.commands.reproduce import main
from jaxsode.datasets import load
from jaxsode.errors import ArgumentError, OutputError
from jaxsode.reproduce import compute, rows
from jaxsode.reproduce.at_hand import AtHand, data_of
from jaxsode.reproduce.cells import Cells

TARGET = """
title = "Small"
metric = "pixel_auroc.pooled"
method = { backbone = "resnet18", k = 4, size = [64, 64], fit_on = 6 }

[[column]]
label = "object"
dataset = "demo"
splits = ["object"]

[[column]]
label = "both"
dataset = "demo"
splits = ["object", "texture"]
deviation = "splits"

[[column]]
label = "elsewhere"
dataset = "kolektor"
splits = ["1"]
compare = "object"

[[row]]
label = "Cited"
paper = { object = 0.5 }

[[row]]
label = "Global"
method = { embedding = "identity", precision = "global" }
paper = { object = 0.9 }

[[row]]
label = "Semi-orthogonal"
method = { embedding = "semi-orthogonal" }
paper = { object = 0.95, both = 0.9 }
paper_deviation = { both = 0.01 }

[[row]]
label = "Elsewhere"
method = { backbone = "wide_resnet50_2", weights = "nowhere.npz" }
columns = ["elsewhere"]
"""
RANDOM = ["--weights", "resnet18=random", "wide_resnet50_2=random", "--no-costs"]


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(TARGET.replace(', weights = "nowhere.npz"', ""), encoding="utf-8")
    return path


def _run(target, output, *more):
    return main([str(target), "--output", str(output), *RANDOM, "--seed", "0", "1", *more])


def _cells(output):
    return {path: path.stat().st_mtime_ns for path in (output / "cells").rglob("*.json")}


def _csv(output, name="small"):
    with (output / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table(target, tmp_path, capsys):
    output = tmp_path / "out"
    assert _run(target, output) == 0
    # Global once, and semi-orthogonal for two seeds, on two splits.
    assert len(_cells(output)) == 6
    lines = {
        (r["row"], r["column"], r["split"], r["seed"]): float(r["pixel_auroc.pooled"]) for r in _csv(output)
    }
    semi = [
        [lines["Semi-orthogonal", "both", split, seed] for seed in "01"] for split in ("object", "texture")
    ]
    table = (output / "small.md").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith("| Semi-orthogonal"))
    cells = [cell.strip() for cell in row.split("|")[2:-1]]

    def three(x):
        return f"{x:.3f}".removeprefix("0") if x < 1 else f"{x:.3f}"

    mean, spread = np.mean(semi[0]), np.std(semi[0], ddof=1)
    assert cells[0] == f"{three(mean)} ± {three(spread)}"
    assert cells[1] == ".950"
    apart = mean - 0.95
    assert cells[2] == ("+" if apart >= 0 else "−") + three(abs(apart))
    over_splits = np.std(np.mean(semi, axis=1), ddof=1)
    over_seeds = np.mean(np.std(semi, axis=1, ddof=1))
    assert cells[3] == f"{three(np.mean(semi))} ± {three(over_splits)} (over seeds {three(over_seeds)})"
    assert cells[4] == ".900 ± .010"
    assert "the data set kolektor is missing" in table
    assert all(word in table for word in ("PRO (paper)", "PRO (pooled)", "picture ROC", "ROC (paper)"))
    cited = next(line for line in table.splitlines() if line.startswith("| Cited"))
    assert cited.split("|")[2:4] == [" – ", " .500 "]
    page = (output / "small.html").read_text(encoding="utf-8")
    assert "Semi-orthogonal" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "pairs of rows in the paper's order" in capsys.readouterr().err


def test_what_is_finished_is_not_done_again_and_another_setting_is(target, tmp_path, monkeypatch):
    output = tmp_path / "out"
    assert _run(target, output, "--split", "object") == 0
    before = _cells(output)
    table = (output / "small.csv").read_bytes()
    assert _run(target, output, "--split", "object") == 0
    assert _cells(output) == before
    assert (output / "small.csv").read_bytes() == table
    # Without data and weights the same.
    assert (
        main([str(target), "--output", str(output), "--no-compute", "--split", "object", "--seed", "0", "1"])
        == 0
    )
    assert _csv(output)[0] == next(csv.DictReader(table.decode().splitlines()))
    # Another ε: anew, and the others stay.
    target.write_text(target.read_text().replace("k = 4,", "k = 4, epsilon = 0.5,"), encoding="utf-8")
    assert _run(target, output, "--split", "object") == 0
    after = _cells(output)
    assert len(after) == 2 * len(before)
    assert {path: after[path] for path in before} == before


def test_other_weights_make_other_keys(target, tmp_path):
    keys = []
    for weights in ("random", "other"):
        at_hand = AtHand({}, {"resnet18": "random"})
        small = rows.read(str(target)).narrowed(split=["object"], rows=["Global"])
        columns = compute.columns_of(small, at_hand, compute=True)
        (each,) = compute.all_wanted(small, columns, at_hand)["Global", "object"]
        backbone, _ = at_hand.backbone(each.plan)
        at_hand._known["backbone", each.plan.backbone, each.plan.layers, each.plan.dtype] = (
            backbone,
            weights,
        )
        keys.append(each.key(at_hand))
    cells = Cells(tmp_path)
    cells.put(keys[0], {"scores": 1})
    assert cells.get(keys[0]) == {"key": json.loads(json.dumps(keys[0])), "scores": 1}
    assert cells.get(keys[1]) is None
    cells.put(keys[1], {"scores": 2})
    with pytest.raises(OutputError, match="other data or other weights"):
        cells.matching(each.part())


def test_a_picture_that_changes_makes_another_key(target, monkeypatch):
    at_hand = AtHand({}, {"resnet18": "random"})
    small = rows.read(str(target)).narrowed(split=["object"], rows=["Global"])
    (each,) = compute.all_wanted(small, small.columns, at_hand)["Global", "object"]
    before = each.key(at_hand)
    dataset = at_hand.dataset(each.plan)
    index = each.data(at_hand)[0].test[0]
    record = dict(dataset.records[index])

    class Changed:
        def __getitem__(self, i):
            return record | {"picture": record["picture"] + b"!"} if i == index else dataset.records[i]

    again = AtHand({}, {"resnet18": "random"})
    again._known["dataset", data_of(each.plan)] = dataclasses.replace(dataset, records=Changed())
    after = each.key(again)
    assert {name for name in before if before[name] != after[name]} == {"pictures"}


def test_rows_of_other_pictures_or_another_score_are_made_apart(target, tmp_path):
    """Each by its own preparation and score, not by those of the first row."""
    changed = {"Cropped": 'resize = "crop"', "Top": 'picture_score = "top1%"'}
    more = [
        f'[[row]]\nlabel = "{label}"\nmethod = {{ embedding = "identity", precision = "global", {setting} }}'
        for label, setting in changed.items()
    ]
    target.write_text("\n\n".join([target.read_text(encoding="utf-8"), *more]), encoding="utf-8")
    small = rows.read(str(target)).narrowed(split=["object"], rows=["Global", *changed])
    at_hand = AtHand({}, {"resnet18": "random"})
    of = compute.all_wanted(small, small.columns, at_hand)
    asked = [of[label, "object"][0] for label in ("Global", *changed)]
    resized = [at_hand.dataset(each.plan).preparation.resize for each in asked]
    assert resized == ["squeeze", "crop", "squeeze"]
    groups = compute.missing(Cells(tmp_path / "cells"), at_hand, asked)
    assert [[each.row.label for each, _ in group] for group in groups] == [["Global"], ["Cropped"], ["Top"]]
    assert len({json.dumps(key, sort_keys=True) for group in groups for _, key in group}) == 3


def test_a_column_of_all_splits_is_cut_to_those_that_are_asked_for(target):
    small = dataclasses.replace(rows.read(str(target)), columns=(rows.Column("all", "demo"),))
    (column,) = small.narrowed(split=["texture"]).columns
    assert (column.splits, column.label) == (("texture",), "all: texture")


def test_killed_at_several_points_it_comes_to_the_same_table(target, tmp_path):
    """By SIGKILL after a cell, and within one; nothing that was finished is touched again."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert _run(target, straight) == 0
    command = [sys.executable, "-m", "jaxsode.reproduce", str(target), "--output", str(broken), *RANDOM]
    command += ["--seed", "0", "1"]
    finished = {}
    for number, later in ((1, 0.0), (3, 0.15)):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
            while len(_cells(broken)) < number and child.poll() is None:
                time.sleep(0.01)
            time.sleep(later)
            child.send_signal(signal.SIGKILL)
        now = _cells(broken)
        assert {path: now[path] for path in finished} == finished
        assert all(json.loads(path.read_text(encoding="utf-8"))["scores"] for path in now)
        finished = now
    assert len(finished) >= 3
    assert _run(target, broken) == 0
    now = _cells(broken)
    assert {path: now[path] for path in finished} == finished
    assert (broken / "small.csv").read_bytes() == (straight / "small.csv").read_bytes()
    assert (broken / "small.md").read_bytes() == (straight / "small.md").read_bytes()


def test_an_embedding_and_a_precision_are_a_function_and_a_line(target, tmp_path, monkeypatch):
    def first(key, features, k):
        return jnp.eye(features, k, dtype=jnp.float32)

    def diagonal(moments, epsilon, k, key):
        C = covariance(moments)
        return Whitener.of(whitener(jnp.diag(jnp.diag(C)), epsilon))

    monkeypatch.setitem(EMBEDDINGS, "first", first)
    monkeypatch.setitem(PRECISIONS, "diagonal", Spec("moments", of_moments=diagonal))
    row = '\n[[row]]\nlabel = "Mine"\nmethod = { embedding = "first", precision = "diagonal" }\nseeds = [0]\n'
    target.write_text(target.read_text() + row, encoding="utf-8")
    output = tmp_path / "out"
    assert _run(target, output, "--split", "object", "--row", "Mine") == 0
    line = next(r for r in _csv(output) if r["row"] == "Mine")
    assert 0 <= float(line["pixel_auroc.pooled"]) <= 1


def test_layers_are_kept_on_the_finest_grid(tmp_path):
    """Kept of two layers on the finest grid, or extracted alone, which the coarser grid decides otherwise."""
    path = tmp_path / "kept.toml"
    path.write_text(
        TARGET.split("[[row]]")[0]
        + '[[row]]\nlabel = "Alone"\nmethod = { embedding = "identity", layers = [1] }\n'
        + '[[row]]\nlabel = "Kept"\nmethod = { embedding = "identity", layers = [1, 2] }\nkeep = [1]\n'
        + '[[row]]\nlabel = "Coarse"\nmethod = { embedding = "identity", layers = [2] }\n'
        + '[[row]]\nlabel = "Up"\nmethod = { embedding = "identity", layers = [1, 2] }\nkeep = [2]\n',
        encoding="utf-8",
    )
    assert _run(path, tmp_path / "out", "--split", "object") == 0
    got = {r["row"]: float(r["pro.pooled"]) for r in _csv(tmp_path / "out", "kept")}
    assert got["Alone"] == pytest.approx(got["Kept"], abs=1e-5)
    assert got["Coarse"] != got["Up"]


def test_panels(tmp_path, capsys):
    """A strip for each kind of defect: the picture, each row's heat map, the truth; in the page alone."""
    path = tmp_path / "maps.toml"
    both = TARGET.replace('metric = "pixel_auroc.pooled"', 'kind = "maps"\npictures = 1')
    both = both.split("[[column]]")[0] + "[[column]]" + both.split("[[column]]")[1]
    for embedding in ("sampled", "semi-orthogonal"):
        both += f'\n[[row]]\nlabel = "{embedding}"\nmethod = {{ embedding = "{embedding}" }}\nseeds = [0]\n'
    path.write_text(both, encoding="utf-8")
    output = tmp_path / "out"
    assert main([str(path), "--output", str(output), *RANDOM]) == 0
    assert _run(path, output, "--row", "sampled", "--dataset", "demo") == 0  # into the same folder
    assert main([str(path), "--output", str(output), *RANDOM]) == 0
    page = (output / "maps.html").read_text(encoding="utf-8")
    kinds = {e.kind for e in load("demo").examples if e.defective and e.group == "object"}
    assert page.count('<figure class="panel">') == len(kinds) + 1  # and a good one
    assert "sampled, semi-orthogonal, truth" in page
    two = 'label = "other"\nmethod = { embedding = "sampled", backbone = "wide_resnet50_2" }'
    path.write_text(f"{both}\n[[row]]\n{two}\n", encoding="utf-8")
    assert main([str(path), "--output", str(tmp_path / "two"), *RANDOM]) == 2
    assert "drawn from one network" in capsys.readouterr().err
    assert "http" not in page.replace("http://www.w3.org", "")


def test_time_and_memory_of_a_row_of_its_own(target, tmp_path):
    text = target.read_text().replace('metric = "pixel', 'costs = true\nmetric = "pixel', 1)
    target.write_text(text, encoding="utf-8")
    output = tmp_path / "out"
    options = ["--weights", "resnet18=random", "--split", "object", "--row", "Semi-orthogonal", "--seed", "1"]
    assert main([str(target), "--output", str(output), *options, "--k", "3"]) == 0  # not the target's own
    (cost,) = [json.loads(p.read_text()) for p in _cells(output) if p.name.startswith("cost-")]
    assert cost["timing"]["fit_s"] > 0
    assert cost["memory"]["process_peak"] > 1e8
    # 16 × 16 locations, the state of k = 3: k² + 18·k numbers each.
    assert cost["state_bytes"] == 4 * 256 * (9 + 18 * 3)
    assert (cost["key"]["method"]["k"], cost["key"]["method"]["seed"]) == (3, 1)
    assert "time and memory" in (output / "small.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--row", "Nobody"], "--row Nobody is none of small: choose Cited, Global"),
        (["--dataset", "mstc"], "nothing of small is left"),
        (["--data", "kolektor"], "--data kolektor is no NAME=PATH"),
        (["--data", "demo=/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_mistakes_are_one_line(target, tmp_path, capsys, more, says):
    assert _run(target, tmp_path / "out", *more) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert says in line
    assert not (tmp_path / "out" / "small.md").exists()


def test_a_folder_with_something_else_is_refused(target, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert _run(target, tmp_path) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("k = 4", "kay = 4", "kay is nothing that a method has"),
        ("paper = { object = 0.5 }", "paper = { nowhere = 0.5 }", "there is no column nowhere"),
        ('label = "Global"', 'label = "Cited"', "two rows have one label"),
        ('metric = "pixel_auroc.pooled"', 'metric = "good"', "metric of small.toml"),
        ('title = "Small"', 'name = ["', "can't be read"),
        ('title = "Small"', 'titel = "Small"', "titel is unknown"),
        ('compare = "object"', 'compare = "other"', "there is no column other"),
    ],
)
def test_a_toml_that_says_nonsense(target, before, after, says):
    target.write_text(target.read_text().replace(before, after, 1), encoding="utf-8")
    with pytest.raises(ArgumentError, match=says):
        rows.read(str(target))


@pytest.mark.parametrize("name", [*rows.places()])
def test_every_target_can_be_read(name):
    target = rows.read(name)
    at_hand = AtHand({}, {})
    wanted = compute.all_wanted(target, target.columns, at_hand)
    for members in wanted.values():
        assert members
        assert all(each.part()["label"] for each in members)
