"""Rules for everything public: documented, options by keyword, dtypes kept, imports that run one way."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsode
from jaxsode import algebra
from jaxsode.algebra import distance, moments, precision, pyramid
from jaxsode.cli import COMMANDS

ROOT = Path(jaxsode.__file__).parents[1]
OURS = ("jaxsode", "pretrained_conversion", "bench", "tests")
PAGES = [
    importlib.import_module(f"jaxsode.algebra.{page.name}") for page in pkgutil.iter_modules(algebra.__path__)
]
FUNCTIONS = [
    pytest.param(function, id=f"{page.__name__.rpartition('.')[2]}.{name}")
    for page in PAGES
    for name, value in vars(page).items()
    if not name.startswith("_")
    and inspect.isfunction(function := inspect.unwrap(value))
    and function.__module__ == page.__name__
]


def test_what_is_public_is_there():
    for module in (jaxsode, algebra):
        assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name))
        for name in module.__all__:
            assert getattr(module, name) is not None
    pages = {page.__name__.rpartition(".")[2] for page in PAGES}
    assert pages - {"grid"} <= set(algebra.__all__)  # of grid it is `over_grid` that is there
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        jaxsode.nothing  # noqa: B018


@pytest.mark.parametrize("name", jaxsode._FORMER)
def test_former_names_are_still_there_and_say_where_to_find_them(name):
    module, attribute = jaxsode._FORMER[name]
    now = f"jaxsode.{module}.{attribute}"
    with pytest.warns(DeprecationWarning, match=f"^jaxsode.{name} is now {now}$") as caught:
        found = getattr(jaxsode, name)
    assert found is getattr(importlib.import_module(f"jaxsode.{module}"), attribute)
    assert caught[0].filename == __file__


def _section(function, title):
    """The indented lines below a title of the docstring."""
    found = re.search(rf"^{title}:\n((?:[ ].*\n|\n)*)", (inspect.getdoc(function) or "") + "\n", re.MULTILINE)
    return found[1] if found else ""


def _undescribed(function):
    """Parameters that have no line of their own, alone or in a list, in the section of arguments."""
    text = _section(function, "Args")
    return [
        name
        for name in inspect.signature(function).parameters
        if not re.search(rf"^ {{4}}(?:\w+, )*{name}(?:, \w+)*:", text, re.MULTILINE)
    ]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_documented(function):
    assert _section(function, "Returns").strip()
    assert not _undescribed(function)


def test_a_letter_in_a_sentence_is_no_description():
    def function(a, k, z):
        """A k of z.

        Args:
            a: for z: and k,
                k: not here.

        Returns:
            z: nor here.
        """

    assert _undescribed(function) == ["k", "z"]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_options_are_keyword_only(function):
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not inspect.Parameter.empty and parameter.name != "where":
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_is_kept(dtype):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        z = jnp.asarray(rng.standard_normal((9, 4)), dtype)
        state = moments.update(moments.of_batch(z), z)
        M = precision.whitener(moments.covariance(state), 0.01)
        d = distance.mahalanobis(z[0], state.mean, M)
        maps = distance.anomaly_map(jnp.ones((2, 2), dtype), (8, 8))
        embedded = pyramid.project_then_align([jnp.ones((2, 2, 4), dtype)], jnp.ones((4, 3), dtype))
        assert {x.dtype for x in (*jax.tree.leaves(state), M, d, maps, embedded)} == {
            jnp.dtype(jnp.int32),
            jnp.dtype(dtype),
        }


# Who knows whom.


def _module(path):
    """A file's dotted name; a package's is that of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {_module(path): path for name in OURS for path in (ROOT / name).rglob("*.py")}


def _is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"


def _walk(node, *, types):
    """All nodes below, those of `if TYPE_CHECKING:` only if asked for."""
    for child in ast.iter_child_nodes(node):
        if types or not _is_for_types(node) or child in node.orelse:
            yield child
            yield from _walk(child, types=types)


def _imports(text, package, *, types=True):
    """Modules of ours that a file imports, wherever in it and however.

    Args:
        text: the file's.
        package: that its relative imports start from.
        types: also those for type checkers alone.

    Returns:
        dotted names; of `from package import name` the submodule, if it is one, else the package. A string
        that is a submodule's name counts: it is how a late import names it.
    """
    found = set()
    for node in _walk(ast.parse(text), types=types):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else source for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            found |= {node.value} & FILES.keys()
    return {name for name in found if name.split(".")[0] in OURS}


def _imports_of(module, *, types=True):
    path = FILES[module]
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    return _imports(path.read_text(), package, types=types)


