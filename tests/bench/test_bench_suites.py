"""Every suite runs, tiny; its JSON has what a reader needs; a table and a plot come of it."""

import json

import miniature
import numpy as np
import pytest

from bench import inverse, metrics, run, scaling, study, table
from bench.harness import ROUNDS

SUITES = {
    "inverse": [],
    "fit": ["--no-memory", "--only", "ours"],
    "score": ["--no-memory", "--only", "ours", "ours, without llvmlite"],
    "metrics": [],
    "backbones": [],
    "start": [],
    "study": ["--dataset", "kolektor"],
}


@pytest.fixture(scope="module", params=SUITES)
def found(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    arguments = [request.param, "--quick", "--results", str(folder), *SUITES[request.param]]
    if request.param == "study":
        arguments += ["--data-dir", str(miniature.kolektor(folder / "data"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSODE_HOME", str(folder / "home"))
        miniature.is_complete(patch)
        assert run.main(arguments) == 0
    (path,) = folder.glob("*.json")
    return path


def test_json_has_what_a_reader_needs(found):
    content = json.loads(found.read_text())
    assert found.name.startswith(f"{content['suite']}-")
    assert content["date"][:10] in found.name
    assert content["rows"]
    environment = content["environment"]
    assert environment["versions"]["jax"]
    assert environment["machine"]["cores"] >= 1
    assert {"device", "commit", "dtype", "threads", "load_average"} <= set(environment)
    for row in content["rows"]:
        if "timing" in row:
            assert row["timing"]["rounds"] >= ROUNDS
            low, high = row["timing"]["quartiles_s"]
            assert 0 < low <= row["timing"]["median_s"] <= high
    for agreed in content["agreement"]:
        assert agreed["relative_error"] <= agreed["tolerance"]


def test_table_has_a_line_for_each_row(found):
    content = table.read(found)
    text = table.markdown(content)
    rows = content["derived"].get("summary", content["rows"])
    assert sum(line.startswith("| ") for line in text.splitlines()) == 2 + len(rows)
    assert content["environment"]["machine"]["processor"] in text


def test_plot(found):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    from bench import plots

    made = plots.plot(found)
    first = made.read_bytes()
    assert first.startswith(b"<?xml")
    assert plots.plot(found).read_bytes() == first


def test_what_the_time_does_not_allow_is_left_out(tmp_path):
    assert run.main(["inverse", "--quick", "--minutes", "0", "--results", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*.json")
    content = json.loads(path.read_text())
    assert content["rows"] == []
    assert {left["what"] for left in content["left_out"]} >= {"k = 4", "k = 16"}


def test_exponent_and_ratio():
    rows = [{"method": "cubic", "k": k, "grid_s": 1e-6 * k**3} for k in (10, 50, 100, 448)]
    found = inverse.summary(rows)
    assert found["exponent_from_k50"]["cubic"] == pytest.approx(3)
    assert found["ratio_448_to_100"]["cubic"] == pytest.approx(4.48**3)


def test_covariances_are_positive_definite():
    C = np.asarray(inverse.covariances(7, 40))
    assert C.shape == (40, 7, 7)
    assert np.linalg.eigvalsh(C).min() > 0


def test_study_averages_folds_then_seeds():
    values = {(0, "1"): 0.5, (0, "2"): 0.7, (1, "1"): 0.7, (1, "2"): 0.9}
    rows = [
        {"embedding": "sampled", "k": 4, "seed": seed, "fold": fold}
        | dict.fromkeys(study.VALUES, value)
        | dict.fromkeys(study.TIMES, 1.0)
        for (seed, fold), value in values.items()
    ]
    (found,) = study.summary(rows)
    assert found["runs"] == 4
    assert found["pro.pooled"] == pytest.approx(0.7)
    assert found["pro.pooled.std"] == pytest.approx(np.std([0.6, 0.8], ddof=1))


def test_study_without_a_metric_or_a_time_leaves_it_out():
    row = {"embedding": "sampled", "k": 4, "seed": 0, "fold": "1"}
    row |= dict.fromkeys(study.VALUES, None) | dict.fromkeys(study.TIMES, 1.0) | {"fit_s": None}
    (found,) = study.summary([row])
    assert "fit_s" not in found
    assert "pro.pooled" not in found
    assert found["fit_and_score_s"] == 1.0


def test_loop_over_thresholds_nears_the_exact_value():
    maps, masks = metrics.scores(4, (48, 64))
    truth = masks > 127
    assert 0 < truth.mean() < 0.5
    for regions, exact in ((False, metrics.metrics.pixel_auroc), (True, metrics.metrics.pro)):
        coarse, fine = (metrics.loop(maps, truth, n, regions=regions) for n in (20, 2000))
        assert abs(fine - exact(maps, masks)) < min(2e-3, abs(coarse - exact(maps, masks)))


def test_sharing_in_a_child():
    from bench import child

    found = child.measure(
        "share",
        gigabytes=8,
        mesh=(1, 2),
        backbone="resnet18",
        size=(32, 32),
        k=4,
        pictures=4,
        batch=2,
        rounds=5,
    )
    assert found["relative_error"] <= scaling.TOLERANCE
    assert found["state_bytes_per_device"] == 4 * (8 * 8 // 2) * (4 + 16)
