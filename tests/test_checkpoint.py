"""A saved detector scores as the one in memory, bit for bit; anything less than whole is refused."""

import contextlib
import errno
import gc
import json
import os
import resource
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
import orbax.checkpoint as ocp
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method, checkpoint, load_backbone, trees
from jaxsode.algebra.embedding import semi_orthogonal
from jaxsode.algebra.precision import Whitener
from jaxsode.backbones import registry
from jaxsode.backbones.protocol import Normalisation
from jaxsode.errors import ArgumentError, CheckpointError
from jaxsode.kernels import native


@pytest.fixture(scope="module")
def detector():
    return Detector.fit([pictures(12)], Tiny.make(), Method(k=5, seed=2))


def test_loading_compiles_as_little_as_it_can(tmp_path, caplog):
    """Putting an array on a device needs no program, and one picture's map is one."""
    Detector.fit([pictures(12)], registry.create("resnet18"), Method(k=5), keep_moments=False).save(
        tmp_path / "d"
    )
    jax.clear_caches()
    with jax.log_compiles(), caplog.at_level("WARNING", logger="jax"):
        Detector.load(tmp_path / "d").anomaly_map(pictures(1))
    compiled = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]
    names = [message.split("jit(")[1].split(")")[0] for message in compiled]
    assert names == ["_unpack_lower", "_score_pictures"], names


@pytest.mark.skipif(native.ready() is None, reason="no machine code here: XLA's forms are chosen by platform")
@pytest.mark.parametrize("keep_moments", [True, False])
def test_no_form_that_is_not_taken_is_traced(tmp_path, monkeypatch, keep_moments):
    backbone = registry.create("resnet18")
    Detector.fit([pictures(12)], backbone, Method(k=5), keep_moments=keep_moments).save(tmp_path / "d")
    jax.clear_caches()
    monkeypatch.delattr(jax.lax, "platform_dependent")
    Detector.load(tmp_path / "d").anomaly_map(pictures(1))


def test_rows_are_parts_of_a_file_as_large_as_they_are(tmp_path):
    numbers = np.zeros((6, 5, 7), np.float32)  # which a compressor would make small
    trees.save(tmp_path / "rows", {"numbers": numbers, "more": numbers}, rows=True)
    trees.save(tmp_path / "whole", {"numbers": numbers, "more": numbers})
    for name, part in (("rows", (1, 5, 7)), ("whole", (6, 5, 7))):
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            found = checkpointer.metadata(tmp_path / name).item_metadata["numbers"]
        assert found.storage.chunk_shape == part
        assert sum(file.stat().st_size for file in (tmp_path / name).rglob("*")) > 2 * numbers.nbytes
        assert np.array_equal(trees.restore(tmp_path / name, [])["more"], numbers)


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
    detector = Detector(backbone, W, mean, Whitener.of(whitener), count, method, None, (32, 32))
    detector.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector")
    assert jax.tree.structure(loaded) == jax.tree.structure(detector)
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(detector), strict=True):
        np.testing.assert_array_equal(a, b)


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


