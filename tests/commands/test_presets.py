"""What is asked for beyond the paper: presets, what stands above them, and what a run leaves of it."""

import json

import numpy as np
import pytest
from miniature import is_complete, kolektor

from jaxsode import Detector
from jaxsode.commands.run import main
from jaxsode.experiment import plan as plans
from jaxsode.experiment.plan import Request, complete
from jaxsode.report import flatten
from jaxsode.share import Share


def _page(**request):
    (method,) = complete(Request(dataset="kolektor", k=(8,), **request)).methods
    page, papers = method.page(), complete(Request(dataset="kolektor", k=(8,))).methods[0].page()
    return {name: value for name, value in page.items() if value != papers[name]}


def test_presets_and_what_stands_above_them():
    assert _page(preset="paper") == {}
    assert _page(preset="recommended") == {"pooling": 3, "epsilon": "5%"}
    assert _page(preset="recommended", epsilon=("auto",)) == {"pooling": 3, "epsilon": "auto"}
    few = {"precision": "shrunk", "shrinkage": "auto", "epsilon": "auto"}
    assert _page(preset="few") == few
    assert _page(preset="few", shrinkage=("0.5",)) == few | {"shrinkage": 0.5}
    assert _page(preset="recommended", pooling=("3,1,1",), align=("bilinear",)) == {
        "pooling": (3, 1, 1),
        "align": "bilinear",
        "epsilon": "5%",
    }
    assert _page(preset="paper", precision=("shrunk",)) == {"precision": "shrunk", "shrinkage": "auto"}
    assert _page(variance_weight=(0.2,), epsilon=("0.1",)) == {"variance_weight": 0.2, "epsilon": 0.1}


def test_a_data_set_may_have_its_own(tmp_path, monkeypatch):
    own = (plans.folder() / "kolektor.toml").read_text(encoding="utf-8")
    for more, expected in (
        ('preset = "recommended"', (3, Share(5.0), "max")),
        ("pooling = [3, 1, 1]", ((3, 1, 1), 0.01, "max")),
        ('picture_score = "top1%"', (1, 0.01, "top1%")),
    ):
        (tmp_path / "kolektor.toml").write_text(f"{own}\n{more}\n", encoding="utf-8")
        monkeypatch.setattr(plans, "folder", lambda: tmp_path)
        for preset, found in ((None, expected), ("paper", (1, 0.01, expected[2]))):
            plan = complete(Request(dataset="kolektor", preset=preset))
            (method,) = plan.methods
            assert (method.pooling, method.epsilon, plan.picture_score) == found


def test_a_folder_of_ones_own_has_the_recommended(tmp_path):
    for preset, expected in ((None, (3, Share(5.0))), ("paper", (1, 0.01))):
        (method,) = complete(Request(dataset="folder", data_dir=tmp_path, preset=preset)).methods
        assert (method.pooling, method.epsilon) == expected


def test_a_sweep_has_a_name_for_each():
    request = {"pooling": ("1", "3"), "epsilon": ("0.01", "5%", "auto"), "variance_weight": (0.0, 0.2)}
    plan = complete(Request(dataset="kolektor", **request))
    assert len({str(method) for method in plan.methods}) == 12
    both = complete(Request(precision=("local", "shrunk"), shrinkage=("0.3", "auto")))
    assert [(m.precision, m.shrinkage) for m in both.methods] == [
        ("local", None),
        ("shrunk", 0.3),
        ("shrunk", "auto"),
    ]


@pytest.mark.parametrize("precision", ["local", "shrunk"])
def test_what_was_chosen_stands_beside_the_numbers(tmp_path, monkeypatch, capsys, precision):
    is_complete(monkeypatch)
    data = kolektor(tmp_path / "data")
    given = ["--dataset=kolektor", f"--data-dir={data}", "--size", "64", "32", "--weights=random", "--k=8"]
    given += [
        "--batch-size=4",
        "--fold=1",
        "--maps=none",
        "--pooling=3",
        "--epsilon=auto",
        "--precision",
        precision,
    ]
    given += ["--picture-score=top1%"]
    results = []
    for name, more in (("whole", []), ("blocks", ["--memory-gb", "0.00004"])):
        assert main([*given, f"--output={tmp_path / name}", *more]) == 0
        results.append(json.loads((tmp_path / name / "metrics.json").read_text(encoding="utf-8")))
        choice = results[-1]["folds"][0]["choice"]
        detector = Detector.load(tmp_path / name / "detector" / "1")
        assert choice["epsilon"] == str(detector.method.epsilon)
        assert choice["shrinkage"] == detector.method.shrinkage
        assert np.isclose(choice["curve"]["shares"], detector.choice.shares).all()
        said = f"ε = {float(detector.method.epsilon.percent):.3g}% of the mean variance"
        assert said in " ".join(capsys.readouterr().err.split())
    whole, blocks = results
    assert (whole["config"]["epsilon"], whole["config"]["picture_score"]) == ("auto", "top1%")
    assert whole["folds"][0]["choice"]["epsilon"] == blocks["folds"][0]["choice"]["epsilon"]
    for name, value in flatten(whole["mean"]).items():
        assert abs(flatten(blocks["mean"])[name] - value) < 1e-4
