"""JAX's primitives in ONNX's words: a function each, found by the primitive's name.

What is not here is refused by name: nothing is left out in silence. Results are JAX's wherever these are
finite; runtimes take the maximum of a number and NaN as they please.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper

from jaxsode.errors import ArgumentError
from jaxsode.export.graph import Graph, Value, constant

Lowering = Callable[[Graph, Any, list[Value]], Value]
"""(graph, equation, its operands) → its one result."""

LOWERINGS: dict[str, Lowering] = {}

_ELEMENTWISE = {
    "abs": "Abs",
    "add": "Add",
    "add_any": "Add",
    "and": "And",
    "ceil": "Ceil",
    "cos": "Cos",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "not": "Not",
    "or": "Or",
    "pow": "Pow",
    "sign": "Sign",
    "sin": "Sin",
    "sqrt": "Sqrt",
    "sub": "Sub",
    "tanh": "Tanh",
}
_BOOLEAN = {"and", "or", "not"}  # of bits, where they are not truth values


def _lowering(*names: str) -> Callable[[Lowering], Lowering]:
    def registered(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(names, function))
        return function

    return registered


@_lowering(*_ELEMENTWISE)
def _elementwise(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    name = equation.primitive.name
    truths = [v.aval.dtype == bool for v in equation.invars]
    if name in _BOOLEAN and not all(truths):
        raise _unable(equation, "of bits")
    if name not in _BOOLEAN and name != "eq" and any(truths):
        raise _unable(equation, "of truth values")
    return _broadcast(graph, operands, lambda *names: graph.add(_ELEMENTWISE[name], *names))


@_lowering("max")
def _max(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    """With 0 it is what runtimes fuse into a convolution."""
    if equation.invars[0].aval.dtype == bool:
        raise _unable(equation, "of truth values")
    rest = [value for value in operands if value.array is None or value.array.any()]
    if len(rest) == 1 and equation.invars[0].aval.dtype.kind == "f" and rest[0].name is not None:
        return _broadcast(graph, rest, lambda x: graph.add("Relu", x))
    return _broadcast(graph, operands, lambda a, b: graph.add("Max", a, b))


@_lowering("ne")
def _ne(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    return _broadcast(graph, operands, lambda a, b: graph.add("Not", graph.add("Equal", a, b)))


@_lowering("square")
def _square(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    return _broadcast(graph, operands, lambda x: graph.add("Mul", x, x))


@_lowering("rsqrt")
def _rsqrt(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    return _broadcast(graph, operands, lambda x: graph.add("Reciprocal", graph.add("Sqrt", x)))


@_lowering("integer_pow")
def _integer_pow(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    power = graph.array(equation.params["y"], equation.invars[0].aval.dtype)
    return _broadcast(graph, operands, lambda x: graph.add("Pow", x, power))


@_lowering("clamp")
def _clamp(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    def clamped(low: str, x: str, high: str) -> str:
        return graph.add("Min", graph.add("Max", x, low), high)

    return _broadcast(graph, operands, clamped)


@_lowering("select_n")
def _select_n(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    if len(operands) != 3 or equation.invars[0].aval.dtype != bool:
        raise _unable(equation, "of more than two cases")
    return _broadcast(graph, operands, lambda which, no, yes: graph.add("Where", which, yes, no))


@_lowering("convert_element_type")
def _convert(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    given, wanted = equation.invars[0].aval.dtype, np.dtype(equation.params["new_dtype"])
    if given.kind not in "biu" and wanted.kind in "iu":
        raise _unable(equation, "from real numbers to whole ones, where runtimes differ beyond the range,")
    to = helper.np_dtype_to_tensor_dtype(wanted)
    return _broadcast(graph, operands, lambda x: graph.add("Cast", x, to=to))


@_lowering("stop_gradient", "copy", "copy_p", "optimization_barrier")
def _same(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    return operands[0]


def _broadcast(graph: Graph, operands: Sequence[Value], node: Callable[..., str]) -> Value:
    """Elementwise: in the layout of the first operand that is computed; lengths of 1 stay what they are."""
    rank = max(len(value.shape) for value in operands)
    computed = [value for value in operands if value.name is not None and len(value.shape) == rank]
    layout = computed[0].layout if computed else tuple(range(rank))
    names = [graph.stored(value, layout if len(value.shape) == rank else None) for value in operands]
    shape = list(operands[0].shape) if len(operands[0].shape) == rank else [1] * rank
    for value in operands:
        for axis, length in enumerate(value.shape):
            shape[axis] = length if isinstance(shape[axis], int) and shape[axis] == 1 else shape[axis]
    return Value(tuple(shape), layout, node(*names))


@_lowering("broadcast_in_dim")
def broadcast_in_dim(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    """Only new axes of length 1 are made; what is to be repeated is left to whoever takes it."""
    value, shape = operands[0], equation.params["shape"]
    where = equation.params["broadcast_dimensions"]
    held = tuple(value.shape[where.index(axis)] if axis in where else 1 for axis in range(len(shape)))
    if value.array is not None:
        return constant(np.reshape(value.array, held))
    assert value.name is not None
    new = [axis for axis in range(len(shape)) if axis not in where]
    # The new axes are stored first; the others keep their order.
    layout = (*new, *(where[axis] for axis in value.layout))
    if not new:
        return Value(held, layout, value.name)
    axes = graph.array(range(len(new)), np.int64)
    return Value(held, layout, graph.add("Unsqueeze", value.name, axes))


@_lowering("reshape")
def _reshape(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    sizes = tuple(equation.outvars[0].aval.shape)
    full = graph.stored(operands[0], shape=equation.invars[0].aval.shape)
    return _reshaped(graph, full, sizes)


@_lowering("squeeze", "expand_dims")
def _squeeze(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    return _reshape(graph, equation, operands)


def _reshaped(graph: Graph, name: str, sizes: Sequence[Any]) -> Value:
    """In the order of JAX; one length may be open."""
    lengths = [length if isinstance(length, int) else -1 for length in sizes]
    made = graph.add("Reshape", name, graph.array(lengths, np.int64))
    return Value(tuple(sizes), tuple(range(len(sizes))), made)


@_lowering("transpose")
def _transpose(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    value, order = operands[0], tuple(equation.params["permutation"])
    if value.array is not None:
        return constant(value.array.transpose(order))
    shape = tuple(value.shape[axis] for axis in order)
    return Value(shape, tuple(order.index(axis) for axis in value.layout), value.name)


@_lowering("slice")
def _slice(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    whole = equation.invars[0].aval.shape
    starts, ends = equation.params["start_indices"], equation.params["limit_indices"]
    steps = equation.params["strides"] or (1,) * len(whole)
    wanted = enumerate(zip(starts, ends, steps, strict=True))
    cut = [axis for axis, bounds in wanted if bounds != (0, whole[axis], 1)]
    name, value = _whole_at(graph, operands[0], whole, cut)
    bounds = ([x[a] for a in cut] for x in (starts, ends))
    axes = [value.layout.index(axis) for axis in cut]
    given = (*bounds, axes, [steps[a] for a in cut])
    name = graph.add("Slice", name, *(graph.array(x, np.int64) for x in given))
    sizes = equation.outvars[0].aval.shape
    return Value(tuple(sizes[a] if a in cut else n for a, n in enumerate(value.shape)), value.layout, name)


@_lowering("pad")
def _pad(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    sides = equation.params["padding_config"]
    if any(inside for _, _, inside in sides):
        raise _unable(equation, "between the elements")
    grown = [axis for axis, (low, high, _) in enumerate(sides) if low or high]
    name, value = _whole_at(graph, operands[0], equation.invars[0].aval.shape, grown)
    pads = [sides[axis][end] for end in (0, 1) for axis in value.layout]
    name = graph.add("Pad", name, graph.array(pads, np.int64), graph.stored(operands[1]))
    sizes = equation.outvars[0].aval.shape
    return Value(tuple(sizes[a] if a in grown else n for a, n in enumerate(value.shape)), value.layout, name)


@_lowering("concatenate")
def _concatenate(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    layout = next((value.layout for value in operands if value.name is not None), operands[0].layout)
    parts = [
        graph.stored(value, layout, variable.aval.shape)
        for value, variable in zip(operands, equation.invars, strict=True)
    ]
    axis = layout.index(equation.params["dimension"])
    return Value(tuple(equation.outvars[0].aval.shape), layout, graph.add("Concat", *parts, axis=axis))


@_lowering("gather")
def _gather(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    """`jnp.take` along one axis by indices that are known."""
    value, indices = operands
    numbers = equation.params["dimension_numbers"]
    whole, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    axis = numbers.start_index_map[0]
    kept = tuple(n for a, n in enumerate(whole) if a != axis)
    one = tuple(n for a, n in enumerate(sizes) if a != axis)
    if (
        indices.array is None
        or indices.array.ndim != 2
        or numbers.collapsed_slice_dims != (axis,)
        or len(numbers.start_index_map) != 1
        or numbers.operand_batching_dims
        or kept != one
    ):
        raise _unable(equation, "other than by known indices along one axis")
    wanted = np.asarray(indices.array)[:, 0]
    if ((wanted < 0) | (wanted >= whole[axis])).any():
        raise _unable(equation, "beyond the edge")
    name, value = _whole_at(graph, value, whole, [axis])
    where = value.layout.index(axis)
    name = graph.add("Gather", name, graph.array(wanted, np.int64), axis=where)
    # The axis of the result that the indices run along: the one that no slice has.
    rank = len(equation.outvars[0].aval.shape)
    along = next(a for a in range(rank) if a not in numbers.offset_dims)
    if along != axis:
        raise _unable(equation, "with its axes in another order")
    shape = tuple(len(wanted) if a == axis else n for a, n in enumerate(value.shape))
    return Value(shape, value.layout, name)


@_lowering("reduce_sum", "reduce_max", "reduce_min")
def _reduce(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    kind = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
    axes = equation.params["axes"]
    if not axes:
        return operands[0]
    name, value = _whole_at(graph, operands[0], equation.invars[0].aval.shape, axes)
    stored = graph.array(sorted(value.layout.index(axis) for axis in axes), np.int64)
    name = graph.add(kind[equation.primitive.name], name, stored, keepdims=0)
    left = [axis for axis in range(len(value.shape)) if axis not in axes]
    layout = tuple(left.index(axis) for axis in value.layout if axis in left)
    return Value(tuple(value.shape[axis] for axis in left), layout, name)


@_lowering("reduce_window_max")
def _max_pool(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    p = equation.params
    window, strides, padding = p["window_dimensions"], p["window_strides"], p["padding"]
    still = [
        a for a in range(len(window)) if window[a] == 1 and strides[a] == 1 and tuple(padding[a]) == (0, 0)
    ]
    moved = [a for a in range(len(window)) if a not in still]
    if len(still) != 2 or any(d != 1 for d in p["base_dilation"]):
        raise _unable(equation, "over other than the rows and columns of pictures")
    if any(n < 0 for side in padding for n in side):
        raise _unable(equation, "that cuts its picture")
    layout = (*still, *moved)
    name = graph.add(
        "MaxPool",
        graph.stored(operands[0], layout, equation.invars[0].aval.shape),
        kernel_shape=[window[a] for a in moved],
        strides=[strides[a] for a in moved],
        dilations=[p["window_dilation"][a] for a in moved],
        pads=[padding[a][end] for end in (0, 1) for a in moved],
    )
    return Value(tuple(equation.outvars[0].aval.shape), layout, name)


@_lowering("conv_general_dilated")
def _conv(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    p = equation.params
    _check_accumulated(equation)
    if any(d != 1 for d in p["lhs_dilation"]) or p["batch_group_count"] != 1:
        raise _unable(equation, "that is transposed, or grouped over the batch")
    if any(n < 0 for side in p["padding"] for n in side):
        raise _unable(equation, "that cuts its picture")
    numbers = p["dimension_numbers"]
    picture, kernel = (
        graph.stored(value, spec, variable.aval.shape)
        for value, spec, variable in zip(
            operands, (numbers.lhs_spec, numbers.rhs_spec), equation.invars, strict=True
        )
    )
    name = graph.add(
        "Conv",
        picture,
        kernel,
        strides=list(p["window_strides"]),
        dilations=list(p["rhs_dilation"]),
        pads=[side[end] for end in (0, 1) for side in p["padding"]],
        group=p["feature_group_count"],
    )
    return Value(tuple(equation.outvars[0].aval.shape), tuple(numbers.out_spec), name)


@_lowering("dot_general")
def _dot_general(graph: Graph, equation: Any, operands: list[Value]) -> Value:
    """As a matrix product over leading axes: (batch …, free, summed) · (batch …, summed, free)."""
    _check_accumulated(equation)
    (summed, batch) = equation.params["dimension_numbers"]
    shapes = [tuple(variable.aval.shape) for variable in equation.invars]
    free = [
        [a for a in range(len(shape)) if a not in summed[side] and a not in batch[side]]
        for side, shape in enumerate(shapes)
    ]
    result = tuple(equation.outvars[0].aval.shape)
    first, second = 0, 1
    if not batch[0] and len(free[0]) <= 1 < len(free[1]):
        first, second = 1, 0  # so that the many axes lead, and need not be made one
    B = len(batch[0])
    leading = not B and len(free[second]) <= 1 and len(summed[0]) == 1
    left = _matrix(graph, operands[first], shapes[first], batch[first], free[first], summed[first], leading)
    right = _matrix(
        graph, operands[second], shapes[second], batch[second], summed[second], free[second], False
    )
    name = graph.add("MatMul", left, right)
    # Axes of the result as JAX counts them: the batch's, the first operand's, the second's.
    starts = (B, B + len(free[0]))
    order = [*range(B)]
    order += [starts[first] + i for i in range(len(free[first]))]
    order += [starts[second] + i for i in range(len(free[second]))]
    flat = not (leading or len(free[first]) == 1) or len(free[second]) != 1
    if flat:
        name = _reshaped(graph, name, [result[a] for a in order]).name
    return Value(result, tuple(order), name)


def _matrix(
    graph: Graph,
    value: Value,
    shape: tuple[Any, ...],
    batch: Sequence[int],
    rows: Sequence[int],
    columns: Sequence[int],
    leading: bool,
) -> str:
    """(batch …, rows, columns), each of the last two made one axis; or (rows …, columns) where they lead."""
    layout = (*batch, *rows, *columns)
    name = graph.stored(value, layout, shape)
    if (leading or len(rows) == 1) and len(columns) == 1:
        return name
    lengths = [shape[a] for a in (batch if not leading else (*batch, *rows))]
    lengths += [] if leading else [_product(shape[a] for a in rows)]
    made = _reshaped(graph, name, [*lengths, _product(shape[a] for a in columns)]).name
    assert made is not None
    return made


def _product(lengths: Any) -> Any:
    """Open (None) where one of them is."""
    lengths = list(lengths)
    return math.prod(lengths) if all(isinstance(n, int) for n in lengths) else None


def _whole_at(graph: Graph, value: Value, shape: Sequence[Any], axes: Sequence[int]) -> tuple[str, Value]:
    """A tensor whose axes of this list are as long as JAX has them, and its value; the others may wait."""
    wanted = tuple(shape[a] if a in axes else n for a, n in enumerate(value.shape))
    name = graph.stored(value, value.layout, wanted)
    return name, Value(wanted, value.layout, name)


def _check_accumulated(equation: Any) -> None:
    """Refuse what is summed in another type than it is given in: ONNX has no word for it."""
    types = {variable.aval.dtype for variable in (*equation.invars, *equation.outvars)}
    if len(types) > 1:
        raise _unable(equation, f"of {' and '.join(sorted(map(str, types)))}")


def _unable(equation: Any, what: str) -> ArgumentError:
    return ArgumentError(f"{equation.primitive.name} {what} has no form in ONNX here: export StableHLO")