def _flipped(folder, flips, seed=0):
    """The same folder with another bit flipped each time, of a file drawn by its length; then whole again."""
    rng = np.random.default_rng(seed)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    lengths = np.array([file.stat().st_size for file in files])
    # Half of them by length, half by file: the small ones say what the large ones are.
    for number in range(flips):
        by = lengths / lengths.sum() if number % 2 else None
        file = files[rng.choice(len(files), p=by)]
        whole = file.read_bytes()
        spoilt = bytearray(whole)
        bit = rng.integers(8 * len(whole))
        spoilt[bit // 8] ^= 1 << bit % 8
        file.write_bytes(spoilt)
        yield f"bit {bit} of {file.relative_to(folder)}"
        file.write_bytes(whole)


@pytest.mark.parametrize("flips", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_one_flipped_bit_is_noticed(detector, tmp_path, flips):
    """In any file, the page too: an error of one line, or the same map."""
    folder, test = _save(detector, tmp_path / "detector"), pictures(2, seed=1)
    expected, noticed, harmless = np.asarray(detector.anomaly_map(test)), 0, 0
    for flip in _flipped(folder, flips):
        try:
            loaded = Detector.load(folder, backbone=Tiny.make())
        except CheckpointError as error:
            noticed += "\n" not in str(error)
        else:
            np.testing.assert_array_equal(loaded.anomaly_map(test), expected, err_msg=flip)
            harmless += 1
    assert noticed + harmless == flips
    assert harmless < 0.02 * flips
    Detector.load(folder, backbone=Tiny.make())


def test_what_lies_beside_the_files_is_not_looked_at(detector, tmp_path):
    folder = _save(detector, tmp_path / "detector")
    for name in (".DS_Store", "Thumbs.db", "whole/.nfs0001", "whole/._d", "rows-000000-000008/.DS_Store"):
        (folder / name).write_bytes(b"x")
    (folder / "rows-000008-000016").mkdir()
    assert Detector.load(folder, backbone=Tiny.make()).method == detector.method


def test_nor_is_another_ones_file_of_numpys(detector, tmp_path, monkeypatch):
    """Beside rows that another host than the first wrote, which are NumPy's too."""
    save = trees.save

    def by_another_host(path, arrays, **options):
        with monkeypatch.context() as patched:
            patched.setattr(jax, "process_index", lambda: int(path.name.startswith("rows-")))
            save(path, arrays, **options)

    monkeypatch.setattr(trees, "save", by_another_host)
    folder = _save(detector, tmp_path / "detector")
    (rows,) = folder.glob("rows-*")
    assert (rows / "scatter.npy").is_file()
    for name in (rows / "._scatter.npy", folder / "whole" / "._W.npy"):
        name.write_bytes(b"Mac OS X")
    np.save(folder / "whole" / "W.npy", np.zeros(3))
    loaded = Detector.load(folder, backbone=Tiny.make())
    np.testing.assert_array_equal(loaded.mean, detector.mean)
    (rows / "scatter.npy").write_bytes(b"Mac OS X")
    with pytest.raises(CheckpointError, match="can't be read") as error:
        trees.restore(rows, ["scatter.npy"])
    assert "pickle" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{", "[" * 100_000, '{"format": 2}', '{"format": 1}', '{"format": [1]}', "\0", "é"],
)
def test_a_damaged_page(text, detector, tmp_path):
    folder = _save(detector, tmp_path / "detector")
    (folder / "detector.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"fit .*again") as error:
        Detector.load(folder, backbone=Tiny.make())
    assert "\n" not in str(error.value)


# Places.


@pytest.mark.parametrize(
    "name",
    ["[1]", "models\\x", os.fsdecode(b"\xff"), "a*b?", "two\nlines", "größe 4", "~/home", "a/b/c", "x:y%20"],
)
def test_a_folder_of_any_name(name, detector, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    detector.save(name)
    loaded = Detector.load(name, backbone=Tiny.make())
    np.testing.assert_array_equal(loaded.mean, detector.mean)
    with pytest.raises(CheckpointError, match="exists already") as error:
        detector.save(name)
    str(error.value).encode()
    assert "\n" not in str(error.value)
    there = tmp_path / "user" / "home" if name == "~/home" else tmp_path / name
    assert (there / "detector.json").is_file()
    assert [path.name for path in there.parent.iterdir()] == [there.name]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file/x", r"can't be written \(Not a directory\): choose another folder"),
        ("n" * 300, r"can't be written \(File name too long\): choose another folder"),
        ("dangling", "exists already: choose another folder, or remove it"),
        ("dangling/x", r"can't be written \(File exists\): choose another folder"),
        ("~nobody-here/x", r"~nobody-here is nobody's home folder: write the folder out, or \./~nobody-here"),
        ("gs://bucket/x", "is an address: give a folder, or mount it as one"),
        ("a\0b", "for the NUL in it: choose another one"),
        (".", "exists already"),
        ("/proc/nothing", r"can't be written \(No such file or directory\)"),
    ],
)
def test_a_place_that_can_not_be(name, words, detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match=words) as error:
        detector.save(name)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError):
        Detector.load(name, backbone=Tiny.make())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_full_disk(detector, tmp_path, capfd, caplog):
    """Of the system's own making: no file may grow beyond 20 kB, which Orbax's threads find out."""
    detector.save(tmp_path / "earlier")
    large = Detector.fit([pictures(8, size=(128, 128))], Tiny.make(), Method(k=16))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(CheckpointError, match=r"can't be written \(File too large\): choose") as error:
            large.save(tmp_path / "large")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelname != "INFO"] == []
    assert [path.name for path in tmp_path.iterdir()] == ["earlier"]
    loaded = Detector.load(tmp_path / "earlier", backbone=Tiny.make())
    np.testing.assert_array_equal(loaded.mean, detector.mean)


def test_an_error_while_saving_leaves_nothing(detector, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "_listed", full)
    with pytest.raises(CheckpointError, match=r"can't be written \(No space left on device\)"):
        detector.save(tmp_path / "detector")
    assert not any(tmp_path.iterdir())


def test_what_is_there_and_can_not_be_read(detector, tmp_path, monkeypatch):
    """It isn't damaged: nothing need be fitted again."""
    folder = _save(detector, tmp_path / "detector")
    whole = Path.open

    def denied(self, *arguments, **named):
        if self.name == "manifest.ocdbt":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return whole(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(CheckpointError, match=r"can't be read \(Permission denied\): make it readable"):
        Detector.load(folder, backbone=Tiny.make())


@pytest.mark.parametrize("name", ["new/newer/detector", "new/" + 300 * "n", "new/" + 300 * "n" + "/detector"])
def test_the_folders_above_go_too(name, detector, tmp_path, monkeypatch):
    def full(*_, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trees, "save", full)
    with pytest.raises(CheckpointError, match="can't be written"):
        detector.save(tmp_path / name)
    assert not any(tmp_path.iterdir())
    with checkpoint.Writer(tmp_path / "new" / "detector"):
        (tmp_path / "new" / "somebody's").touch()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["somebody's"]


def test_two_that_save_into_one_folder(detector, tmp_path):
    """The second neither removes what the first has begun nor takes its place."""
    folder = tmp_path / "detector"
    with checkpoint.Writer(folder) as first:
        first.rows(0, {"x": np.ones((2, 3))})
        detector.save(folder)
        with pytest.raises(CheckpointError, match="was taken meanwhile: choose another folder"):
            first.finish({})
    assert [path.name for path in tmp_path.iterdir()] == ["detector"]
    assert Detector.load(folder, backbone=Tiny.make()).method == detector.method


# The backbone.


def test_a_backbone_that_computes_otherwise_is_refused(tmp_path):
    """Its arrays are the same, its maps are not."""
    kinds = {"weights": "random", "layers": (1,)}
    Detector.fit([pictures(4)], load_backbone("resnet18", **kinds), Method(k=5)).save(tmp_path / "detector")
    other = load_backbone("resnet18", **kinds, dtype=jnp.bfloat16)
    with pytest.raises(CheckpointError, match="dtype float32, not bfloat16"):
        Detector.load(tmp_path / "detector", backbone=other)
    fitted = [
        Detector.fit([pictures(4)], b, Method(k=5)) for b in (load_backbone("resnet18", **kinds), other)
    ]
    with pytest.raises(ArgumentError, match="differ in backbone"):
        Detector.merge(*fitted)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"normalisation": Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))}, "normalisation"),
        ({"strides": (4, 4)}, "strides"),
        ({"name": "giant"}, "name tiny, not giant"),
    ],
)
def test_so_is_one_of_another_description(changed, words, detector, tmp_path):
    detector.save(tmp_path / "detector")
    with pytest.raises(CheckpointError, match=rf"{words}.* give the backbone that it was fitted with"):
        Detector.load(tmp_path / "detector", backbone=replace(Tiny.make(), **changed))


