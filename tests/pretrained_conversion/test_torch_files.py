"""Files that PyTorch itself writes. The tests that need no PyTorch are in test_readers.py."""

import argparse
import functools
from collections import Counter, defaultdict, deque
from pathlib import Path

import numpy as np
import pytest

from jaxsode.errors import WeightsError
from pretrained_conversion import readers

torch = pytest.importorskip("torch", reason="PyTorch is not installed: its own files are not tested")


def network():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2))
    model.train()(torch.randn(2, 3, 6, 6))
    return model


def equal(found: dict[str, np.ndarray], state) -> None:
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found[name].astype(np.float64), tensor.detach().double().numpy())


def save(state, path: Path, kind: str, **options) -> Path:
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip", **options)
    return path


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_state_dict_round_trips(tmp_path, kind):
    state = network().state_dict()
    equal(readers.read(save(state, tmp_path / "a.pth", kind)), state)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_pickle_protocol(tmp_path, kind, protocol):
    state = network().state_dict()
    equal(readers.read(save(state, tmp_path / "a.pth", kind, pickle_protocol=protocol)), state)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_dtypes(tmp_path, kind, dtype):
    state = {"a": torch.tensor([[0.0, 1.0], [2.0, 3.0]]).to(dtype)}
    equal(readers.read(save(state, tmp_path / "a.pth", kind)), state)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_views_of_one_storage(tmp_path, kind):
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = {"a": base, "b": base.permute(2, 0, 1), "c": base[1, ::2, 1:3], "d": base[0, 0, 0]}
    state |= {"e": torch.ones(1).expand(3, 2), "f": torch.zeros(0, 5)}
    equal(readers.read(save(state, tmp_path / "a.pth", kind)), state)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_training_checkpoint_with_parameters_and_an_optimizer(tmp_path, kind):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 6, 6)).sum().backward()
    optimizer.step()
    parallel = {f"module.{name}": parameter for name, parameter in model.named_parameters()}
    checkpoint = {"epoch": 3, "arch": "net", "state_dict": parallel, "optimizer": optimizer.state_dict()}
    path = save(checkpoint, tmp_path / "a.pth", kind)
    equal(readers.read(path), parallel)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_what_torchvisions_and_timms_scripts_save_beside_the_model(tmp_path, kind, protocol):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 6, 6)).sum().backward()
    optimizer.step()
    arguments = argparse.Namespace(
        device=torch.device("cpu"),
        dtype=torch.float32,
        output_dir=Path("runs"),
        activation=functools.partial(max, 1),
        counts=Counter({1: 2}),
        groups=defaultdict(list, {"a": [frozenset([1])]}),
        last=deque([np.float64(1), np.arange(3)]),
    )
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2]).state_dict(),
        "epoch": 3,
        "args": arguments,
        "model_ema": torch.optim.swa_utils.AveragedModel(model).state_dict(),
    }
    path = save(checkpoint, tmp_path / "a.pth", kind, pickle_protocol=protocol)
    equal(readers.read(path), model.state_dict())


def test_tensors_with_attributes_and_parameters(tmp_path):
    state = {"a": torch.ones(2), "b": torch.nn.Parameter(torch.ones(3))}
    state["a"].note = state["b"].note = "mine"  # pyright: ignore[reportAttributeAccessIssue]
    equal(readers.read(save(state, tmp_path / "a.pth", "zip")), state)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_whole_model_is_refused_by_name(tmp_path, kind):
    sequential = r"an object of 'torch\.nn\.modules\.container\.Sequential', of which nothing was run"
    path = save(network(), tmp_path / "a.pth", kind)
    with pytest.raises(WeightsError, match=f"no state dict but {sequential}: save the model's state_dict"):
        readers.read(path)
    path = save({"model": network(), "epoch": 3}, tmp_path / "a.pth", kind)
    with pytest.raises(WeightsError, match=f"entry 'model' is {sequential}: save the model's state_dict"):
        readers.read(path)


def test_numbers_that_no_backbone_uses(tmp_path):
    path = save({"a": torch.ones(2, dtype=torch.complex64)}, tmp_path / "a.pth", "zip")
    with pytest.raises(WeightsError, match=r"numbers of 'torch\.ComplexFloatStorage'"):
        readers.read(path)
