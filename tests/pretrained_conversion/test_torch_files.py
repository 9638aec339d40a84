"""Files that PyTorch itself writes. The tests that need no PyTorch are in test_readers.py."""

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
    equal(readers.read(path), dict(model.named_parameters()))


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_whole_model_is_refused(tmp_path, kind):
    path = save(network(), tmp_path / "a.pth", kind)
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.container\.Sequential"):
        readers.read(path)