class _Lacking:
    name, strides, channels = "tiny", (4, 8), (12, 12)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("resnet18", "backbone is a str: it must be a network .* has no attribute 'normalisation'"),
        (_Lacking(), "backbone is a _Lacking: it must be a network .* has no attribute 'normalisation'"),
        (replace(Tiny.make(), channels=None), "backbone is a Tiny: it must be a network"),
    ],
)
def test_what_is_no_backbone_is_not_the_detectors_fault(given, words, detector, tmp_path):
    folder = _save(detector, tmp_path / "detector")
    for path in (folder, Path(__file__).parent / "format1" / "detector"):
        with pytest.raises(ArgumentError, match=words) as error:
            Detector.load(path, backbone=given)
        assert "\n" not in str(error.value)


def _rewritten(folder, change):
    page = json.loads((folder / "detector.json").read_text())
    change(page["backbone"])
    del page["crc32"]
    page["crc32"] = checkpoint._crc(page)
    (folder / "detector.json").write_text(json.dumps(page))


def test_its_fingerprint_is_verified(detector, tmp_path):
    folder = _save(detector, tmp_path / "detector")
    _rewritten(folder, lambda page: page.update(fingerprint="0" * 64))
    with pytest.raises(CheckpointError, match="its backbone is not the one that was saved"):
        Detector.load(folder, backbone=Tiny.make())


