"""Docstrings of everything public say which shape an array has, or whose description it shares."""

import importlib
import inspect
import pkgutil
import re

import pytest

import jaxsode
import pretrained_conversion

_ARRAY = re.compile(r"\b(Array|ndarray|ArrayLike)\b")
_OTHERWISE = re.compile(r"\bKey\b|\b(dict|Mapping|Callable)\[")  # a random key; arrays by name; a function
_CHECKED = re.compile(r"\b(Float|Int|Bool|Shaped|UInt8|Inexact|Num)\[")  # jaxtyping has the shape
_LENGTH = r"(?:[A-Za-z]['’]?|height|width|rows|columns|batch_size|\d|…)"
_LENGTHS = rf"{_LENGTH}(?:(?: or | ?[·/+×−-] ?|){_LENGTH})*"
_SHAPE = re.compile(rf"\((?:…|{_LENGTHS}(?:,|(?:, {_LENGTHS})+))\)|\b(?:scalar|shapes?|HWIO|OIHW|C × C')")
_ELSEWHERE = re.compile(r"\b(?:see|as for|as|for) `\w+(\.\w+)*`")
_DRAWINGS = "jaxsode.datasets.demo"  # on a canvas that each module describes


def _modules():
    for package in (jaxsode, pretrained_conversion):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            private = module.name.rpartition(".")[2].startswith("_")
            if not private and not module.name.startswith(_DRAWINGS):
                yield importlib.import_module(module.name)


def _functions():
    for module in _modules():
        for name, value in list(vars(module).items()):
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            members = vars(value).items() if inspect.isclass(value) else [("", value)]
            for member, found in members:
                function = inspect.unwrap(getattr(found, "__func__", getattr(found, "fget", found)))
                if inspect.isfunction(function) and not member.startswith("_"):
                    yield pytest.param(function, id=f"{module.__name__}.{name}.{member}".rstrip("."))


def _said(doc, name):
    """What a docstring says of a parameter, or else before all sections; of what is returned, all of it."""
    if name == "return":
        return doc
    found = re.search(rf"^ {{4}}(?:\w+, )*{name}(?:, \w+)*:(.*\n(?: {{5,}}.*\n)*)", f"{doc}\n", re.MULTILINE)
    return found[1] if found else re.split(r"^[A-Z][a-z]+:$", doc, maxsplit=1, flags=re.MULTILINE)[0]


def _without_shape(function):
    """Parameters, and "return", that are arrays of which no shape is said."""
    doc, signature = inspect.getdoc(function) or "", inspect.signature(function)
    annotated = {name: p.annotation for name, p in signature.parameters.items() if p.kind != p.VAR_POSITIONAL}
    missing = []
    for name, annotation in {**annotated, "return": signature.return_annotation}.items():
        text = str(annotation)
        if not _ARRAY.search(text) or _OTHERWISE.search(text) or _CHECKED.search(text):
            continue
        said = _said(doc, name)
        if not (_SHAPE.search(said) or _ELSEWHERE.search(said)):
            missing.append(name)
    return missing


@pytest.mark.parametrize("function", list(_functions()))
def test_shapes_are_said(function):
    assert inspect.getdoc(function) or not _without_shape(function), "no docstring"
    assert not _without_shape(function)


def test_a_sentence_is_no_shape():
    def function(a: "np.ndarray", b: "np.ndarray", c: "np.ndarray", d: "np.ndarray"):
        """One of them (the best, as a rule).

        Args:
            a: (N, height, width, 3 or 1), uint8.
            b: numbers (or so, roughly).
            c: see `a`.
        """

    def nothing_said() -> "np.ndarray":
        """The best (as a rule)."""
        return NotImplemented

    assert _without_shape(function) == ["b", "d"]
    assert _without_shape(nothing_said) == ["return"]
