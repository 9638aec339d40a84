"""Which of the paper's printed figures agree with each other: by arithmetic, from configs/paper."""

import tomllib
from pathlib import Path

import numpy as np

PAPER = Path(__file__).parents[2] / "configs" / "paper"
TEXTURE, OBJECT = 5, 10
HALF = 0.0005
"""What rounding to three digits can hide."""


def _rows(table):
    page = tomllib.loads((PAPER / f"{table}.toml").read_text(encoding="utf-8"))
    return {row["label"]: row["paper"] for row in page["row"] if len(row.get("paper", ())) > 1}


def _apart(of_texture, of_object, overall):
    """How far the overall figure is from the mean over categories of its two parts, beyond their rounding."""
    mean = (TEXTURE * of_texture + OBJECT * of_object) / (TEXTURE + OBJECT)
    return max(0.0, abs(mean - overall) - 2 * HALF)


def test_table_1_averages():
    """Overall is the mean of five textures and ten objects in each of the ten rows."""
    rows = _rows("table1")
    rows = {label: row for label, row in rows.items() if not label.endswith("on the finest grid")}
    assert len(rows) == 10
    for label, row in rows.items():
        assert _apart(row["Texture"], row["Object"], row["Overall"]) < 1e-9, label


def test_table_2_averages():
    """Two of thirteen are not: AnoGAN's .443 should be .447, MobileNetV3-Large's .909 .907."""
    rows = {label: row for label, row in _rows("table2").items() if "PRO, texture" in row}
    wrong = {
        label: round((5 * row["PRO, texture"] + 10 * row["PRO, object"]) / 15, 3)
        for label, row in rows.items()
        if _apart(row["PRO, texture"], row["PRO, object"], row["PRO, overall"]) > 1e-9
    }
    assert len(rows) == 13
    assert sorted(wrong.values()) == [0.447, 0.907]


def test_table_3_means_and_deviations():
    """The printed mean and deviation over three folds are those of the folds; the latter is divided by 2."""
    printed = {
        (0.904, 0.883, 0.902): (0.896, 0.012),
        (0.939, 0.935, 0.962): (0.945, 0.015),
        (0.953, 0.951, 0.976): (0.960, 0.014),
    }
    for folds, expected in printed.items():
        found = np.mean(folds), np.std(folds, ddof=1)
        assert np.abs(np.subtract(found, expected)).max() <= HALF
        assert abs(np.std(folds) - expected[1]) > HALF


def test_table_5_averages():
    """Each column's mean is that of its fifteen categories.

    ResNet-18's is .926, of textures .907 and of objects .936; Tables 1 and 2 have .924, .909 and .931. The
    other columns are Table 2's.
    """
    elsewhere = {row: figures for row, figures in _rows("table2").items() if "PRO, texture" in figures}
    apart = {}
    for label, row in _rows("table5").items():
        mean = row.pop("Mean")
        column = np.array(list(row.values()))
        assert len(column) == TEXTURE + OBJECT
        assert abs(column.mean() - mean) <= HALF
        parts = column[:TEXTURE].mean(), column[TEXTURE:].mean(), mean
        names = "PRO, texture", "PRO, object", "PRO, overall"
        printed = [elsewhere[label][name] for name in names]
        apart[label] = np.abs(np.subtract(parts, printed)).max() > 2 * HALF
        if apart[label]:
            np.testing.assert_allclose(parts, [0.9074, 0.9355, 0.926], atol=1e-9)
            assert printed == [0.909, 0.931, 0.924]
    assert [label for label, differs in apart.items() if differs] == ["Semi-orthogonal (ResNet-18, k = 100)"]
