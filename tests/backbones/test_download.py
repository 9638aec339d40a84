"""Downloading from a server on this machine that does what servers do wrong."""

import socket

import pytest
from file_server import CONTENT, SHA256, serving

from jaxsode.backbones.download import Unreachable, download
from jaxsode.errors import OutputError, WeightsError


@pytest.fixture
def server(monkeypatch):
    with serving(monkeypatch) as server:
        yield server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "weights" / "net.pth"


def files(target) -> list[str]:
    return sorted(file.name for file in target.parent.iterdir())


def one_line(error: pytest.ExceptionInfo, *words: str) -> None:
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("behaviour", ["good", "no ranges", "no length"])
def test_a_whole_file_with_progress(server, target, behaviour):
    server.behaviour = behaviour
    steps = []
    download(server.url, target, sha256=SHA256, progress=lambda done, total: steps.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert files(target) == ["net.pth"]
    total = None if behaviour == "no length" else len(CONTENT)
    assert steps[-1] == (len(CONTENT), total)
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert server.ranges == [None]


@pytest.mark.parametrize("digits", ["", SHA256[:8], SHA256])
def test_leading_digits_of_the_checksum_suffice(server, target, digits):
    download(server.url, target, sha256=digits)
    assert target.read_bytes() == CONTENT


def test_a_cut_connection_is_told_and_the_next_call_resumes(server, target):
    server.cut_at = 300_000
    with pytest.raises(WeightsError) as error:
        download(server.url, target, sha256=SHA256)
    one_line(error, server.url, f"cut after 300000 of {len(CONTENT)} bytes", "run again", "--weights FILE")
    assert files(target) == ["net.pth.part"]
    server.cut_at = len(CONTENT)
    steps = []
    download(server.url, target, sha256=SHA256, progress=lambda done, total: steps.append((done, total)))
    assert target.read_bytes() == CONTENT
    assert files(target) == ["net.pth"]
    assert server.ranges == [None, "bytes=300000-"]
    assert steps[0][0] > 300_000
    assert steps[-1] == (len(CONTENT), len(CONTENT))


def test_a_server_that_does_not_resume_starts_over(server, target):
    target.parent.mkdir()
    target.with_name("net.pth.part").write_bytes(b"other bytes")
    server.behaviour = "no ranges"
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"longer"])
def test_a_part_with_nothing_behind_it_starts_over(server, target, part):
    target.parent.mkdir()
    target.with_name("net.pth.part").write_bytes(part)
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(part)}-", None]


def test_a_wrong_checksum_keeps_nothing(server, target):
    with pytest.raises(WeightsError) as error:
        download(server.url, target, sha256="0123abcd")
    one_line(error, server.url, SHA256[:16], "0123abcd", "--weights FILE")
    assert files(target) == []


def test_a_part_of_another_file_is_found_out_and_the_next_call_is_right(server, target):
    target.parent.mkdir()
    target.with_name("net.pth.part").write_bytes(b"\xff" * 1000)
    with pytest.raises(WeightsError, match="SHA-256"):
        download(server.url, target, sha256=SHA256)
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == CONTENT


def test_a_file_that_is_there_stays_when_a_download_fails(server, target):
    target.parent.mkdir()
    target.write_bytes(b"good")
    with pytest.raises(WeightsError):
        download(server.url, target, sha256="0123abcd")
    assert target.read_bytes() == b"good"


def test_a_missing_file(server, target):
    server.behaviour = "missing"
    with pytest.raises(Unreachable) as error:
        download(server.url, target, sha256=SHA256)
    one_line(error, server.url, "404")
    assert files(target) == []


def test_no_network(target):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable) as error:
        download(f"http://127.0.0.1:{port}/net.pth", target, timeout=5)
    one_line(error, str(port), "no connection", "refused")
    assert files(target) == []


def test_an_unknown_host(target):
    with pytest.raises(Unreachable) as error:
        download("http://nowhere.invalid/net.pth", target, timeout=5)
    one_line(error, "nowhere.invalid", "no connection")


@pytest.mark.parametrize(("behaviour", "words"), [("silent", "timed out"), ("stalls", "cut after 100 of")])
def test_a_server_that_falls_silent_is_given_up(server, target, behaviour, words):
    server.behaviour, server.cut_at = behaviour, 100
    with pytest.raises(WeightsError) as error:
        download(server.url, target, sha256=SHA256, timeout=0.3)
    one_line(error, server.url, words)
    assert not target.exists()


def test_a_folder_that_can_not_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError) as error:
        download(server.url, tmp_path / "file" / "net.pth")
    one_line(error, "file/net.pth", "JAXSODE_HOME")
