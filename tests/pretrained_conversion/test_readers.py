"""Every format, read without PyTorch; and everything that must not be read."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import handmade
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxsode.errors import WeightsError
from pretrained_conversion import readers

DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8, np.bool_]
KINDS = ["zip", "legacy"]
FORMATS = [*KINDS, "safetensors", "npz"]


def example() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "conv1.weight": rng.standard_normal((4, 3, 2, 2)).astype(np.float32),
        "conv1.bias": rng.standard_normal(4).astype(np.float32),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }


def save(path: Path, tensors: dict[str, np.ndarray], kind: str) -> None:
    if kind == "safetensors":
        safetensors.numpy.save_file(tensors, path)
    elif kind == "npz":
        with path.open("wb") as file:  # a name without .npz gets one from NumPy
            np.savez(file, **tensors)  # pyright: ignore[reportArgumentType]
    else:
        handmade.write(path, tensors, kind)


def one_line(error: pytest.ExceptionInfo, *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("suffix", [".pth", ".npz"])
def test_reads_what_was_written_whatever_the_suffix(tmp_path, kind, suffix):
    path = tmp_path / f"weights{suffix}"
    save(path, example(), kind)
    found = readers.read(path)
    assert found.keys() == example().keys()
    for name, tensor in example().items():
        assert found[name].dtype == tensor.dtype
        np.testing.assert_array_equal(found[name], tensor)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes_of_pytorch(tmp_path, dtype, kind):
    tensor = np.array([[0, 1, 3], [2, 1, 0]]).astype(dtype)
    handmade.write(tmp_path / "a.pth", {"a": tensor}, kind)
    found = readers.read(tmp_path / "a.pth")["a"]
    assert found.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(found, tensor)


def test_bfloat16_of_safetensors(tmp_path):
    tensor = np.array([1.0, -2.5, 3e38]).astype(ml_dtypes.bfloat16)
    bits = safetensors.numpy.save({"a": tensor.view(np.uint16)})
    (tmp_path / "a.safetensors").write_bytes(bits.replace(b'"U16"', b'"BF16"').replace(b"}}  ", b"}} "))
    content = (tmp_path / "a.safetensors").read_bytes()
    header = content.index(b"}}") + 2
    # the header grew by a letter: its length is set anew
    (tmp_path / "a.safetensors").write_bytes(
        (header - 8).to_bytes(8, "little") + content[8:header] + tensor.tobytes()
    )
    found = readers.read(tmp_path / "a.safetensors")["a"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found, tensor)


def test_dtype_of_safetensors_that_nothing_uses(tmp_path):
    header = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "a.safetensors")
    one_line(error, "a.safetensors", "F8_E4M3")


@pytest.mark.parametrize("kind", KINDS)
def test_strided_tensors_share_a_storage(tmp_path, kind):
    storage = np.arange(12, dtype=np.float32)
    tensors = {
        "transposed": handmade.View(storage, 0, (4, 3), (1, 4)),
        "slice": handmade.View(storage, 5, (2, 2), (4, 2)),
        "expanded": handmade.View(storage, 3, (2, 3), (0, 1)),
    }
    handmade.write(tmp_path / "a.pth", tensors, kind)
    found = readers.read(tmp_path / "a.pth")
    np.testing.assert_array_equal(found["transposed"], storage.reshape(3, 4).T)
    np.testing.assert_array_equal(found["slice"], [[5, 7], [9, 11]])
    np.testing.assert_array_equal(found["expanded"], [[3, 4, 5], [3, 4, 5]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "view", [(0, (3, 5), (5, 1)), (9, (4,), (1,)), (0, (2, 2), (1, 9)), (2, (2,), (-3,)), (-1, (2,), (1,))]
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, kind, view):
    storage = np.arange(10, dtype=np.float32)
    handmade.write(tmp_path / "a.pth", {"big": handmade.View(storage, *view)}, kind)
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "a.pth")
    one_line(error, "a.pth", "big")


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_and_wrappers_of_training_scripts(tmp_path, kind):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    state, storages = handmade.state_dict({"module.a": weight}, legacy=kind == "legacy", parameters=True)
    code = b"}(" + handmade.text("epoch") + handmade.number(3) + handmade.text("state_dict") + state + b"u"
    code = b"}(" + handmade.text("model") + code + b"u"
    if kind == "zip":
        handmade.write_zip(tmp_path / "a.pth", code, storages)
    else:
        handmade.write_legacy(tmp_path / "a.pth", code, storages, itemsize=4)
    found = readers.read(tmp_path / "a.pth")
    assert list(found) == ["module.a"]
    np.testing.assert_array_equal(found["module.a"], weight)


class Harmful:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def harmful_code(marker: Path) -> bytes:
    return pickle.dumps({"a": Harmful(marker)}, protocol=2)[2:-1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickle_that_would_run_code_runs_nothing(tmp_path, kind):
    marker, path = tmp_path / "was run", tmp_path / "a.pth"
    if kind == "zip":
        handmade.write_zip(path, harmful_code(marker), {})
    else:
        handmade.write_legacy(path, harmful_code(marker), {}, itemsize=4)
    with pytest.raises(WeightsError) as error:
        readers.read(path)
    one_line(error, "a.pth", f"{os.system.__module__}.system", "nothing was run")
    assert not marker.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beside_the_tensors_is_passed_over_and_never_run(tmp_path, kind):
    marker, path = tmp_path / "was run", tmp_path / "a.pth"
    state, storages = handmade.state_dict({"a": np.ones(2, np.float32)}, legacy=kind == "legacy")
    code = b"}(" + handmade.text("args") + harmful_code(marker) + handmade.text("model") + state + b"u"
    if kind == "zip":
        handmade.write_zip(path, code, storages)
    else:
        handmade.write_legacy(path, code, storages, itemsize=4)
    np.testing.assert_array_equal(readers.read(path)["a"], [1, 1])
    assert not marker.exists()


def _dict(entries: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(handmade.text(key) + code for key, code in entries.items()) + b"u"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["net"], "net"),
        (["params"], "params"),
        (["model_state"], "model_state"),
        (["ema"], "ema"),
        (["ema", "model"], "model"),
        (["model", "state_dict"], "state_dict"),
        (["some name of its own"], "some name of its own"),
        (["one", "another"], None),
    ],
)
def test_wrappers_by_name_or_alone(tmp_path, entries, expected):
    codes, storages = {"epoch": handmade.number(3), "optimizer": _dict({"lr": handmade.number(1)})}, {}
    for key in entries:
        tensors = {f"in {key}": np.zeros(1, np.float32)}
        codes[key], storages = handmade.state_dict(tensors, legacy=False)  # all in one storage
    handmade.write_zip(tmp_path / "a.pth", _dict(codes), storages)
    if expected is not None:
        assert list(readers.read(tmp_path / "a.pth")) == [f"in {expected}"]
        return
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "a.pth")
    one_line(error, "entry 'epoch' is no tensor")


def shards(folder: Path, *, kind: str = "safetensors") -> Path:
    tensors = example()
    parts = {"a-1.bin": ["conv1.weight"], "a-2.bin": [name for name in tensors if name != "conv1.weight"]}
    for file, names in parts.items():
        save(folder / file, {name: tensors[name] for name in names}, kind)
    index = folder / "a.safetensors.index.json"
    where = {name: file for file, names in parts.items() for name in names}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}, indent=2))
    return index


@pytest.mark.parametrize("kind", ["safetensors", "zip"])
def test_shards_are_read_by_their_index(tmp_path, kind):
    index = shards(tmp_path, kind=kind)
    found = readers.read(index)
    assert found.keys() == example().keys()
    for name, tensor in example().items():
        np.testing.assert_array_equal(found[name], tensor)
    assert [file.name for file in readers.files(index)] == [index.name, "a-1.bin", "a-2.bin"]
    assert readers.files(tmp_path / "a-1.bin") == [tmp_path / "a-1.bin"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("a-1.bin", "a-3.bin", "a-3.bin"),
        ("a-1.bin", "../a-1.bin", "other folders"),
        ("a-1.bin", "a-2.bin", "don't agree about 'conv1.weight'"),
        ('"scalar"', '"other"', "don't agree about 'other'"),
        ('"weight_map"', '"map"', "no index"),
        ("{", "[", "no index"),
    ],
)
def test_an_index_that_is_wrong(tmp_path, old, new, words):
    index = shards(tmp_path)
    text = index.read_text()
    index.write_text(text[0] + text[1:].replace(old, new, 1))
    with pytest.raises(WeightsError) as error:
        readers.read(index)
    one_line(error, words)


def test_an_index_of_an_index(tmp_path):
    index = shards(tmp_path)
    (tmp_path / "a-1.bin").write_bytes(index.read_bytes())
    with pytest.raises(WeightsError) as error:
        readers.read(index)
    one_line(error, "an index too")


@pytest.mark.parametrize(
    "wanted",
    ["builtins eval", "builtins getattr", "numpy.core.multiarray _reconstruct", "torch load",
     "torch._utils _rebuild_tensor_v2.__globals__", "torch.nn.modules.conv Conv2d", "collections abc"],
)  # fmt: skip
def test_every_other_global_is_named_and_never_run(tmp_path, wanted):
    module, name = wanted.split(" ")
    handmade.write_zip(tmp_path / "a.pth", f"c{module}\n{name}\n".encode(), {})
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "a.pth")
    one_line(error, f"{module}.{name}")


@pytest.mark.parametrize("name", ["_rebuild_tensor_v2", "_rebuild_parameter"])
@pytest.mark.parametrize("attribute", ["__defaults__", "__code__", "self", "path", "allowed"])
def test_a_pickle_can_not_alter_what_reads_the_next(tmp_path, name, attribute):
    # BUILD with (None, {attribute: value}) calls setattr on the object below it
    state = b"(N}" + handmade.text(attribute) + handmade.text("x") + b"st"
    handmade.write_zip(tmp_path / "bad.pth", f"ctorch._utils\n{name}\n".encode() + state + b"b", {})
    with pytest.raises(WeightsError):
        readers.read(tmp_path / "bad.pth")
    handmade.write(tmp_path / "good.pth", example(), "zip")
    assert readers.read(tmp_path / "good.pth").keys() == example().keys()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"N", "no state dict"),
        (b"}", "no state dict"),
        (handmade.text("weights"), "no state dict"),
        (b"}" + handmade.text("lr") + handmade.number(1) + b"s", "'lr'"),
        (b"}" + handmade.number(7) + handmade.number(1) + b"s", "entry 7"),
        (b"(" + handmade.text("module") + b"tQ", "damaged"),
        (b"}r\xff\xff\xff\x7f", "memo 2147483647"),
        (b"}p2147483647\n", "memo 2147483647"),
        (b"(" + handmade.text("model") + b"NNNNtQ", "no storage"),
        (
            b"(" + handmade.text("module") + b"cnet\nNet\n" + b"NNtQ",
            "an object of 'net.Net', of which nothing",
        ),
        (b"ctorch._utils\n_rebuild_tensor_v2\n(NJ\0\0\0\0))tR", "without storage"),
    ],
)
def test_what_is_no_state_dict(tmp_path, code, words):
    handmade.write_zip(tmp_path / "a.pth", code, {})
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "a.pth")
    one_line(error, "a.pth", words)


def test_a_compressed_record_is_refused(tmp_path):
    code, storages = handmade.state_dict(example(), legacy=False)
    handmade.write_zip(tmp_path / "a.pth", code, storages, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "a.pth")
    one_line(error, "a.pth", "compressed")


def test_big_endian_files_are_refused(tmp_path):
    code, storages = handmade.state_dict(example(), legacy=True)
    handmade.write_legacy(tmp_path / "a.pth", code, storages, itemsize=4, little_endian=False)
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "a.pth")
    one_line(error, "a.pth", "big-endian")
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        archive.writestr("archive/data.pkl", handmade.pickled(b"}"))
        archive.writestr("archive/byteorder", "big")
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "b.pth")
    one_line(error, "b.pth", "big-endian")


def test_objects_in_an_npz_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([Harmful(tmp_path / "was run")], dtype=object))
    with pytest.raises(WeightsError) as error:
        readers.read(tmp_path / "a.npz")
    one_line(error, "a.npz")
    assert not (tmp_path / "was run").exists()


def test_missing_empty_and_unknown_files(tmp_path):
    (tmp_path / "empty.pth").touch()
    (tmp_path / "page.pth").write_text("<!DOCTYPE html><html>not found</html>")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.writestr("a.jpg", "")
    (tmp_path / "other.pkl").write_bytes(pickle.dumps(["no", "PyTorch", "format", "at", "all"]))
    for name, words in {
        "none.pth": "No such file",
        ".": "directory",
        "empty.pth": "is empty",
        "page.pth": "no .pth, .safetensors or .npz file",
        "pictures.zip": "neither a .pth nor an .npz",
        "other.pkl": "no PyTorch format",
    }.items():
        with pytest.raises(WeightsError) as error:
            readers.read(tmp_path / name)
        one_line(error, str(tmp_path / name), words)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_cut_short_anywhere_is_an_error(tmp_path, kind):
    path = tmp_path / "a.pth"
    save(path, {name: tensor for name, tensor in example().items() if tensor.size}, kind)
    content = path.read_bytes()
    for size in [*range(0, len(content), 37), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(WeightsError) as error:
            readers.read(path)
        one_line(error, "a.pth")


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FORMATS), st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_gives_numbers_or_one_clear_line(tmp_path, kind, position, flip):
    path = tmp_path / "a.pth"
    save(path, example(), kind)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= flip
    path.write_bytes(content)
    try:
        found = readers.read(path)
    except WeightsError as error:
        message = str(error)
    else:
        message = ""
        assert all(isinstance(tensor, np.ndarray) for tensor in found.values())
    assert "\n" not in message


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert readers.sha256(tmp_path / "a") == expected
    (tmp_path / "b").write_bytes(b"a")
    (tmp_path / "c").write_bytes(b"bc")
    assert readers.sha256(tmp_path / "b", tmp_path / "c") == expected
