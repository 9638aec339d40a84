"""A saved detector scores as the one in memory, bit for bit; anything less than whole is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method, checkpoint, load_backbone
from jaxsode.algebra.embedding import semi_orthogonal
from jaxsode.algebra.precision import Whitener
from jaxsode.backbones import registry
from jaxsode.errors import ArgumentError, CheckpointError


@pytest.fixture(scope="module")
def detector():
    return Detector.fit([pictures(12)], Tiny.make(), Method(k=5, seed=2))


def test_loaded_equals_saved_bit_for_bit(detector, tmp_path):
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector", backbone=Tiny(kernel=np.zeros((3, 12), np.float32)))
    assert loaded.method == detector.method
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
    method, count = Method(embedding="given", k=3, layers=(1, 2)), jnp.asarray(9, jnp.int32)
    detector = Detector(backbone, W, mean, Whitener(whitener), count, method, None, (32, 32))
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
    detector = Detector.fit([pictures(4)], Tiny.make(), Method(k=5, **numbers))
    detector.save(tmp_path / "detector")
    assert Detector.load(tmp_path / "detector", backbone=Tiny.make()).method == detector.method


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
        page.write_text('{"format": 2, "backbone": "tiny"}')
    elif what == "no arrays":
        shutil.rmtree(folder / "whole")
    elif what == "array cut":
        data = max(folder.glob("rows-*/**/d/*"), key=lambda file: file.stat().st_size)
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    else:
        page.write_text(json.dumps(json.loads(page.read_text()) | {"format": 99}))
    with pytest.raises(CheckpointError) as error:
        Detector.load(folder, backbone=Tiny.make())
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_one_flipped_bit_is_noticed(detector, tmp_path):
    """In any file, the page too; what lies beside the files isn't looked at."""
    folder = _save(detector, tmp_path / "detector")
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "whole" / ".nfs0001").write_bytes(b"x")
    assert Detector.load(folder, backbone=Tiny.make()).method == detector.method
    rng = np.random.default_rng(0)
    files = [
        file for file in folder.rglob("*") if file.is_file() and file.name not in (".DS_Store", ".nfs0001")
    ]
    for file in files:
        whole = file.read_bytes()
        for bit in rng.integers(0, 8 * len(whole), 5):
            spoilt = bytearray(whole)
            spoilt[bit // 8] ^= 1 << bit % 8
            file.write_bytes(spoilt)
            with pytest.raises(CheckpointError) as error:
                Detector.load(folder, backbone=Tiny.make())
            assert "\n" not in str(error.value)
        file.write_bytes(whole)
    Detector.load(folder, backbone=Tiny.make())


def test_an_error_while_saving_leaves_nothing(detector, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "_listed", full)
    with pytest.raises(OSError, match="No space left"):
        detector.save(tmp_path / "detector")
    assert not any(tmp_path.iterdir())


def test_format_1_still_scores():
    """Saved by the version before this format: twelve pictures, k = 5, seed 2."""
    folder = Path(__file__).parent / "format1"
    detector = Detector.load(folder / "detector", backbone=Tiny.make())
    expected = np.load(folder / "maps.npy")
    np.testing.assert_allclose(detector.anomaly_map(pictures(2, seed=1)), expected, rtol=1e-5)
    assert detector.method == Method(k=5, seed=2)
    assert int(detector.count) == 12
    with pytest.raises(ArgumentError, match="needs the moments"):
        detector.update([pictures(1)])
    with pytest.raises(CheckpointError, match="give the backbone that it was fitted with"):
        Detector.load(folder / "detector", backbone=replace(Tiny.make(), name="giant"))


def test_a_damaged_detector_of_format_1(tmp_path):
    folder = tmp_path / "detector"
    shutil.copytree(Path(__file__).parent / "format1" / "detector", folder)
    data = max((folder / "arrays").rglob("*"), key=lambda file: file.stat().st_size if file.is_file() else 0)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is not as it was saved"):
        Detector.load(folder, backbone=Tiny.make())


def test_without_moments_it_is_as_large_and_scores_alike(detector, tmp_path):
    alone = Detector.fit([pictures(12)], Tiny.make(), Method(k=5, seed=2), keep_moments=False)
    alone.save(tmp_path / "alone")
    loaded = Detector.load(tmp_path / "alone", backbone=Tiny.make())
    assert loaded.statistics is None
    np.testing.assert_array_equal(loaded.anomaly_map(pictures(2)), detector.anomaly_map(pictures(2)))
    detector.save(tmp_path / "whole")
    loaded = Detector.load(tmp_path / "whole", backbone=Tiny.make(), keep_moments=False)
    assert loaded.statistics is None
    np.testing.assert_array_equal(loaded.anomaly_map(pictures(2)), detector.anomaly_map(pictures(2)))


@pytest.mark.parametrize("precision", ["eigenvectors-lower", "dual", "global", "global-one-mean"])
@pytest.mark.parametrize("keep", [True, False])
def test_other_precisions_come_back(precision, keep, tmp_path):
    """All eigenvectors are a square matrix that isn't triangular."""
    k = 24 if precision.startswith("eigen") else None
    method = Method(embedding="identity", precision=precision, k=k)
    saved = Detector.fit([pictures(12)], Tiny.make(), method, keep_moments=keep)
    saved.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector", backbone=Tiny.make())
    test = pictures(2, seed=1)
    np.testing.assert_allclose(loaded.anomaly_map(test), saved.anomaly_map(test), rtol=1e-5)
    assert loaded.method == method


def test_nothing_is_printed(detector, tmp_path, capfd, caplog):
    detector.save(tmp_path / "detector")
    Detector.load(tmp_path / "detector", backbone=Tiny.make())
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


def test_moments_come_back(detector, tmp_path):
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector", backbone=Tiny.make())
    for a, b in zip(jax.tree.leaves(loaded.statistics), jax.tree.leaves(detector.statistics), strict=True):
        np.testing.assert_array_equal(a, b)
    more, same = (d.update([pictures(3, seed=5)]) for d in (loaded, detector))
    np.testing.assert_array_equal(more.anomaly_map(pictures(2)), same.anomaly_map(pictures(2)))


def test_loaded_onto_a_mesh_and_saved_from_one(detector, tmp_path):
    detector.save(tmp_path / "one")
    test = pictures(2, seed=1)
    expected = np.asarray(detector.anomaly_map(test))
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("locations",))
    eight = Detector.load(tmp_path / "one", backbone=Tiny.make(), mesh=mesh)
    assert {shard.data.shape for shard in eight.whitener.addressable_shards} == {(1, 6, 5, 5)}
    np.testing.assert_allclose(eight.anomaly_map(test), expected, rtol=1e-5)
    more = eight.update([pictures(3, seed=5)])
    np.testing.assert_allclose(
        more.anomaly_map(test), detector.update([pictures(3, seed=5)]).anomaly_map(test), rtol=1e-5
    )
    eight.save(tmp_path / "eight")
    assert len(list((tmp_path / "eight").glob("rows-*"))) == 8
    again = Detector.load(tmp_path / "eight", backbone=Tiny.make())
    np.testing.assert_allclose(again.anomaly_map(test), expected, rtol=1e-5)
    three = jax.sharding.Mesh(np.array(jax.devices()[:3]), ("locations",))
    with pytest.raises(ArgumentError, match="8 rows don't divide among 3 devices"):
        Detector.load(tmp_path / "one", backbone=Tiny.make(), mesh=three)


