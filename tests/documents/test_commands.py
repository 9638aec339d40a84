"""The commands of the README, the tutorial and the how-tos run, on miniatures; all others are parsed."""

import io
import re
import subprocess
import tomllib
import zipfile

import miniature
import numpy as np
import own_pictures
import pytest
import safetensors.numpy
import tyro
from documented import DOCS, HOW_TO, PAGES, README, ROOT, commands, named
from file_server import serving

import bench.run
from jaxsode import backbones, cli
from jaxsode.backbones.publishers import ADDRESSES, Address
from jaxsode.commands import run
from jaxsode.commands.serve import Serve
from jaxsode.datasets.demo import dataset as demo
from jaxsode.datasets.demo import files as demo_files

RUN = [README, DOCS / "index.md", DOCS / "tutorial.md", *HOW_TO]
SIZE = (32, 32)
SMALL = ["--size", *map(str, SIZE), "--k", "4"]
# What is added to a command, so that it ends at once.
MORE = {"fit": SMALL, "run": SMALL}
OTHERS = {"pip", "pytest", "ruff", "pyright", "zensical", "python", "curl", ".ci/run", "."}


@pytest.fixture
def published_weights(monkeypatch):
    """ResNet-18's, random ones, downloaded from a server on this machine and nowhere else."""
    network = backbones.create("resnet18", layers=(1, 2, 3, 4))
    tensors = {
        path.replace(".kernel", ".weight"): np.ascontiguousarray(
            np.transpose(leaf, (3, 2, 0, 1)) if leaf.ndim == 4 else leaf
        )
        for path, leaf in backbones.parameters(network).items()
    }
    content = safetensors.numpy.save(tensors)
    with serving(monkeypatch, content) as server:
        address = Address(f"{server.url.rpartition('/')[0]}/net.safetensors", "", "a test")
        monkeypatch.setitem(ADDRESSES, "resnet18", (address,))
        yield content


@pytest.fixture
def world(tmp_path, monkeypatch, published_weights):
    """What the pages call by its name: folders of pictures, a file of weights, data sets as published."""
    for first, (folder, count) in enumerate({"good": 12, "new": 3, "more": 4, "unseen": 6}.items()):
        for seed in range(count):
            own_pictures.draw(tmp_path / folder / f"{seed}.png", size=SIZE, seed=100 * first + seed)
    own_pictures.good_and_bad(tmp_path / "DIR", good=8)
    (tmp_path / "resnet18.safetensors").write_bytes(published_weights)
    miniature.kolektor(tmp_path / "unzipped")
    with zipfile.ZipFile(tmp_path / "KolektorSDD.zip", "w") as archive:
        for path in sorted((tmp_path / "unzipped").rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path / "unzipped"))
    miniature.is_complete(monkeypatch)
    monkeypatch.setattr(demo, "TRAIN_GOOD", 12)
    monkeypatch.setattr(demo, "TEST_GOOD", 6)
    monkeypatch.setattr(demo_files, "LATER", 6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", RUN, ids=named)
@pytest.mark.usefixtures("world")
def test_they_run(page, capsys, monkeypatch):
    for words in commands(page):
        if "|" in words:
            piped = subprocess.run(
                " ".join(words[: words.index("|")]), shell=True, check=True, capture_output=True, text=True
            )
            monkeypatch.setattr("sys.stdin", io.StringIO(piped.stdout))
            words = words[words.index("|") + 1 :]
        if words[:2] == ["jaxsode", "serve"]:  # which has no end; tests/serve runs it
            tyro.cli(Serve, args=words[2:])
        elif words[0] == "jaxsode":
            more = [] if "--exclude" in words else MORE.get(words[1], [])  # which changes no setting
            given = [*words[1:], *more]
            assert cli.main(given) == 0, f"{' '.join(words)}: {capsys.readouterr().err}"
        elif words[0] in ("mkdir", "cp"):
            subprocess.run(words, check=True)
        else:
            assert words[0] in OTHERS, words


class _Parsed(BaseException):
    """Ends a command when its options have been understood."""


@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN], ids=named)
def test_those_beside_results_are_parsed(page, monkeypatch):
    understands = tyro.cli

    def parse(*args, **options):
        understands(*args, **options)
        raise _Parsed

    monkeypatch.setattr(tyro, "cli", parse)
    for words in commands(page):
        match words:
            case ["jaxsode", command, *rest]:
                with pytest.raises(_Parsed):
                    cli.main([command, *rest])
            case ["python", "-m", "jaxsode.run", *rest]:
                with pytest.raises(_Parsed):
                    run.main(rest)
            case ["python", "-m", "bench.run", *rest]:
                bench.run._parser(rest).parse_args(rest)
            case _:
                assert words[0] in OTHERS, words


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_installed_is_an_extra(page):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"\.\[([a-z0-9,]+)\]|jaxsode\[([a-z0-9,]+)\]", page.read_text(encoding="utf-8"))
    for extra in (name for pair in named for each in pair if each for name in each.split(",")):
        assert extra in extras["optional-dependencies"]


def test_the_readme_has_the_three_commands_of_the_line_on_one_screen():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    first = [words[1] for words in commands(README) if words[0] == "jaxsode"]
    assert first == ["fit", "predict", "serve", "export", "demo"]
