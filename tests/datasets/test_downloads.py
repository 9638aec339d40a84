"""Data sets downloaded from a server on this machine."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import published
import pytest
from file_server import Server, serving

from jaxsode import datasets
from jaxsode.commands.run import main
from jaxsode.datasets import kolektor2
from jaxsode.errors import ArgumentError, DataError, DownloadError, JaxsodeError, OutputError

FILE = "KolektorSDD2.zip"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("published")
    return published.write_zip(folder / FILE, published.kolektor2()).read_bytes()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, content: bytes) -> Iterator[Server]:
    """Which has the miniature as KolektorSDD2's archive."""
    with serving(monkeypatch, content) as server:
        publish(monkeypatch, server, sha256=hashlib.sha256(content).hexdigest())
        yield server


def publish(monkeypatch: pytest.MonkeyPatch, server: Server, *, sha256: str) -> None:
    archive = dataclasses.replace(kolektor2.CARD.archive, url=server.url, sha256=sha256)
    monkeypatch.setattr(kolektor2, "CARD", dataclasses.replace(kolektor2.CARD, archive=archive))


def listing(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "datasets").iterdir())


def one_line(error: pytest.ExceptionInfo[JaxsodeError], *words: str) -> None:
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_the_licence_is_told_before(own_home: Path):
    assert datasets.announcement("kolektor2") == (
        f"KolektorSDD2.zip, 853 MB, from https://go.vicos.si/kolektorsdd2 into {own_home / 'datasets'}; "
        "https://www.vicos.si/resources/kolektorsdd2/; licence: CC BY-NC-SA 4.0, Kolektor Group and ViCoS "
        "Lab, Ljubljana: no commercial use"
    )
    assert datasets.announcement("kolektor").startswith(
        "KolektorSDD.zip, 102 MB, from https://go.vicos.si/kolektorsdd into "
    )


@pytest.mark.parametrize("behaviour", ["good", "moved", "no length"])
def test_what_is_downloaded_is_found_by_its_loader(
    server: Server, own_home: Path, content: bytes, behaviour: str
):
    server.behaviour = behaviour
    steps: list[tuple[int, int | None]] = []
    path = datasets.fetch("kolektor2", progress=lambda *both: steps.append(both))
    assert path == own_home / "datasets" / FILE
    assert path.read_bytes() == content
    assert steps[-1] == (len(content), None if behaviour == "no length" else len(content))
    assert listing(own_home) == [FILE]
    assert len(datasets.load("kolektor2").examples) == 9


def test_it_is_downloaded_once(server: Server):
    assert datasets.fetch("kolektor2") == datasets.fetch("kolektor2")
    assert server.ranges == [None]


@pytest.mark.parametrize("behaviour", ["good", "moved"])
def test_a_cut_connection_resumes(server: Server, own_home: Path, content: bytes, behaviour: str):
    server.behaviour, server.cut_at = behaviour, len(content) // 2
    with pytest.raises(DownloadError) as error:
        datasets.fetch("kolektor2")
    one_line(
        error, server.url, f"cut after {len(content) // 2} of {len(content)} bytes", "run again to resume"
    )
    one_line(error, "download it by hand and give its path as --data-dir (see https://www.vicos.si/")
    assert listing(own_home) == [f"{FILE}.part"]
    with pytest.raises(DataError, match=r"holds no KolektorSDD2"):
        datasets.load("kolektor2")
    server.cut_at = len(content)
    server.ranges.clear()
    assert datasets.fetch("kolektor2").read_bytes() == content
    assert set(server.ranges) == {f"bytes={len(content) // 2}-"}
    assert listing(own_home) == [FILE]


def test_a_wrong_checksum_keeps_nothing(server: Server, own_home: Path, monkeypatch: pytest.MonkeyPatch):
    publish(monkeypatch, server, sha256="0" * 64)
    with pytest.raises(DownloadError) as error:
        datasets.fetch("kolektor2")
    one_line(
        error, server.url, f"where {'0' * 64}… is expected: nothing was kept; run again, or download it by"
    )
    assert listing(own_home) == []


def test_where_no_checksum_is_known_the_first_downloads_is(
    server: Server, own_home: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
):
    publish(monkeypatch, server, sha256="")
    path = datasets.fetch("kolektor2")
    assert listing(own_home) == [FILE, f"{FILE}.sha256"]
    noted = path.with_name(f"{FILE}.sha256").read_text().strip()
    assert noted == hashlib.sha256(content).hexdigest()
    path.unlink()
    server.content = content[:-1] + b"!"
    with pytest.raises(DownloadError, match=f"where {noted}… is expected: nothing was kept"):
        datasets.fetch("kolektor2")
    server.content = content
    assert datasets.fetch("kolektor2") == path


def test_another_file_of_that_name_is_not_touched(server: Server, own_home: Path):
    (own_home / "datasets").mkdir()
    (own_home / "datasets" / FILE).write_bytes(b"mine")
    with pytest.raises(DataError) as error:
        datasets.fetch("kolektor2")
    one_line(
        error,
        f"{own_home / 'datasets' / FILE} is not the file that https://www.vicos.si/resources/",
        "remove",
    )
    assert (own_home / "datasets" / FILE).read_bytes() == b"mine"
    assert server.ranges == []


def test_a_server_that_does_not_have_it(server: Server, own_home: Path):
    server.behaviour = "missing"
    with pytest.raises(DownloadError) as error:
        datasets.fetch("kolektor2")
    one_line(error, f"{server.url}: the server answers 404 ")
    assert listing(own_home) == []


def test_a_home_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXSODE_HOME", str(tmp_path / "file"))
    with pytest.raises(
        OutputError, match=r"file/datasets/KolektorSDD2\.zip: Not a directory; set JAXSODE_HOME"
    ):
        datasets.fetch("kolektor2")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mvtec_ad",
            "mvtec_ad can't be downloaded from here: get mvtec_anomaly_detection.tar.xz or a category's",
        ),
        ("mstc", "mstc can't be downloaded from here: get it from https://svip-lab.github.io/dataset/campus"),
        ("demo", "demo can't be downloaded from here: it needs no download: leave --download out"),
        ("mnist", "there is no data set 'mnist': choose one of demo, "),
    ],
)
def test_what_cannot_be_downloaded_says_what_to_do(name: str, message: str):
    for function in (datasets.announcement, datasets.fetch):
        with pytest.raises(ArgumentError) as error:
            function(name)
        assert str(error.value).startswith(message)


def test_a_run_tells_the_licence_downloads_and_goes_on(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ["--dataset", "kolektor2", "--download", "--size", "64", "32", "--weights", "random"]
    arguments += ["--layers", "1", "--k", "4", "--maps", "none", "--no-save-detector"]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert said.startswith(datasets.announcement("kolektor2"))
    result = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert result["dataset"]["licence"] in datasets.announcement("kolektor2")
    assert server.ranges == [None]
    refused = ["--dataset", "mvtec_ad", "--download", "--weights", "random"]
    assert main([*refused, "--output", str(tmp_path / "none")]) == 2
    assert "mvtec_ad" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "none").exists()
