"""A sweep's tables, against numbers worked out by hand."""

import csv
import io

import numpy as np
import pytest

from jaxsode import report


def _page(epsilon, seed, values, *, precision="local", choice=None):
    """One fold after another; each number counts for all five metrics."""

    def five(value):
        both = {"pooled": value, "paper": value}
        return {"pixel_auroc": both, "pro": both, "image_auroc": value}

    folds = [{"fold": str(i), "train": 9, "test": 4, **five(value)} for i, value in enumerate(values)]
    if choice is not None:
        folds[0]["choice"] = choice
    setting = {"embedding": "semi-orthogonal", "seed": seed, "precision": precision, "epsilon": epsilon}
    return {"setting": setting, "folds": folds, **report.summarise(folds)}


def test_seeds_are_taken_together_and_paired():
    pages = [
        _page(0.01, 0, [0.80, 0.90]),
        _page(0.01, 1, [0.82, 0.92]),
        _page(0.01, 2, [0.84, 0.94]),
        _page("5%", 0, [0.85, 0.91]),
        _page("5%", 2, [0.91, 0.95]),
        _page("5%", 1, [0.86, 0.94]),
        _page(0.01, 0, [0.7, 0.8], precision="full-rank"),
    ]
    first, second = report.as_markdown(pages).split("\n\n")
    heading, _, *rows = first.splitlines()
    assert heading.startswith(
        "| mean ± deviation over seeds | pixel ROC pooled | pixel ROC paper | PRO pooled |"
    )
    assert rows[0].startswith("| precision local, epsilon 0.01 | 0.8700 ± 0.0200 |")
    assert rows[2].startswith("| precision full-rank | 0.7500 | 0.7500 |")
    heading, _, *rows = second.splitlines()
    assert heading.startswith("| less precision local, epsilon 0.01: mean difference, 95 % interval")
    # Differences by seed .03, .03, .04; t of two degrees of freedom at 97.5 % is 4.3027.
    half = 4.3027 * np.std([0.03, 0.03, 0.04], ddof=1) / np.sqrt(3)
    middle = np.mean([0.03, 0.03, 0.04])
    assert rows[0].startswith(f"| epsilon 5% | {middle:+.4f} ({middle - half:+.4f} … {middle + half:+.4f}) |")
    assert rows[1].startswith("| precision full-rank | -0.1200 (")  # beside every seed
    assert len(rows) == 2


@pytest.mark.parametrize("missing", [0, 1])
def test_a_metric_that_is_missing_is_none(missing):
    pages = [_page(0.01, 0, [0.8, 0.9]), _page("5%", 0, [0.8, 0.9])]
    pages[missing]["mean"]["image_auroc"] = None
    first, second = report.as_markdown(pages).split("\n\n")
    assert first.splitlines()[2 + missing].endswith("| – |")
    assert second.splitlines()[2] == "| epsilon 5% | +0.0000 | +0.0000 | +0.0000 | +0.0000 | – |"


def test_one_setting_has_nothing_to_be_compared_to():
    (only,) = report.as_markdown([_page(0.01, seed, [0.8]) for seed in (0, 1)]).split("\n\n")
    assert only.splitlines()[2].startswith("| all | 0.8000 ± 0.0000 |")


def test_each_fold_has_its_line():
    choice = {"epsilon": "4.2%", "shrinkage": None, "note": None}
    pages = [_page(0.01, 0, [0.8, 0.9]), _page("auto", 0, [0.7, None], choice=choice)]
    rows = list(csv.DictReader(io.StringIO(report.as_csv(pages))))
    assert [row["fold"] for row in rows] == ["0", "1", "0", "1"]
    assert [row["epsilon"] for row in rows] == ["0.01", "0.01", "auto", "auto"]
    assert [row["chosen_epsilon"] for row in rows] == ["", "", "4.2%", ""]
    assert [row["pro.paper"] for row in rows] == ["0.8", "0.9", "0.7", ""]
    assert rows[0]["train"] == "9"


def test_no_two_settings_are_called_alike():
    pages = [_page(0.01, 0, [0.8]), _page(0.01, 0, [0.7]), _page(0.01, 0, [0.6]), _page("5%", 0, [0.5])]
    for page, shrinkage in zip(pages, (0.3, None, 0.5, None), strict=True):
        page["setting"]["shrinkage"] = shrinkage
    first, _ = report.as_markdown(pages).split("\n\n")
    names = [row.split("|")[1].strip() for row in first.splitlines()[2:]]
    wanted = ["epsilon 0.01, shrinkage 0.3", "shrinkage none", "shrinkage 0.5", "epsilon 5%, shrinkage none"]
    assert names == wanted
