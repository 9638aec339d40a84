"""Each backbone's export gives the detector's maps to 1e-4, and its decisions, at any batch."""

import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method, load_backbone
from jaxsode.backbones import BACKBONES
from jaxsode.calibration import Calibration
from jaxsode.errors import ArgumentError, NumericalError
from jaxsode.export import check, folder, stablehlo
from jaxsode.inspection import Inspector
from jaxsode.judging import Judge

MASK = (slice(0, 12), slice(0, 20))


def _inspector(backbone, size, *, method=None, good=8, masked=True, rate=0.3):
    """Fitted on noise about one picture; the calibration's scores lie among those of other such pictures."""
    shots = _shots(size, good, seed=0)
    detector = Detector.fit([shots], backbone, method or Method(k=8))
    ignored = np.zeros(size, bool)
    ignored[MASK] = True
    ignored = ignored if masked else None
    scores = Inspector(detector, None, ignored)(_shots(size, 5, seed=1)).scores
    names = tuple(map(str, range(len(scores))))
    return Inspector(detector, Calibration(scores, names, rate, ignored=ignored), ignored)


def _shots(size, n, *, seed, spread=30):
    base = np.random.default_rng(99).integers(60, 190, (1, *size, 3))
    noise = np.random.default_rng(seed).normal(0, spread, (n, *size, 3))
    return np.clip(base + noise, 0, 255).astype(np.uint8)


def _of(path: Path):
    return check.of_onnx(path) if path.suffix == ".onnx" else check.of_stablehlo(path)


def _compare(out, inspector, size, batches=(1, 5)):
    found = {}
    for name in ("onnx", "stablehlo"):
        judging = _of(out / f"model.{name}")
        near = [_shots(size, n, seed=n, spread=spread) for n in batches for spread in (25, 40)]
        found[name] = check.compared(judging, inspector, near)
        assert found[name].map <= 1e-4
        assert found[name].decisions == 0
    return found


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_small(name, tmp_path):
    size = (70, 52)
    known = _inspector(load_backbone(name, weights="random"), size, method=Method(k=40))
    assert len(known.detector.precision.panels) == 2
    page = folder.export(known, tmp_path / "m")
    assert all(about["difference"]["map"] <= 1e-4 for about in page["formats"].values())
    _compare(tmp_path / "m", known, size)


@pytest.mark.slow  # ten networks at full size, twice: about half an hour on two cores
@pytest.mark.parametrize("size", [(256, 256), (704, 256)], ids=str)
@pytest.mark.parametrize("name", BACKBONES)
def test_full_size(name, size, tmp_path, record_property):
    start = time.perf_counter()
    backbone = load_backbone(name, weights="random")
    known = _inspector(backbone, size, method=Method(k=min(100, sum(backbone.channels))), good=4)
    folder.export(known, tmp_path / "m")
    for kind, found in _compare(tmp_path / "m", known, size).items():
        record_property(kind, found.map)
        print(f"{name} {size} {kind} {found.map:.1e} {found.pictures} {time.perf_counter() - start:.0f} s")


METHODS = {
    "recommended": Method(
        k=6, pooling=3, align="bilinear", precision="shrunk", shrinkage=0.3, variance_weight=0.5
    ),
    "one mean": Method(k=6, precision="global-one-mean"),
    "dual": Method(embedding="identity", precision="dual"),
}
SLOW_METHODS = {
    "global": Method(k=6, precision="global"),
    "eigenvectors": Method(k=6, embedding="identity", precision="eigenvectors-lower"),
}


@pytest.mark.parametrize(
    "what", [*METHODS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_METHODS)]
)
def test_every_kind_of_precision(what, tmp_path):
    size = (40, 24)
    known = _inspector(Tiny.make(), size, method=(METHODS | SLOW_METHODS)[what])
    folder.export(known, tmp_path / "m")
    _compare(tmp_path / "m", known, size, batches=(3,))


@pytest.mark.parametrize(
    ("kind", "N", "rates"),
    [
        (kind, *rest)
        for kind in ("onnx", "stablehlo")
        for rest in ((9, (0.1, 0.3, 0.5)), (29, (0.1,)), (59, (0.05,)))
    ],
)
def test_ties_are_decided_alike(kind, N, rates, tmp_path):
    """The calibration's scores are those that the export itself gives: each picture is a tie."""
    size = (40, 24)
    known = _inspector(Tiny.make(), size, masked=False)
    batch = _shots(size, N, seed=5)
    folder.export(known, tmp_path / "first", formats=(kind,))
    scores = np.asarray(_of(tmp_path / "first" / f"model.{kind}")(batch)["score"])
    for rate in rates:
        calibration = Calibration(scores, tuple(map(str, range(N))), rate)
        out = tmp_path / f"{rate}"
        page = folder.export(Inspector(known.detector, calibration), out, formats=(kind,))
        got = {name: np.asarray(x) for name, x in _of(out / f"model.{kind}")(batch).items()}
        np.testing.assert_array_equal(got["score"], scores)
        pixels = (got["map"] > np.float32(page["threshold"])).any((1, 2))
        np.testing.assert_array_equal(got["defective"], pixels)
        np.testing.assert_array_equal(got["p_value"] <= page["alpha"], pixels)
        np.testing.assert_array_equal(got["p_value"].astype(float) <= page["alpha"], pixels)
        np.testing.assert_array_equal(got["p_value"], np.float32(calibration.p_values(scores)))
        assert pixels.sum() == N - calibration.rank
        # The check itself takes them too, near the threshold as they are.
        found = check.compared(_of(out / f"model.{kind}"), Inspector(known.detector, calibration), [batch])
        assert found.decisions == 0


