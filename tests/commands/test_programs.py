"""Commands keep what XLA compiled for the next process, and do without where they can't."""

import os
import subprocess
import sys

import pytest

COMPILE = """
import jax
from jaxsode.commands import programs
programs.keep()
print(jax.jit(lambda x: x + 1)(2.0))
print(jax.config.jax_compilation_cache_dir)
"""


def _compiled(**surroundings):
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env=inherited | {name: str(value) for name, value in surroundings.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    result, folder = done.stdout.splitlines()
    assert result == "3.0"
    return folder


def test_programs_are_kept_under_the_home(tmp_path):
    folder = _compiled(JAXSODE_HOME=tmp_path)
    (made,) = (tmp_path / "programs").iterdir()
    assert folder == str(made)
    kept = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    assert kept
    assert _compiled(JAXSODE_HOME=tmp_path) == folder
    assert {path.name: path.stat().st_mtime_ns for path in made.iterdir()} == kept
    for path in made.iterdir():
        path.write_bytes(path.read_bytes()[:100])  # a process was killed as it wrote
    assert _compiled(JAXSODE_HOME=tmp_path) == folder


def test_the_users_own_folder_counts(tmp_path):
    own = tmp_path / "own"
    assert _compiled(JAXSODE_HOME=tmp_path / "home", JAX_COMPILATION_CACHE_DIR=own) == str(own)
    assert not (tmp_path / "home").exists()


def test_what_others_can_write_to_is_not_run(tmp_path):
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs").chmod(0o777)
    assert _compiled(JAXSODE_HOME=tmp_path) == "None"


@pytest.mark.parametrize("kind", ["a file", "unwritable"])
def test_without_a_home_nothing_is_kept(kind, tmp_path):
    if kind == "a file":
        (tmp_path / "home").write_text("")
    else:
        (tmp_path / "home").symlink_to("/proc/1")  # where not even root may write
    assert _compiled(JAXSODE_HOME=tmp_path / "home") == "None"
