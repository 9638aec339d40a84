"""Where weights are looked for, in which order, and that no failure leaves anything in the cache."""

import dataclasses
import importlib.util
import json
import os
import pickle
import shutil
import threading
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxsode import backbones
from jaxsode.backbones import weights
from jaxsode.backbones.publishers import ADDRESSES, PACKAGES, Address
from jaxsode.errors import ArgumentError, WeightsError
from pretrained_conversion import converted, readers
from pretrained_conversion.convert import convert_file

NAME = "resnet18"
ALL = (1, 2, 3, 4)


def folded(seed: int, *, layers: tuple[int, ...] = (1, 2, 3), name: str = NAME) -> dict[str, np.ndarray]:
    """A folded checkpoint, output channels first, that any reader of safetensors or npz takes."""
    backbone = backbones.create(name, layers=layers, seed=seed)
    return {
        path.replace(".kernel", ".weight"): np.ascontiguousarray(
            np.transpose(leaf, (3, 2, 0, 1)) if leaf.ndim == 4 else leaf
        )
        for path, leaf in backbones.parameters(backbone).items()
    }


def save(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    safetensors.numpy.save_file(tensors, path)
    return path


def assert_seed(backbone: backbones.Backbone, seed: int, *, layers: tuple[int, ...] = (1, 2, 3)) -> None:
    """That it has the parameters which `folded(seed)` was made from."""
    expected = backbones.parameters(backbones.create(NAME, layers=layers, seed=seed))
    found = backbones.parameters(backbone)
    assert found.keys() == expected.keys()
    for path, leaf in expected.items():
        np.testing.assert_array_equal(found[path], leaf)


@pytest.fixture
def cache(own_home) -> Path:
    return own_home / "weights"


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Serves a folder, and puts it in the place of the publisher's address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "published"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def address(file: str, *, sha256: str | None = None) -> Address:
        path = folder / file
        digits = readers.sha256(path)[:8] if sha256 is None else sha256
        return Address(f"http://127.0.0.1:{server.server_address[1]}/{file}", digits, "a test")

    yield folder, address
    server.shutdown()
    server.server_close()
    thread.join()


def refused(**options) -> str:
    with pytest.raises(WeightsError) as error:
        backbones.load(**{"name": NAME, **options})
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_explicit_file_of_every_layer_choice(tmp_path):
    path = save(tmp_path / "net.safetensors", folded(3, layers=ALL))
    assert_seed(backbones.load(NAME, weights=path), 3)
    assert_seed(backbones.load(NAME, weights=str(path), layers=(2,)), 3, layers=(2,))
    deep = backbones.load(NAME, weights=path, layers=(1, 4), dtype=jnp.bfloat16)
    assert_seed(deep, 3, layers=(1, 4))


def test_what_was_found_says_where_it_comes_from(tmp_path):
    path = save(tmp_path / "net.safetensors", folded(3))
    leaves = weights.shapes(backbones.create(NAME))
    found = weights.find(NAME, weights=path, leaves=leaves)
    assert (found.source, found.sha256) == ("net.safetensors", readers.sha256(path))
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == leaves
    ours = tmp_path / "ours.safetensors"
    convert_file(NAME, path, ours)
    again = weights.find(NAME, weights=ours, leaves=leaves)
    assert (again.source, again.sha256) == (found.source, found.sha256)


def test_a_converted_file_loads_for_the_layers_it_has(tmp_path):
    source = save(tmp_path / "net.safetensors", folded(3, layers=ALL))
    convert_file(NAME, source, tmp_path / "deep.safetensors", layers=ALL)
    convert_file(NAME, source, tmp_path / "shallow.safetensors", layers=(1, 2))
    assert_seed(backbones.load(NAME, weights=tmp_path / "deep.safetensors", layers=(1, 3)), 3, layers=(1, 3))
    message = refused(weights=tmp_path / "shallow.safetensors")
    assert "shallow.safetensors does not fit resnet18: 10 missing: layer3.0.conv1.bias" in message


def test_a_converted_file_with_a_foreign_tensor(tmp_path):
    tensors = {name: np.asarray(leaf) for name, leaf in backbones.parameters(backbones.create(NAME)).items()}
    description = converted.Description(NAME, "", "", (), ())
    converted.write(tmp_path / "net.safetensors", tensors | {"x": np.zeros(1)}, description)
    assert "1 unexpected: x" in refused(weights=tmp_path / "net.safetensors")


def test_a_converted_file_of_another_backbone_names_both(tmp_path):
    source = save(tmp_path / "net.safetensors", folded(3, name="resnet34"))
    convert_file("resnet34", source, tmp_path / "ours.safetensors")
    message = refused(weights=tmp_path / "ours.safetensors")
    assert "ours.safetensors holds weights of resnet34, not of resnet18" in message


def test_a_foreign_file_of_a_deeper_backbone_is_refused_though_its_first_blocks_fit(tmp_path):
    path = save(tmp_path / "net.safetensors", folded(3, name="resnet34"))
    message = refused(weights=path)
    assert "does not fit resnet18" in message
    assert "unexpected: layer1.2.conv1." in message


class Harmful:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_five_bad_files_run_nothing_and_cache_nothing(tmp_path, own_home):
    good = folded(3)
    path = tmp_path / "net.npz"
    extra = good | {"layer1.2.conv1.weight": good["layer1.1.conv1.weight"]}
    wrong = good | {"conv1.weight": np.zeros((64, 3, 5, 5), np.float32)}
    missing = {name: tensor for name, tensor in good.items() if name != "layer2.0.conv2.bias"}
    for tensors, words in [
        (extra, "1 unexpected: layer1.2.conv1.weight"),
        (wrong, "1 wrong: conv1.weight (64, 3, 5, 5) for (64, 3, 7, 7)"),
        (missing, "1 missing: layer2.0.conv2.bias"),
    ]:
        np.savez(path, **tensors)
        assert words in refused(weights=path)
    path.write_bytes(path.read_bytes()[:5000])
    assert "cut short" in refused(weights=path)
    path.write_bytes(pickle.dumps(Harmful(tmp_path / "was run")))
    assert "no PyTorch format" in refused(weights=path)
    assert not (tmp_path / "was run").exists()
    assert list(own_home.iterdir()) == []


def test_the_cache_comes_before_the_publisher(tmp_path, cache, monkeypatch):
    monkeypatch.setitem(ADDRESSES, NAME, (Address("http://127.0.0.1:9/never.pth", "", ""),))
    cache.mkdir()
    source = save(tmp_path / "net.safetensors", folded(5))
    convert_file(NAME, source, cache / "resnet18.safetensors")
    assert_seed(backbones.load(NAME), 5)


def test_an_explicit_file_in_the_home_folder(tmp_path, monkeypatch):
    save(tmp_path / "w.safetensors", folded(5))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_seed(backbones.load(NAME, weights="~/w.safetensors"), 5)
    for path, line in (("~zz-nobody/w", "no home folder is known"), ("w\0", "is no path, for the NUL")):
        with pytest.raises(ArgumentError, match=line):
            backbones.load(NAME, weights=path)


def test_an_explicit_file_comes_before_the_cache(tmp_path, cache):
    cache.mkdir()
    convert_file(NAME, save(tmp_path / "a.safetensors", folded(5)), cache / "resnet18.safetensors")
    assert_seed(backbones.load(NAME, weights=save(tmp_path / "b.safetensors", folded(6))), 6)


def test_a_damaged_cache_is_named_and_left_as_it_is(cache):
    cache.mkdir()
    file = cache / "resnet18.safetensors"
    for content in (b"", b"<html>" * 10, (100).to_bytes(8, "little") + b"{" * 60):
        file.write_bytes(content)
        message = refused()
        assert str(file) in message
        assert "delete it" in message
        assert file.read_bytes() == content
    assert list(cache.iterdir()) == [file]


def test_a_download_is_converted_whole_cached_and_used_again(publish, cache, monkeypatch):
    folder, address = publish
    save(folder / "net-0.safetensors", folded(7, layers=ALL))
    published = address("net-0.safetensors")
    monkeypatch.setitem(ADDRESSES, NAME, (published,))
    steps = []
    backbone = backbones.load(NAME, progress=lambda done, total: steps.append((done, total)))
    assert_seed(backbone, 7)
    size = (folder / "net-0.safetensors").stat().st_size
    assert steps[-1] == (size, size)
    assert [file.name for file in cache.iterdir()] == ["resnet18.safetensors"]
    description = converted.describe(cache / "resnet18.safetensors")
    assert description is not None
    assert (description.name, description.source) == (NAME, published.url)
    assert description.sha256 == readers.sha256(folder / "net-0.safetensors")
    assert description.mean == backbone.normalisation.mean
    shutil.rmtree(folder)
    assert_seed(backbones.load(NAME, layers=(4,)), 7, layers=(4,))


def test_four_at_once_download_once(publish, cache, monkeypatch):
    folder, address = publish
    save(folder / "net-0.safetensors", folded(7, layers=ALL))
    monkeypatch.setitem(ADDRESSES, NAME, (address("net-0.safetensors"),))
    ends, found = [], []

    def load():
        found.append(backbones.load(NAME, progress=lambda done, total: ends.append(done == total)))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for backbone in found:
        assert_seed(backbone, 7)
    assert sum(ends) == 1
    assert [file.name for file in cache.iterdir()] == ["resnet18.safetensors"]


@pytest.mark.parametrize("checked", [True, False])
def test_what_is_left_of_a_download_is_resumed_only_where_a_checksum_guards_it(
    publish, cache, monkeypatch, checked
):
    folder, address = publish
    save(folder / "net-0.safetensors", folded(7, layers=ALL))
    monkeypatch.setitem(ADDRESSES, NAME, (address("net-0.safetensors", sha256=None if checked else ""),))
    cache.mkdir()
    content = (folder / "net-0.safetensors").read_bytes()
    (cache / f"{NAME}-net-0.safetensors.part").write_bytes(content[: len(content) // 2])
    asked = []
    plain = urllib.request.urlopen

    def noted(request, **options):
        asked.append(request.has_header("Range"))
        return plain(request, **options)

    monkeypatch.setattr(urllib.request, "urlopen", noted)
    assert_seed(backbones.load(NAME), 7)
    assert asked == [checked]


@pytest.mark.slow
def test_a_thousand_flipped_bits_of_a_cached_file_are_all_noticed(tmp_path, cache):
    name = "mobilenet_v3_small"
    cache.mkdir()
    file = cache / f"{name}.safetensors"
    convert_file(name, save(tmp_path / "net.safetensors", folded(5, name=name)), file)
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    rng = np.random.default_rng(0)
    bits = [*rng.integers(0, 8 * header, 200), *rng.integers(0, 8 * len(content), 800)]
    for bit in map(int, bits):
        with file.open("r+b") as opened:
            opened.seek(bit // 8)
            opened.write(bytes([content[bit // 8] ^ 1 << bit % 8]))
        assert "it is the cached file: delete it and run again" in refused(name=name)
        with file.open("r+b") as opened:
            opened.seek(bit // 8)
            opened.write(content[bit // 8 : bit // 8 + 1])
    backbones.load(name)


def test_shards_are_one_file_and_their_checksum_is_of_all(tmp_path):
    tensors = folded(3)
    first = {name: tensor for name, tensor in tensors.items() if name.startswith("layer1")}
    save(tmp_path / "a-1.safetensors", first)
    save(tmp_path / "a-2.safetensors", {name: t for name, t in tensors.items() if name not in first})
    index = tmp_path / "a.safetensors.index.json"
    where = {name: f"a-{1 if name in first else 2}.safetensors" for name in tensors}
    index.write_text(json.dumps({"weight_map": where}))
    assert_seed(backbones.load(NAME, weights=index), 3)
    leaves = weights.shapes(backbones.create(NAME))
    before = weights.find(NAME, weights=index, leaves=leaves).sha256
    save(tmp_path / "a-1.safetensors", {name: tensor + 1 for name, tensor in first.items()})
    assert weights.find(NAME, weights=index, leaves=leaves).sha256 != before


def test_a_second_address_serves_where_the_first_can_not_be_reached(publish, cache, monkeypatch):
    folder, address = publish
    save(folder / "net-0.safetensors", folded(7, layers=ALL))
    good = address("net-0.safetensors")
    gone = dataclasses.replace(good, url=good.url.replace("net-0", "gone"))
    monkeypatch.setitem(ADDRESSES, NAME, (gone, good))
    assert_seed(backbones.load(NAME), 7)
    monkeypatch.setitem(ADDRESSES, NAME, (gone, gone))
    (cache / "resnet18.safetensors").unlink()
    message = refused()
    assert message.count("404") == 2
    assert "--weights FILE" in message


def test_a_wrong_checksum_is_not_hidden_by_a_second_address(publish, cache, monkeypatch):
    folder, address = publish
    save(folder / "net-0.safetensors", folded(7, layers=ALL))
    bad, good = address("net-0.safetensors", sha256="01234567"), address("net-0.safetensors")
    monkeypatch.setitem(ADDRESSES, NAME, (bad, good))
    assert "01234567" in refused()
    assert list(cache.iterdir()) == []


def test_a_download_of_something_else_is_not_cached(publish, cache, monkeypatch):
    folder, address = publish
    (folder / "page.pth").write_text("<html>please sign in</html>")
    save(folder / "other.pth", folded(7, name="resnet34"))
    for file, words in {"page.pth": "no .pth", "other.pth": "does not fit resnet18"}.items():
        monkeypatch.setitem(ADDRESSES, NAME, (address(file),))
        assert words in refused()
        assert list(cache.iterdir()) == []


def test_efficientnet_lite0_comes_from_its_package(own_home):
    package = PACKAGES["efficientnet_lite0"]
    module = importlib.util.find_spec(package.module)
    if module is None or module.origin is None:
        pytest.skip(f"{package.module} is not installed")
    backbone = backbones.create("efficientnet_lite0")
    found = weights.find("efficientnet_lite0", leaves=weights.shapes(backbone))
    assert found.sha256 == package.sha256
    published = readers.read(Path(module.origin).parent / package.file)
    stem = {name: published[f"_bn0.{name}"].astype(np.float64) for name in ("weight", "running_var")}
    scale = stem["weight"] / np.sqrt(stem["running_var"] + 1e-3)
    kernel = np.einsum("oihw,o->hwio", published["_conv_stem.weight"], scale)
    loaded = backbones.parameters(backbones.load("efficientnet_lite0"))
    np.testing.assert_allclose(loaded["conv_stem.kernel"], kernel, rtol=1e-6)
    assert list(own_home.iterdir()) == []


def test_a_package_that_is_not_installed_or_is_another(monkeypatch, tmp_path):
    package = PACKAGES["efficientnet_lite0"]
    absent = dataclasses.replace(package, module="jaxsode_no_such_package")
    monkeypatch.setitem(PACKAGES, "efficientnet_lite0", absent)
    assert "pip install 'jaxsode[demo]'" in refused(name="efficientnet_lite0")
    (tmp_path / "jaxsode_another" / "models").mkdir(parents=True)
    (tmp_path / "jaxsode_another" / "__init__.py").write_text("raise RuntimeError('was run')")
    monkeypatch.syspath_prepend(tmp_path)
    another = dataclasses.replace(package, module="jaxsode_another")
    monkeypatch.setitem(PACKAGES, "efficientnet_lite0", another)
    assert "install it anew" in refused(name="efficientnet_lite0")
    (tmp_path / "jaxsode_another" / package.file).write_bytes(b"other weights")
    assert "install it anew" in refused(name="efficientnet_lite0")


def test_random_weights_are_asked_for_by_name(own_home):
    assert_seed(backbones.load(NAME, weights="random"), 0)
    assert list(own_home.iterdir()) == []


def test_mistakes_that_are_not_about_weights():
    with pytest.raises(ArgumentError, match="resnet17"):
        backbones.load("resnet17")
    with pytest.raises(ArgumentError, match="layers"):
        backbones.load(NAME, layers=(5,))
    assert "none.pth" in refused(weights="none.pth")


def test_every_backbone_has_a_publisher_and_no_address_is_left_over():
    assert ADDRESSES.keys() | PACKAGES.keys() == backbones.BACKBONES.keys()
    assert not ADDRESSES.keys() & PACKAGES.keys()
    for addresses in ADDRESSES.values():
        for address in addresses:
            assert address.url.startswith("https://")
            assert set(address.sha256) <= set("0123456789abcdef")
            assert len(address.sha256) in (0, 8, 64)
            assert address.checksum


def test_no_publisher_is_known(monkeypatch):
    monkeypatch.delitem(ADDRESSES, NAME)
    assert "--weights FILE" in refused()


def test_the_real_folded_resnet18(real_data):
    path = real_data / "weights" / "resnet18_imagenet1k_v1_layers1to3_bn_folded.npz"
    backbone = backbones.load(NAME, weights=path)
    with np.load(path) as archive:
        leaves = backbones.parameters(backbone)
        assert len(leaves) == len(archive.files)
        kernel = archive["layer2.0.downsample.weight"]
        np.testing.assert_array_equal(leaves["layer2.0.downsample.kernel"], kernel.transpose(2, 3, 1, 0))
    assert "missing: layer4.0.conv1.weight" in refused(weights=path, layers=(4,))
    assert "missing: layer1.2.conv1.weight" in refused(name="resnet34", weights=path)


def test_shapes_are_those_of_the_parameters():
    assert weights.shapes(backbones.create(NAME, layers=(1,)))["conv1.kernel"] == (7, 7, 3, 64)