def test_float16_is_half_the_file_and_says_what_it_changes(tmp_path):
    size = (64, 48)
    known = _inspector(Tiny.make(), size, method=Method(k=20))
    folder.export(known, tmp_path / "whole")
    page = folder.export(known, tmp_path / "half", half=True)
    assert page["precision"] == "float16"
    assert 0 < page["effect"]["map"] < 2e-3
    for name in ("model.onnx", "model.npz"):
        assert (tmp_path / "half" / name).stat().st_size < 0.65 * (tmp_path / "whole" / name).stat().st_size
    _compare(tmp_path / "half", folder.halved(known), size)
    huge = jax.tree.map(lambda x: x * 1e6, known.detector.precision)
    with pytest.raises(NumericalError, match="float16"):
        folder.halved(
            dataclasses.replace(known, detector=dataclasses.replace(known.detector, precision=huge))
        )


def test_arrays_beside_the_file(tmp_path):
    size = (40, 24)
    known = _inspector(Tiny.make(), size)
    folder.export(known, tmp_path / "m", formats=("onnx",), inline=100)
    assert (tmp_path / "m" / "model.onnx.data").exists()
    found = check.compared(check.of_onnx(tmp_path / "m" / "model.onnx"), known, [_shots(size, 2, seed=3)])
    assert found.map <= 1e-4


def test_what_does_not_agree_is_refused(tmp_path, monkeypatch):
    size = (40, 24)
    known = _inspector(Tiny.make(), size)
    real = check.of_onnx

    def worse(path):
        judging = real(path)
        return lambda batch: {**judging(batch), "map": judging(batch)["map"] * np.float32(1.001)}

    monkeypatch.setattr(check, "of_onnx", worse)
    with pytest.raises(NumericalError, match=r"onnx differs from the detector by 0\.001"):
        folder.export(known, tmp_path / "m", formats=("onnx",))


WRONG = {
    "another decision": (lambda got: {"defective": ~got["defective"]}, "6 of 6 decisions"),
    "another p-value": (lambda got: {"p_value": got["p_value"] * np.float32(1.0001)}, "6 of 6 decisions"),
    "a score that is none": (lambda got: {"score": got["score"] * np.nan}, "by inf"),
    "a map that is infinite": (lambda got: {"map": got["map"] + np.float32(np.inf)}, "by inf"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_contradicts_the_detector_or_itself_is_refused(what, tmp_path, monkeypatch):
    known = _inspector(Tiny.make(), (40, 24))
    real, (wrong, says) = check.of_stablehlo, WRONG[what]

    def other(path):
        judging = real(path)

        def judged(batch):
            got = {name: np.asarray(x) for name, x in judging(batch).items()}
            return got | wrong(got)

        return judged

    monkeypatch.setattr(check, "of_stablehlo", other)
    with pytest.raises(NumericalError, match=says):
        folder.export(known, tmp_path / "m", formats=("stablehlo",))


def test_model_json_says_what_a_reader_needs(tmp_path):
    size = (40, 24)
    known = _inspector(Tiny.make(), size)
    page = folder.export(known, tmp_path / "m")
    assert json.loads((tmp_path / "m" / "model.json").read_text()) == page
    assert page["size"] == [40, 24]
    assert page["threshold"] == known.calibration.threshold
    assert page["outputs"] == {
        "map": ["batch", 40, 24], "score": ["batch"], "p_value": ["batch"], "defective": ["batch"]
    }  # fmt: skip
    assert page["formats"]["onnx"]["opset"] == 18
    plain = folder.export(Inspector(known.detector), tmp_path / "plain", formats=("stablehlo",))
    assert plain["threshold"] is None
    assert set(plain["outputs"]) == {"map", "score"}
    assert not (tmp_path / "plain" / "score_onnx.py").exists()


def test_an_unknown_platform_is_refused(tmp_path):
    judge = Judge.of(_inspector(Tiny.make(), (40, 24)))
    with pytest.raises(ArgumentError, match="platform 'abacus'"):
        stablehlo.write(tmp_path / "m", judge, platforms=("abacus",))


def test_it_takes_nothing_but_pictures_of_its_size(tmp_path):
    size = (40, 24)
    folder.export(_inspector(Tiny.make(), size), tmp_path / "m")
    for kind in ("onnx", "stablehlo"):
        judging = _of(tmp_path / "m" / f"model.{kind}")
        says = "Got invalid dimensions" if kind == "onnx" else "Shape mismatch"
        with pytest.raises(Exception, match=says):
            judging(pictures(1, size=(32, 24)))
        with pytest.raises(Exception, match=r"Unexpected input data type|uint8"):
            judging(pictures(1, size=size).astype(np.float32))


def test_an_export_for_another_platform_runs_here_too(tmp_path):
    page = folder.export(
        _inspector(Tiny.make(), (40, 24)), tmp_path / "m", formats=("stablehlo",), platforms=("tpu",)
    )
    assert page["formats"]["stablehlo"]["platforms"] == [jax.export.default_export_platform(), "tpu"]
    with pytest.raises(ArgumentError, match="needs a platform"):
        folder.export(_inspector(Tiny.make(), (40, 24)), tmp_path / "n", platforms=())