def test_a_page_of_before_there_were_fingerprints(detector, tmp_path):
    folder = _save(detector, tmp_path / "detector")
    _rewritten(folder, lambda page: [page.pop(n) for n in ("fingerprint", "layers", "strides", "channels")])
    loaded = Detector.load(folder, backbone=Tiny.make())
    np.testing.assert_array_equal(loaded.mean, detector.mean)


def test_numbers_of_numpy_are_described(tmp_path):
    """A backbone of one's own may have them; JSON can't."""
    x = np.float32(0.5)
    own = replace(
        Tiny.make(), normalisation=Normalisation((x, x, x), (x, x, x)), strides=(np.int64(4), np.int64(8))
    )
    Detector.fit([pictures(4)], own, Method(k=5)).save(tmp_path / "detector")
    assert Detector.load(tmp_path / "detector", backbone=own).backbone.normalisation.mean == (0.5, 0.5, 0.5)


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


def test_what_else_fails_in_format_1_is_not_told(tmp_path, capfd, caplog):
    """Orbax reads the arrays at once: the first that fails is the error, of the others nothing is heard."""
    folder = tmp_path / "detector"
    shutil.copytree(Path(__file__).parent / "format1" / "detector", folder)
    manifest = folder / "arrays" / "manifest.ocdbt"
    length, rng = manifest.stat().st_size, np.random.default_rng(0)
    for _ in range(24):  # which one fails first is chance
        manifest.write_bytes(rng.bytes(length))
        with pytest.raises(CheckpointError, match="can't be read"):
            Detector.load(folder, backbone=Tiny.make())
        gc.collect()
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


def test_format_1_onto_a_mesh():
    folder = Path(__file__).parent / "format1"
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("locations",))
    detector = Detector.load(folder / "detector", backbone=Tiny.make(), mesh=mesh)
    for array in (detector.mean, detector.whitener):
        assert {shard.data.shape[0] for shard in array.addressable_shards} == {1}
    expected = np.load(folder / "maps.npy")
    np.testing.assert_allclose(detector.anomaly_map(pictures(2, seed=1)), expected, rtol=1e-5)
    three = jax.sharding.Mesh(np.array(jax.devices()[:3]), ("locations",))
    with pytest.raises(ArgumentError, match="8 rows don't divide among 3 devices"):
        Detector.load(folder / "detector", backbone=Tiny.make(), mesh=three)


def test_a_damaged_page_of_format_1(tmp_path):
    """It has no checksum: what is no page any more is still one line."""
    folder = tmp_path / "detector"
    shutil.copytree(Path(__file__).parent / "format1" / "detector", folder)
    page = folder / "detector.json"
    whole = json.loads(page.read_text())
    for name in whole:
        for value in (None, 7, "x", [], {}, [1]):
            page.write_text(json.dumps(whole | {name: value}))
            if name == "format" or value == whole[name] or (name, value) == ("layers", []):
                continue
            with contextlib.suppress(CheckpointError):
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
    # They stack, and share programs.
    assert jax.tree.structure(loaded.precision) == jax.tree.structure(saved.precision)


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


def test_killed_in_the_middle_of_writing(detector, tmp_path):
    """SIGKILL while Orbax writes: nothing has the folder's name, and the next save removes what is left."""
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
    (begun,) = tmp_path.iterdir()
    assert begun.name.startswith(".detector.partial-")
    assert not target.exists()
    with pytest.raises(CheckpointError, match="holds no whole detector"):
        Detector.load(target, backbone=Tiny.make())
    # What an earlier version left, under the process id that comes again in a container.
    (tmp_path / f".detector.partial-{os.getpid()}").mkdir()
    detector.save(target)
    assert not begun.exists()
    assert Detector.load(target, backbone=Tiny.make()).method == detector.method
