"""Where the cache is, and paths as users write them."""

import os
import pwd
from pathlib import Path

import pytest
from own_pictures import draw

from jaxsode import datasets, pictures
from jaxsode.errors import ArgumentError
from jaxsode.home import expanded, home, readable


def test_the_first_that_is_set(monkeypatch):
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("JAXSODE_HOME", "~/j")
    assert home() == Path("/h/j")
    monkeypatch.delenv("JAXSODE_HOME")
    assert home() == Path("/x/jaxsode")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == Path("/h/.cache/jaxsode")


def test_a_user_without_a_home(monkeypatch):
    """As in a container that runs under a number that nobody has a name for."""

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "JAXSODE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ArgumentError, match=r"^this user has no home folder .*: set JAXSODE_HOME to"):
        home()
    with pytest.raises(ArgumentError, match=r"^~/x: no home folder is known for its ~: write the path out$"):
        expanded("~/x")
    assert expanded("x/~") == Path("x/~")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("a\0b", r"^'a\\x00b' is no path, for the NUL in it: give another one$"),
        (Path("~\0"), r"^'~\\x00' is no path"),
        (7, "^7 is no path: give the path of a file or a folder$"),
    ],
)
def test_what_is_no_path(path, line):
    with pytest.raises(ArgumentError, match=line):
        expanded(path)
    with pytest.raises(ArgumentError, match=line):
        datasets.load("folder", data_dir=path)


@pytest.mark.parametrize("name", [name for name in datasets.NAMES if name != "demo"])
def test_a_home_folder_of_nobody(name):
    with pytest.raises(ArgumentError, match=r"^~zz-nobody/x: no home folder is known for its ~"):
        datasets.load(name, data_dir="~zz-nobody/x")


def test_pictures_of_a_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    draw(tmp_path / "good" / "1.png")
    assert pictures.batches("~/good").files == (tmp_path / "good" / "1.png",)
    with pytest.raises(ArgumentError, match="no home folder is known"):
        pictures.batches("~zz-nobody/good")


def test_any_path_can_be_read():
    assert readable(Path("/ü/ε")) == "/ü/ε"
    assert readable(os.fsdecode(b"\xff")) == r"\xff"
    assert readable("\udcc3\udcbc") == "ü"  # as an ASCII locale decodes it
