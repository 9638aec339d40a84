"""The accelerator's command needs JAX, Flax, SciPy and PyTorch of an image, and nothing else of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# JAX and Flax bring some of these along, but nothing of ours may count on them.
BARE = """
import runpy, sys
import flax.nnx, jax, numpy, scipy.ndimage
try:
    import torch
except ImportError:
    pass
missing = (
    "PIL anomalib array_record beartype einops importlib_resources jaxtyping matplotlib optax orbax psutil "
    "rich safetensors sklearn tensorflow_datasets timm torchvision tyro"
).split()
for name in [*missing, *(name for name in sys.modules if name.split(".")[0] in missing)]:
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_module("bench.run", run_name="__main__")
"""


def _bare(*arguments, folder):
    command = [sys.executable, "-c", BARE, "bench.run", *arguments, "--quick", "--results", str(folder)]
    # In an image a checkout is what the working directory holds.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("suite", ["inverse", "fit", "score", "metrics"])
def test_runs_in_a_bare_image(suite, tmp_path):
    more = ["--no-memory", "--only", "ours"] if suite in ("fit", "score") else []
    done = _bare(suite, *more, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob(f"{suite}-*.json"))
    assert ("left out: decode" in done.stdout) == (suite in ("fit", "score"))


def test_study_says_what_it_needs(tmp_path):
    done = _bare("study", folder=tmp_path)
    assert done.returncode == 2
    assert "study reads a data set and needs PIL, psutil, tensorflow_datasets, tyro" in done.stderr
