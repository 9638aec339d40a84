"""Rules for everything public: documented, options by keyword, dtypes kept, imports that run one way."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsode
from jaxsode import algebra

ROOT = Path(jaxsode.__file__).parents[1]
FUNCTIONS = [f for name in algebra.__all__ if inspect.isfunction(f := inspect.unwrap(getattr(algebra, name)))]


def test_what_is_public_is_there():
    for module in (jaxsode, algebra):
        assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name))
        for name in module.__all__:
            assert getattr(module, name) is not None
    assert set(algebra.__all__) <= set(jaxsode.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jaxsode.nothing  # noqa: B018


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_documented(function):
    text = inspect.getdoc(function) or ""
    assert "Args:" in text
    assert "Returns:" in text
    for name in inspect.signature(function).parameters:
        assert name in text, f"{function.__name__} does not say what {name} is"


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_options_are_keyword_only(function):
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not inspect.Parameter.empty and parameter.name != "weight":
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, f"{function.__name__}({parameter.name})"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_is_kept(dtype):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        z = jnp.asarray(rng.standard_normal((9, 4)), dtype)
        moments = algebra.update(algebra.of_batch(z), z)
        M = algebra.whitener(algebra.covariance(moments), 0.01)
        d = algebra.mahalanobis(z[0], moments.mean, M)
        maps = algebra.anomaly_map(jnp.ones((2, 2), dtype), (8, 8))
        embedded = algebra.project_then_align([jnp.ones((2, 2, 4), dtype)], jnp.ones((4, 3), dtype))
        assert {x.dtype for x in (*jax.tree.leaves(moments), M, d, maps, embedded)} == {jnp.dtype(dtype)}


def _imports(path):
    """Modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {
        name for name in found if name.split(".")[0] in ("jaxsode", "pretrained_conversion", "bench", "tests")
    }


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("jaxsode/kernels", ("jaxsode.kernels", "jaxsode._typing")),
        ("jaxsode/algebra", ("jaxsode.algebra", "jaxsode.kernels", "jaxsode.errors", "jaxsode._typing")),
        ("jaxsode/metrics", ("jaxsode.metrics", "jaxsode.errors")),
        ("jaxsode/datasets", ("jaxsode.datasets", "jaxsode.errors", "jaxsode.home")),
        (
            "jaxsode/backbones",
            (
                "jaxsode.backbones",
                "jaxsode.kernels",
                "jaxsode.errors",
                "jaxsode.home",
                "pretrained_conversion",
            ),
        ),
        ("pretrained_conversion", ("pretrained_conversion", "jaxsode.errors", "jaxsode.backbones")),
    ],
)
def test_arrows_point_one_way(folder, allowed):
    for path in (ROOT / folder).rglob("*.py"):
        for module in _imports(path):
            assert module == "jaxsode" or module.startswith(allowed), (
                f"{path.relative_to(ROOT)} imports {module}"
            )


_JAX_ALONE = """
import jax, jaxsode
W = jaxsode.semi_orthogonal(0, 8, 3)
print(jaxsode.project_then_align([jax.numpy.ones((2, 2, 8))], W).shape)
"""
_JAX_AND_FLAX = """
import numpy, jaxsode
from jaxsode.backbones import registry
detector = jaxsode.Detector.fit([numpy.zeros((2, 32, 32, 3), "uint8")], registry.create("resnet18"), k=3)
print(detector.W.shape)
"""
_LIBRARIES = {
    "array_record",
    "einops",
    "jaxtyping",
    "PIL",
    "psutil",
    "rich",
    "safetensors",
    "sklearn",
    "tyro",
}
_LIBRARIES |= {"tensorflow_datasets", "beartype"}


@pytest.mark.parametrize(
    ("script", "missing", "printed"),
    [
        (_JAX_ALONE, _LIBRARIES | {"flax", "optax", "orbax"}, "(2, 2, 3)"),
        # Random weights are all that an image with JAX and Flax needs to measure on.
        (_JAX_AND_FLAX, _LIBRARIES - {"rich"}, "(448, 3)"),  # Flax itself wants rich
    ],
)
def test_runs_where_little_is_installed(script, missing, printed):
    blocker = f"""
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ImportError(f"{{name}} is not installed here")
sys.meta_path.insert(0, Nothing())
"""
    done = subprocess.run([sys.executable, "-c", blocker + script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == printed, done.stderr