def test_it_goes_where_the_default_device_is(detector, tmp_path):
    detector.save(tmp_path / "detector")
    with jax.default_device(jax.devices()[3]):
        loaded = Detector.load(tmp_path / "detector", backbone=Tiny.make())
    assert loaded.mean.devices() == loaded.W.devices() == {jax.devices()[3]}


def test_four_threads_save_and_load(detector, tmp_path):
    def there_and_back(name):
        detector.save(tmp_path / name)
        return np.asarray(Detector.load(tmp_path / name, backbone=Tiny.make()).mean)

    with ThreadPoolExecutor(4) as pool:
        for mean in pool.map(there_and_back, "abcd"):
            np.testing.assert_array_equal(mean, detector.mean)


def test_killed_in_the_middle_of_writing(tmp_path):
    """SIGKILL while Orbax writes: the folder never appears under its name."""
    script = textwrap.dedent(
        """
        import sys, time
        sys.path.insert(0, sys.argv[2])
        import orbax.checkpoint as ocp
        from tiny import Tiny, pictures
        from jaxsode import Detector, Method

        detector = Detector.fit([pictures(4)], Tiny.make(), Method(k=5))
        whole = ocp.Checkpointer.save
        def slow(self, *arguments, **named):
            whole(self, *arguments, **named)
            print("writing", flush=True)
            time.sleep(60)
        ocp.Checkpointer.save = slow
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