def _within(module, packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_every_kind_of_import_is_seen():
    text = """
from typing import TYPE_CHECKING
import numpy, jaxsode.report
from . import decode, load
from .files import Files
from ..errors import DataError
from jaxsode import kernels
if TYPE_CHECKING:
    from jaxsode.detector import Detector
else:
    import bench.run
def late():
    from jaxsode.algebra.moments import init
    import_module("jaxsode.blocks")
"""
    always = {"jaxsode.report", "jaxsode.datasets.decode", "jaxsode.datasets", "jaxsode.datasets.files"}
    always |= {"jaxsode.errors", "jaxsode.kernels", "bench.run", "jaxsode.algebra.moments", "jaxsode.blocks"}
    assert _imports(text, "jaxsode.datasets", types=False) == always
    assert _imports(text, "jaxsode.datasets") == always | {"jaxsode.detector"}
    assert "jaxsode.datasets.decode" in _imports_of("jaxsode.datasets.dataset")
    assert "jaxsode.datasets.prepared" in _imports_of("jaxsode.datasets.demo.dataset")


_ARROWS = {  # whom the modules of a package may know, besides each other
    "jaxsode.kernels": ("jaxsode._typing",),
    "jaxsode.algebra": ("jaxsode.kernels", "jaxsode.errors", "jaxsode._typing"),
    "jaxsode.metrics": ("jaxsode.errors",),
    "jaxsode.datasets": ("jaxsode.download", "jaxsode.errors", "jaxsode.home", "jaxsode.preparation"),
    "jaxsode.backbones": (
        "jaxsode.download",
        "jaxsode.kernels",
        "jaxsode.errors",
        "jaxsode.home",
        "pretrained_conversion",
    ),
    "jaxsode.download": ("jaxsode.errors",),
    "jaxsode.report": ("jaxsode.errors", "jaxsode.home"),
    "jaxsode.peers": (
        "jaxsode.algebra",
        "jaxsode.backbones",
        "jaxsode.errors",
        "jaxsode.fitting",
        "jaxsode.pictures",
        "jaxsode.scoring",
    ),
    "jaxsode.checkpoint": ("jaxsode.trees", "jaxsode.making", "jaxsode.hosts", "jaxsode.errors"),
    "jaxsode.trees": ("jaxsode._imports", "jaxsode.errors"),
    "jaxsode._imports": (),
    "jaxsode.hosts": ("jaxsode.errors",),
    "jaxsode.making": (),
    "jaxsode.preparation": ("jaxsode.errors",),
    "jaxsode.errors": (),
    "jaxsode.home": ("jaxsode.errors",),
    "pretrained_conversion": ("jaxsode.errors", "jaxsode.backbones"),
}
_COMMAND = ("jaxsode.commands", "jaxsode.cli", "jaxsode.run", "bench", "tests")
_NEVER = {  # whom they must not know
    "jaxsode.experiment": ("jaxsode.report", *_COMMAND),
    "jaxsode.commands": ("bench", "tests"),
    "jaxsode.reproduce": ("jaxsode.cli", "jaxsode.run", "bench", "tests"),
    # All that stands in no package: from Method to Detector.
    **{
        f"jaxsode.{path.stem}": ("jaxsode.experiment", "jaxsode.report", *_COMMAND)
        for path in (ROOT / "jaxsode").glob("*.py")
        if path.stem not in ("__init__", "cli", "run")
    },
}


@pytest.mark.parametrize(("package", "allowed"), _ARROWS.items(), ids=_ARROWS)
def test_arrows_point_one_way(package, allowed):
    files = [module for module in FILES if _within(module, [package])]
    assert files
    for module in files:
        strangers = {name for name in _imports_of(module) if not _within(name, (package, *allowed))}
        assert not strangers, f"{module} imports {strangers}"


@pytest.mark.parametrize(("package", "forbidden"), _NEVER.items(), ids=_NEVER)
def test_arrows_do_not_point_back(package, forbidden):
    files = [module for module in FILES if _within(module, [package])]
    assert files
    for module in files:
        wrong = {name for name in _imports_of(module) if _within(name, forbidden)}
        assert not wrong, f"{module} imports {wrong}"


def test_no_circle():
    """Late imports included. A package is its __init__ alone, which its own modules don't go through."""
    product = [module for module in FILES if _within(module, ["jaxsode", "pretrained_conversion"])]
    graph = {module: _imports_of(module, types=False) for module in product}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(reversed(error.args[1]))}")


_JAX_ALONE = """
import jax
from jaxsode.algebra import embedding, pyramid
W = embedding.semi_orthogonal(0, 8, 3)
print(pyramid.project_then_align([jax.numpy.ones((2, 2, 8))], W).shape)
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


_AS_NEEDED = """
import gc, sys
import jaxsode
print("jax" in sys.modules, set(jaxsode.__all__) <= set(dir(jaxsode)))
from jaxsode import Method, algebra, pictures
print("jax" in sys.modules, "flax" in sys.modules)
jaxsode.Detector
print("flax" in sys.modules, "orbax" in sys.modules, gc.isenabled(), gc.get_freeze_count() > 1000)
gc.disable()
jaxsode.load_backbone
print(gc.isenabled())
"""


def test_what_is_imported_is_what_is_used():
    done = subprocess.run([sys.executable, "-c", _AS_NEEDED], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["False True", "True False", "True False True False", "False"], done


_AS_A_COMMAND = """
import atexit, gc, sys
sys.argv = ["jaxsode", "--help"]
from jaxsode import cli
atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 100_000))
print("jax" in sys.modules)
cli.script()
"""


def test_a_command_looks_for_no_garbage_among_what_it_imports():
    done = subprocess.run([sys.executable, "-c", _AS_A_COMMAND], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1], done.returncode) == ("False", "True True", 0), done


def test_no_command_begins_by_importing_statistics():
    """SciPy's take a second to import, more than all that is ours."""
    modules = ", ".join(f"jaxsode.commands.{name}" for name in COMMANDS)
    script = f"import sys, {modules}; print('scipy.stats' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done
