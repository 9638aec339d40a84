"""The file we write: what it says of itself, and that it is never half there."""

import contextlib
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from jaxsode.errors import OutputError, WeightsError
from pretrained_conversion import converted, readers

DESCRIPTION = converted.Description("net", "net.pth", "ab" * 32, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
TENSORS = {"a.kernel": np.arange(6, dtype=np.float32).reshape(2, 3).T, "a.bias": np.zeros(2, np.float32)}


def test_round_trip_with_description(tmp_path):
    path = tmp_path / "net.safetensors"
    converted.write(path, TENSORS, DESCRIPTION)
    assert converted.describe(path) == DESCRIPTION
    found = readers.read(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[name], tensor)
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_metadata_is_what_any_safetensors_reader_sees(tmp_path):
    path = tmp_path / "net.safetensors"
    converted.write(path, TENSORS, DESCRIPTION)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata.pop("normalisation")) == {"mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}
    digits = metadata.pop("crc32")
    content = path.read_bytes()
    assert digits == f"{zlib.crc32(content.replace(digits.encode(), b'00000000')):08x}"
    assert metadata == {
        "format": "jaxsode weights",
        "format_version": "2",
        "name": "net",
        "source": "net.pth",
        "sha256": "ab" * 32,
    }


def test_an_existing_file_stays_unless_told(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        converted.write(path, TENSORS, DESCRIPTION)
    assert path.read_text() == "mine"
    converted.write(path, TENSORS, DESCRIPTION, overwrite=True)
    assert converted.describe(path) == DESCRIPTION


def test_a_write_killed_in_the_middle_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    path.write_text("old")

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        converted.write(path, TENSORS, DESCRIPTION, overwrite=True)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["net.safetensors"]


def test_a_disk_that_can_not_be_written(tmp_path):
    with pytest.raises(OutputError, match=r"can't write .*No such file or directory"):
        converted.write(tmp_path / "none" / "net.safetensors", TENSORS, DESCRIPTION)
    with pytest.raises(OutputError, match=r"can't write .*File name too long"):
        converted.write(tmp_path / ("n" * 300), TENSORS, DESCRIPTION)
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"can't write .*taken.*directory"):
        converted.write(tmp_path / "taken", TENSORS, DESCRIPTION, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_what_was_written_comes_back(tmp_path):
    path = tmp_path / "net.safetensors"
    converted.write(path, TENSORS, DESCRIPTION)
    found = converted.read(path)
    assert found is not None
    assert found[0] == DESCRIPTION
    assert found[1].keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(found[1][name], tensor)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "net.safetensors"
    converted.write(path, TENSORS, DESCRIPTION)
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = None  # or so because it is no file of ours any longer, and its names fit no backbone
        with contextlib.suppress(WeightsError):
            found = converted.read(path)
        assert found is None, f"bit {bit}"


def test_files_of_others_describe_nothing(tmp_path):
    safetensors.numpy.save_file(TENSORS, tmp_path / "a.safetensors")
    safetensors.numpy.save_file(TENSORS, tmp_path / "b.safetensors", metadata={"format": "pt"})
    np.savez(tmp_path / "c.npz", a=np.zeros(3))
    assert [converted.describe(path) for path in sorted(tmp_path.iterdir())] == [None] * 3
    assert [converted.read(path) for path in sorted(tmp_path.iterdir())] == [None] * 3


def test_another_version_and_damage_are_told(tmp_path):
    path = tmp_path / "net.safetensors"
    ours = {"format": "jaxsode weights", "format_version": "1"}
    safetensors.numpy.save_file(TENSORS, path, metadata=ours)
    with pytest.raises(WeightsError, match="version '1'"):
        converted.describe(path)
    safetensors.numpy.save_file(TENSORS, path, metadata=ours | {"format_version": "2", "name": "net"})
    with pytest.raises(WeightsError, match="normalisation"):
        converted.describe(path)
    converted.write(path, TENSORS, DESCRIPTION, overwrite=True)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="damaged"):
        converted.describe(path)
