"""A saved detector scores as the one in memory, bit for bit; anything less than whole is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method, checkpoint, load_backbone, semi_orthogonal
from jaxsode.backbones import registry
from jaxsode.detector import Settings
from jaxsode.errors import CheckpointError


@pytest.fixture(scope="module")
def detector():
    return Detector.fit([pictures(12)], Tiny.make(), Method(k=5, seed=2))


def test_loaded_equals_saved_bit_for_bit(detector, tmp_path):
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector", backbone=Tiny(kernel=np.zeros((3, 12), np.float32)))
    assert loaded.settings == detector.settings
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(detector), strict=True):
        np.testing.assert_array_equal(a, b)
    test = pictures(2, seed=1)
    np.testing.assert_array_equal(loaded.anomaly_map(test), detector.anomaly_map(test))


def test_a_backbone_of_the_package_needs_nothing_given(tmp_path):
    backbone = load_backbone("resnet18", weights="random", layers=(1, 2))
    detector = Detector.fit([pictures(4)], backbone, Method(k=5))
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert loaded.backbone.layers == (1, 2)
    test = pictures(1, seed=1)
    np.testing.assert_array_equal(loaded.anomaly_map(test), detector.anomaly_map(test))


def test_a_foreign_backbone_must_be_given(detector, tmp_path):
    detector.save(tmp_path / "detector")
    with pytest.raises(CheckpointError, match="pass it to load as `backbone`"):
        Detector.load(tmp_path / "detector")
    with pytest.raises(CheckpointError, match="give the backbone that it was fitted with"):
        Detector.load(
            tmp_path / "detector", backbone=load_backbone("resnet18", weights="random", layers=(1,))
        )


@pytest.mark.parametrize("name", registry.BACKBONES)
def test_every_backbone_comes_back_as_it_was(name, tmp_path):
    """Its layers and its dtype, too; by a detector that was put together by hand."""
    backbone = load_backbone(name, weights="random", layers=(1, 2), dtype=jnp.bfloat16)
    W = semi_orthogonal(0, sum(backbone.channels), 3)
    mean, whitener = jnp.zeros((8, 8, 3)), jnp.broadcast_to(jnp.eye(3), (8, 8, 3, 3))
    detector = Detector(backbone, W, mean, whitener, Settings((32, 32), "given", 0.01, 4.0, None, 9))
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert jax.tree.structure(loaded) == jax.tree.structure(detector)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(detector), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_backbone_of_the_same_shapes_is_refused(detector, tmp_path):
    detector.save(tmp_path / "detector")
    with pytest.raises(CheckpointError, match=r"tiny, not giant.* give the backbone that it was fitted with"):
        Detector.load(tmp_path / "detector", backbone=replace(Tiny.make(), name="giant"))


def test_settings_of_numpy_are_saved(tmp_path):
    numbers = {"seed": np.int64(3), "epsilon": np.float32(0.01), "sigma": np.float64(2)}
    detector = Detector.fit([pictures(4)], Tiny.make(), Method(k=5), **numbers)
    detector.save(tmp_path / "detector")
    assert Detector.load(tmp_path / "detector", backbone=Tiny.make()).settings == detector.settings


def test_nothing_is_overwritten(detector, tmp_path):
    (tmp_path / "detector").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        detector.save(tmp_path / "detector")
    assert not any((tmp_path / "detector").iterdir())


def _save(detector, folder):
    detector.save(folder)
    return folder


@pytest.mark.parametrize(
    "what", ["missing", "empty", "page cut", "page of less", "no arrays", "array cut", "newer format"]
)
def test_less_than_whole_is_refused(detector, tmp_path, what):
    folder = _save(detector, tmp_path / "detector")
    page = folder / "detector.json"
    if what == "missing":
        shutil.rmtree(folder)
    elif what == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif what == "page cut":
        page.write_text(page.read_text()[:40])
    elif what == "page of less":
        page.write_text('{"format": 1, "backbone": "tiny"}')
    elif what == "no arrays":
        shutil.rmtree(folder / "arrays")
    elif what == "array cut":
        for data in folder.rglob("d/*"):
            data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    else:
        page.write_text(json.dumps(json.loads(page.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError) as error:
        Detector.load(folder, backbone=Tiny.make())
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_bytes_are_refused(detector, tmp_path):
    """In a process of its own, for TensorStore may complain of it after the error as well."""
    folder = _save(detector, tmp_path / "detector")
    for data in folder.rglob("d/*"):
        data.write_bytes(bytes(data.stat().st_size))
    script = textwrap.dedent(
        """
        import sys
        sys.path.insert(0, sys.argv[2])
        from tiny import Tiny
        from jaxsode import Detector, Method
        from jaxsode.errors import CheckpointError

        try:
            Detector.load(sys.argv[1], backbone=Tiny.make())
        except CheckpointError as error:
            print(error)
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(folder), os.path.dirname(__file__)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{folder}: its arrays can't be read" in run.stdout
    assert run.stdout.count("\n") == 1


def test_an_error_while_saving_leaves_nothing(detector, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "_arrays", full)
    with pytest.raises(OSError, match="No space left"):
        detector.save(tmp_path / "detector")
    assert not any(tmp_path.iterdir())


def test_killed_in_the_middle_of_writing(tmp_path):
    """SIGKILL while Orbax writes: the folder never appears under its name."""
    script = textwrap.dedent(
        """
        import sys, time
        sys.path.insert(0, sys.argv[2])
        import orbax.checkpoint as ocp
        from tiny import Tiny, pictures
        from jaxsode import Detector, Method

        detector = Detector.fit([pictures(4)], Tiny.make(), k=5)
        whole = ocp.StandardCheckpointer.save
        def slow(self, *arguments, **named):
            whole(self, *arguments, **named)
            print("writing", flush=True)
            time.sleep(60)
        ocp.StandardCheckpointer.save = slow
        detector.save(sys.argv[1])
        """
    )
    target = tmp_path / "detector"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(target), os.path.dirname(__file__)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline().strip() == "writing"
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    assert any(tmp_path.iterdir())  # it had begun
    assert not target.exists()
    with pytest.raises(CheckpointError, match="holds no whole detector"):
        Detector.load(target, backbone=Tiny.make())
