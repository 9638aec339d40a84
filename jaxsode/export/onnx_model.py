"""A function of JAX's → an ONNX model: its jaxpr, equation by equation.

What depends on no picture is computed here and kept as an array; what remains becomes nodes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from jaxsode import kernels
from jaxsode.errors import ArgumentError
from jaxsode.export.graph import INLINE, Graph, Value, constant
from jaxsode.export.primitives import LOWERINGS

_CALLS = {
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat": "jaxpr",
    "checkpoint": "jaxpr",
}


def write(
    path: Path,
    function: Callable[[Any, jax.Array], Any],
    constants: Any,
    picture: jax.ShapeDtypeStruct,
    *,
    about: Mapping[str, str] | None = None,
    inline: int = INLINE,
) -> None:
    """Write a function of pictures as an ONNX model with an open batch.

    Args:
        path: of the file; where its arrays are more than `inline` bytes they lie beside it, in PATH.data.
        function: (constants, pictures (N, …)) → a named tuple of results, each (N, …) or None. Its kernels
            are traced in their plain form.
        constants: a pytree of arrays, which become the model's own.
        picture: (…) of one, the input's shape and dtype; the input is called "pictures".
        about: what the model says of itself, by name.
        inline: see `jaxsode.export.graph.INLINE`.

    Raises:
        ArgumentError: the function does what has no form in ONNX here.
        OSError: it can't be written.
    """
    (N,) = jax.export.symbolic_shape("batch")
    with kernels.plain():
        pictures = jax.ShapeDtypeStruct((N, *picture.shape), picture.dtype)
        traced = jax.jit(function).trace(constants, pictures)
    graph = Graph()
    order = tuple(range(len(picture.shape) + 1))
    given = [*map(constant, jax.tree.leaves(constants)), Value((N, *picture.shape), order, "pictures")]
    results = _inlined(graph, traced.jaxpr, given)
    outputs: dict[str, tuple[Any, tuple[Any, ...]]] = {}
    found = {name: info for name, info in traced.out_info._asdict().items() if info is not None}
    for (name, info), value in zip(found.items(), results, strict=True):
        graph.add("Identity", graph.stored(value, shape=info.shape), name=name)
        outputs[name] = info.dtype, info.shape
    inputs = {"pictures": (picture.dtype, (N, *picture.shape))}
    graph.save(path, inputs, outputs, about=about or {}, inline=inline)


def _inlined(graph: Graph, closed: Any, operands: list[Value]) -> list[Value]:
    """The results of a jaxpr, the jaxprs that it calls among it."""
    jaxpr = getattr(closed, "jaxpr", closed)
    own = map(constant, getattr(closed, "consts", ()))
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, own, strict=True))
    known |= zip(jaxpr.invars, operands, strict=True)

    def value(variable: Any) -> Value:
        if isinstance(variable, Literal):
            aval: Any = variable.aval
            return constant(np.asarray(variable.val, aval.dtype))
        return known[variable]

    for equation in jaxpr.eqns:
        given = [value(variable) for variable in equation.invars]
        known |= zip(equation.outvars, _made(graph, equation, given), strict=True)
    return [value(variable) for variable in jaxpr.outvars]


def _made(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name = equation.primitive.name
    if name in _CALLS:
        return _inlined(graph, equation.params[_CALLS[name]], operands)
    arrays = [value.array for value in operands if value.array is not None]
    if len(arrays) == len(operands) and _may_be_computed(equation):
        whole = [
            np.broadcast_to(array, variable.aval.shape)
            for array, variable in zip(arrays, equation.invars, strict=True)
        ]
        made = equation.primitive.bind(*map(jax.numpy.asarray, whole), **equation.params)
        return [constant(each) for each in (made if equation.primitive.multiple_results else [made])]
    if name not in LOWERINGS:
        raise ArgumentError(
            f"{name}, which the detector computes with, has no form in ONNX here: export StableHLO, or add "
            "it to jaxsode/export/primitives.py"
        )
    return [LOWERINGS[name](graph, equation, operands)]


def _may_be_computed(equation: Any) -> bool:
    """Not where an array would grow by it: it is kept as it was given, and the runtime makes it longer. Nor
    the length of the batch."""
    name, results = equation.primitive.name, [variable.aval for variable in equation.outvars]
    if name in ("broadcast_in_dim", "dim_as_value") or not all(
        isinstance(n, int) for made in results for n in made.shape
    ):
        return False
    given = equation.invars[0].aval.dtype if equation.invars else None
    return not (name == "convert_element_type" and given == np.float16)
