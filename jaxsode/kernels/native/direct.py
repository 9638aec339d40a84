"""Convolution of any window and stride as sums of products, over copied rows with the zeros around."""

from collections.abc import Callable

from llvmlite import ir

from jaxsode.kernels.native.calls import TASK, numbers_of, operands_of
from jaxsode.kernels.native.emitter import NULL, Emitter, Value, whole
from jaxsode.kernels.native.target import Target

NUMBERS = (
    "tasks", "workers", "rows", "height", "width", "out_height", "out_width", "channels", "out_channels",
    "window_rows", "window_columns", "stride", "top", "left", "padded", "relu", "copied", "working",
)  # fmt: skip
"""What a call's numbers are, in order: `rows` of its result in a task; `top` and `left` rows and columns of
zeros; `padded` columns of a row with its zeros; of the `working` floats that a worker has, `copied` are for
rows of the input."""


def emit_direct(module: ir.Module, target: Target, product: Value, *, shortcut: bool) -> Value:
    """Emits a task: some rows of a picture's output.

    Operands: numbers, x, panels, bias, the shortcut if there is one; y, working memory.

    Args:
        module, target: that it is for.
        product: see `emit_products`.
        shortcut: whether something of the output's shape is added before the ReLU.
    """
    e = Emitter(module, f"direct{'_shortcut' * shortcut}_task", TASK, lanes=target.lanes)
    _, task, worker = e.arguments
    numbers, x, panels, bias, *others, y, working = operands_of(e, 6 + shortcut)
    n = numbers_of(e, numbers, NUMBERS)
    working = e.at(working, e.times(worker, n["working"]))
    picture, block = e.parts(task, e.over(n["out_height"], n["rows"]))
    first = e.times(block, n["rows"])
    rows = e.least(n["rows"], e.minus(n["out_height"], first))
    row = e.times(n["out_width"], n["out_channels"])

    def to(r: Value) -> tuple[Value, Value]:
        place = e.times(e.plus(e.times(picture, n["out_height"]), first, r), row)
        return e.at(y, place), e.at(others[0], place) if shortcut else NULL

    emit_rows(e, target, product, n, x, panels, bias, working, picture, first, rows, to)
    e.done()
    return e.function


def emit_pooled(module: ir.Module, target: Target, product: Value) -> Value:
    """Emits a task: some rows of the largest of 3 × 3 outputs at stride 2, one row and column of −∞ around.

    Operands: numbers, x, panels, bias; y, working memory.

    Args:
        module, target, product: see `emit_direct`.
    """
    e = Emitter(module, "pooled_task", TASK, lanes=target.lanes)
    _, task, worker = e.arguments
    numbers, x, panels, bias, y, working = operands_of(e, 6)
    n = numbers_of(e, numbers, NUMBERS)
    working = e.at(working, e.times(worker, n["working"]))
    outputs = e.at(working, n["copied"])
    height, width = e.over(n["out_height"], 2), e.over(n["out_width"], 2)
    picture, block = e.parts(task, e.over(height, n["rows"]))
    first = e.times(block, n["rows"])
    rows = e.least(n["rows"], e.minus(height, first))
    before = e.most(e.plus(e.times(first, 2), -1), whole(0))
    after = e.least(e.times(e.plus(first, rows), 2), n["out_height"])
    row = e.times(n["out_width"], n["out_channels"])

    def to(r: Value) -> tuple[Value, Value]:
        return e.at(outputs, e.times(r, row)), NULL

    emit_rows(e, target, product, n, x, panels, bias, working, picture, before, e.minus(after, before), to)
    y = e.at(y, e.times(e.plus(e.times(picture, height), first), width, n["out_channels"]))
    with e.loop(rows) as r, e.loop(width) as column:
        # An index beyond an edge is moved back to it: what is taken twice changes no maximum.
        places = []
        for i in (-1, 0, 1):
            source = e.plus(e.times(e.plus(first, r), 2), i)
            source = e.minus(e.least(e.most(source, before), e.plus(after, -1)), before)
            for j in (-1, 0, 1):
                pixel = e.least(e.most(e.plus(e.times(column, 2), j), whole(0)), e.plus(n["out_width"], -1))
                places.append(e.at(outputs, e.times(source, row), e.times(pixel, n["out_channels"])))
        made = e.at(y, e.times(e.plus(e.times(r, width), column), n["out_channels"]))
        with e.loop(n["out_channels"], step=e.lanes) as channel:
            largest = e.load(e.at(places[0], channel))
            for place in places[1:]:
                largest = e.larger(largest, e.load(e.at(place, channel)))
            e.store(largest, e.at(made, channel))
    e.done()
    return e.function


def emit_rows(
    e: Emitter,
    target: Target,
    product: Value,
    n: dict[str, Value],
    x: Value,
    panels: Value,
    bias: Value,
    working: Value,
    picture: Value,
    first: Value,
    rows: Value,
    to: Callable[[Value], tuple[Value, Value]],
) -> None:
    """Emits some rows of a picture's outputs.

    Args:
        e: of the task.
        target, product: see `emit_direct`.
        n: the call's numbers.
        x, panels, bias, working: operands; `working` is this worker's.
        picture, first, rows: of which picture, from which row of its outputs, how many.
        to: where the r-th of them goes, and what is added to it or null.
    """
    width, left = e.times(n["width"], n["channels"]), e.times(n["left"], n["channels"])
    row = e.times(n["padded"], n["channels"])
    x = e.at(x, e.times(picture, n["height"], width))
    top = e.minus(e.times(first, n["stride"]), n["top"])
    with e.loop(e.plus(e.times(e.plus(rows, -1), n["stride"]), n["window_rows"])) as r:
        copied, source = e.at(working, e.times(r, row)), e.plus(top, r)
        inside = e.build.and_(e.build.not_(e.below(source, 0)), e.below(source, n["height"]))
        with e.build.if_else(inside) as (then, otherwise):
            with then:
                e.fill(copied, None, left)
                e.fill(e.at(copied, left), e.at(x, e.times(source, width)), width)
                e.fill(e.at(copied, left, width), None, e.minus(row, width, left))
            with otherwise:
                e.fill(copied, None, row)

    inner = e.times(n["window_columns"], n["channels"])
    step = e.times(n["stride"], n["channels"])
    size = e.times(n["window_rows"], inner, target.panel)
    tiles = e.over(n["out_width"], target.pixels)
    pixels = e.over(n["out_width"], tiles)
    every_panel = e.build.sdiv(n["out_channels"], whole(target.panel))
    with e.loop(every_panel) as panel, e.loop(rows) as r, e.loop(tiles) as tile:
        # The last one is moved back where they don't divide: what overlaps is computed twice.
        pixel = e.least(e.times(tile, pixels), e.minus(n["out_width"], pixels))
        channel = e.times(panel, target.panel)
        place = e.plus(e.times(pixel, n["out_channels"]), channel)
        made, other = to(r)
        other = NULL if other is NULL else e.at(other, place)
        source = e.at(working, e.times(r, n["stride"], row), e.times(pixel, step))
        e.build.call(product, [
            pixels, source, step, whole(1), e.at(panels, e.times(panel, size)), whole(target.panel),
            e.at(made, place), n["out_channels"], n["window_rows"], row, inner, e.at(bias, channel), other,
            n["relu"],
        ])  # fmt: skip
