"""The peers compute what ours computes; one that doesn't is not timed."""

import dataclasses
from argparse import Namespace

import jax.numpy as jnp
import numpy as np
import pytest

from bench import ours, path, pictures
from bench.record import Result
from bench.setting import RUNTIMES, Parts, Setting
from jaxsode.fitting import extract

torch = pytest.importorskip("torch", reason="the peers need PyTorch")

from bench.peers import plain_torch, torch_backbone  # noqa: E402


@pytest.mark.parametrize("name", ["resnet18", "wide_resnet50_2"])
def test_networks_agree(name):
    setting = Setting(name, (64, 96), 4)
    parts = ours.parts(setting)
    shown = pictures.generated(2, setting.size)
    mine = extract(ours.build(setting, parts).backbone, jnp.asarray(shown))
    with torch.inference_mode():
        theirs = torch_backbone.ResNet(parts.tensors)(torch_backbone.normalised(shown))
    for a, b in zip(mine, theirs, strict=True):
        b = b.permute(0, 2, 3, 1).numpy()
        assert np.abs(np.asarray(a) - b).max() <= 1e-4 * np.abs(b).max()


@pytest.fixture
def setting():
    return Setting("resnet18", (64, 96), 6)


@pytest.fixture
def batches(setting):
    return path.batched(pictures.generated(10, setting.size), 5)


def _implementations(setting, names, result):
    return path.built(path.available(names, result), setting, ours.parts(setting), result)


@pytest.mark.parametrize("pooling", [1, 3])
def test_runtimes_agree_at_any_batch(setting, batches, pooling, tmp_path):
    pytest.importorskip("onnxruntime", reason="it is one of them")
    from bench.peers.runtime import Runtime

    setting = dataclasses.replace(setting, pooling=pooling)
    result = Result("score", {}, tmp_path, silent=True)
    names = path.available(None, result, names=("ours", *RUNTIMES))
    if pooling > 1:
        assert path.built(["PyTorch, plain"], setting, ours.parts(setting), result) == {}
    found = path.built(names, setting, ours.parts(setting), result)
    models = {}
    assert set(path.agree(found, setting, batches, result, models=models)) == set(names)
    assert max(agreed["relative_error"] for agreed in result.agreement) < 1e-5
    models["ours"] = found["ours"].fit(batches)
    maps = {name: one.fetch(one.score(models[name], batches[0][:1])) for name, one in found.items()}
    for name, one in found.items():
        np.testing.assert_allclose(maps[name], maps["ours"], rtol=1e-4, err_msg=name)
        for stage in one.score_stages(models[name], batches[0]).values():
            one.wait(stage.call())
        if isinstance(one, Runtime):
            assert one.fetch(one.score(one.blank(), batches[0])).shape == (5, 64, 96)


def test_a_graph_beyond_a_protocol_buffer_is_left_out(tmp_path):
    pytest.importorskip("onnxruntime", reason="it is about its graph")
    result = Result("score", {}, tmp_path, silent=True)
    large = Setting("resnet18", (704, 256), 300)
    assert path.built(["ONNX Runtime"], large, Parts({}, np.zeros((448, 300))), result) == {}
    assert "protocol buffer" in result.left_out[0]["why"]


def test_maps_agree_and_stages_are_of_the_same_task(setting, batches, tmp_path):
    result = Result("fit", {}, tmp_path, silent=True)
    found = _implementations(setting, None, result)
    agreeing = path.agree(found, setting, batches, result)
    assert set(agreeing) == set(found)
    assert {"ours", "PyTorch, plain"} <= set(found)
    for one in found.values():
        for stages in (one.fit_stages(batches), one.score_stages(one.fit(batches), batches[0])):
            for stage in stages.values():
                one.wait(stage.call(*(stage.prepare() if stage.prepare else ())))


def test_models_that_were_not_fitted_have_the_shapes_of_those_that_were(setting, batches, tmp_path):
    for one in _implementations(setting, None, Result("fit", {}, tmp_path, silent=True)).values():
        maps = one.fetch(one.score(one.blank(), batches[0]))
        assert maps.shape == one.fetch(one.score(one.fit(batches), batches[0])).shape == (5, 64, 96)


def test_a_peer_that_computes_something_else_is_left_out(setting, batches, tmp_path, monkeypatch):
    result = Result("fit", {}, tmp_path, silent=True)
    found = _implementations(setting, ["ours", "PyTorch, plain"], result)
    monkeypatch.setattr(plain_torch, "EPSILON", 0.1)
    agreeing = path.agree(found, setting, batches, result)
    assert set(agreeing) == {"ours"}
    assert "PyTorch, plain" in result.left_out[0]["what"]


def test_blocks_give_the_maps_of_the_whole(setting, batches):
    one = ours.build(setting, ours.parts(setting))
    whole = one.fetch(one.score(one.fit(batches), batches[0]))
    blocks = one.in_blocks(lambda: batches, state_gb=3e-5)
    assert np.abs(blocks[:5] - whole).max() <= 1e-4 * whole.max()


def test_parts_survive_a_file(setting, tmp_path):
    parts = ours.parts(setting)
    parts.save(tmp_path / "parts.npz")
    again = Parts.load(tmp_path / "parts.npz")
    assert np.array_equal(again.W, parts.W)
    assert {name: t.tobytes() for name, t in again.tensors.items()} == {
        name: t.tobytes() for name, t in parts.tensors.items()
    }


def test_settings_come_in_the_order_asked_for():
    options = Namespace(backbone=("a", "b"), k=(2, 1), size=((3, 4),), pooling=(1,))
    assert [(s.backbone, s.k) for s in path.settings(options)] == [("a", 2), ("a", 1), ("b", 2), ("b", 1)]


def test_size():
    assert path.size("704x256") == (704, 256)
