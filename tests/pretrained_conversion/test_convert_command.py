"""The command from a published file to ours, and its mistakes: one line, exit code 2, nothing written."""

import subprocess
import sys

import handmade
import numpy as np
import pytest

from jaxsode.backbones import registry, weights
from jaxsode.commands.convert import main
from pretrained_conversion import converted, readers
from pretrained_conversion.name_maps.resnet import RESNET


def published(*, layers: tuple[int, ...] = (1, 2, 3, 4)) -> dict[str, np.ndarray]:
    """A state dict as torchvision's ResNet-18 has it, with numbers of no meaning."""
    rng = np.random.default_rng(0)
    tensors = {"fc.weight": np.zeros((10, 512), np.float32), "fc.bias": np.zeros(10, np.float32)}
    for leaf, shape in weights.shapes(registry.create("resnet18", layers=layers)).items():
        if not leaf.endswith(".kernel"):
            continue
        source = RESNET.source(leaf.removesuffix(".kernel"))
        assert source is not None
        rows, columns, channels, out_channels = shape
        tensors[f"{source.conv}.weight"] = rng.standard_normal(
            (out_channels, channels, rows, columns), dtype=np.float32
        )
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{source.norm}.{name}"] = rng.random(out_channels, dtype=np.float32) + 1
    return tensors


@pytest.fixture(scope="module")
def pth(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "resnet18-0.pth"
    handmade.write(path, published(), "zip")
    return path


def command(capsys, *arguments) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_pth_becomes_a_safetensors_file_of_the_default_layers(tmp_path, capsys, pth):
    out = tmp_path / "resnet18.safetensors"
    code, told, complaint = command(capsys, "resnet18", "--from", pth, "--out", out)
    assert (code, complaint, told.count("\n")) == (0, "", 1)
    assert converted.describe(out) == converted.Description(
        "resnet18", "resnet18-0.pth", readers.sha256(pth), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    )
    expected = weights.shapes(registry.create("resnet18"))
    found = readers.read(out)
    assert {name: tensor.shape for name, tensor in found.items()} == expected
    source = published()
    scale = source["bn1.weight"] / np.sqrt(source["bn1.running_var"] + np.float32(1e-5))
    kernel = source["conv1.weight"] * scale.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(found["conv1.kernel"], kernel.transpose(2, 3, 1, 0), rtol=1e-5)


def test_all_layers_on_demand(tmp_path, capsys, pth):
    out = tmp_path / "resnet18.safetensors"
    assert command(capsys, "resnet18", "--from", pth, "--out", out, "--layers", 1, 4)[0] == 0
    assert readers.read(out).keys() == weights.shapes(registry.create("resnet18", layers=(4,))).keys()


def test_a_folded_npz_becomes_the_same_file(tmp_path, capsys, pth):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert command(capsys, "resnet18", "--from", pth, "--out", first)[0] == 0
    folded = {
        name.replace(".kernel", ".weight"): tensor.transpose(3, 2, 0, 1) if tensor.ndim == 4 else tensor
        for name, tensor in readers.read(first).items()
    }
    np.savez(tmp_path / "folded.npz", **folded)  # pyright: ignore[reportArgumentType]
    assert command(capsys, "resnet18", "--from", tmp_path / "folded.npz", "--out", second)[0] == 0
    for name, tensor in readers.read(first).items():
        np.testing.assert_array_equal(readers.read(second)[name], tensor)


def test_mistakes_are_one_line_with_exit_code_2_and_write_nothing(tmp_path, capsys, pth):
    out = tmp_path / "out.safetensors"
    handmade.write(tmp_path / "shallow.pth", published(layers=(1,)), "zip")
    (tmp_path / "cut.pth").write_bytes(pth.read_bytes()[:1000])
    for arguments, words in [
        (["resnet34", "--from", pth], "does not fit resnet34"),
        (["resnet18", "--from", tmp_path / "shallow.pth"], "missing: layer2.0.conv1.weight"),
        (["resnet18", "--from", tmp_path / "cut.pth"], "cut short"),
        (["resnet18", "--from", tmp_path / "none.pth"], "No such file"),
        (["resnet18", "--from", pth, "--layers", 7], "layers"),
    ]:
        code, told, complaint = command(capsys, *arguments, "--out", out)
        assert (code, told, complaint.count("\n")) == (2, "", 1)
        assert complaint.startswith("error: ")
        assert words in complaint
        assert not out.exists()
    code, _, complaint = command(capsys, "resnet18", "--from", pth, "--out", tmp_path / ("n" * 300))
    assert (code, complaint.count("\n")) == (2, 1)
    assert "too long" in complaint


def test_an_existing_file_is_kept_before_anything_is_read(tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    code, _, complaint = command(capsys, "resnet18", "--from", "nothing.pth", "--out", out)
    assert (code, out.read_text()) == (2, "mine")
    assert "--overwrite" in complaint


def test_overwrite(tmp_path, capsys, pth):
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    assert command(capsys, "resnet18", "--from", pth, "--out", out, "--overwrite")[0] == 0
    assert converted.describe(out) is not None


def test_it_runs_from_the_command_line_and_its_help_names_the_backbones():
    run = [sys.executable, "-m", "jaxsode.cli", "convert", "--help"]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "efficientnet_lite0" in done.stdout
