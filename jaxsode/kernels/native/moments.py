"""Moments of many locations with one more batch each, every number of the state read and written once.

With the batch's deviations dₙ from its own mean up to rounding (the offset o), δ between the means and n of N
pictures new, the scatter grows by Σ dₙdₙᵀ − n·ooᵀ + (N − n)·n/N·δδᵀ (Chan, Golub and LeVeque 1983).
"""

from collections.abc import Callable

from llvmlite import ir

from jaxsode.kernels.native.calls import TASK, numbers_of, operands_of
from jaxsode.kernels.native.emitter import FLOAT, INT32, NULL, Emitter, Value, whole
from jaxsode.kernels.native.target import Target

NUMBERS = ("tasks", "workers", "k", "padded", "rows", "locations", "count", "working")
"""What a call's numbers are, in order: `padded` is k up to whole panels; a batch has `rows` vectors;
`locations` of `count` are a task's; `working` floats that a worker has."""


def working(k: int, rows: int, target: Target) -> int:
    """Floats that a worker needs: for the vectors twice, two more of them, and one panel of the scatter."""
    return (2 * (rows + 2) + 2) * target.padded(k) + k * target.panel


def emit_moments(module: ir.Module, target: Target, product: Value) -> Value:
    """Emits a task: some locations.

    Operands: numbers, z, where (rows, floats 0 and 1), count, origin, offset, scatter; origin, offset,
    scatter, working memory. The scatter given is the one returned.

    Args:
        module, target, product: see `emit_direct`.
    """
    e = Emitter(module, "moments_task", TASK, lanes=target.lanes)
    b = e.build
    _, task, worker = e.arguments
    numbers, z, where, counts, origins, offsets, _, new_origins, new_offsets, scatters, working = operands_of(
        e, 11
    )
    n = numbers_of(e, numbers, NUMBERS)
    k, padded, rows, width = n["k"], n["padded"], n["rows"], target.panel
    every = e.plus(rows, 2)
    size = e.times(every, padded)
    signed = e.at(working, e.times(worker, n["working"]))  # (rows + 2, padded), what a product takes as a
    panels = e.at(signed, size)  # (padded / width, rows + 2, width), and as its panels
    origin, offset, block = (e.at(panels, size, e.times(padded, i)) for i in range(3))

    new = e.local(ir.Constant(FLOAT, 0.0))
    with e.loop(rows) as row:
        b.store(b.fadd(e.get(new), e.load(e.at(where, row), FLOAT)), new)
    new = e.get(new)
    one, zero = ir.Constant(FLOAT, 1.0), ir.Constant(FLOAT, 0.0)
    any_new = b.fcmp_ordered(">", new, zero)
    divisor = e.splat(b.select(any_new, new, one))
    root = e.declared("llvm.sqrt.f32", FLOAT, [FLOAT])

    start = e.times(task, n["locations"])
    with e.loop(e.least(n["locations"], e.minus(n["count"], start))) as which:
        location = e.plus(start, which)
        place = e.times(location, k)
        source = e.at(z, e.times(place, rows))
        extra = e.minus(padded, k)
        for to, given in ((origin, origins), (offset, offsets)):
            e.fill(to, e.at(given, place), k)
            e.fill(e.at(to, k), None, extra)
        with e.loop(rows) as row:
            to = e.at(signed, e.times(row, padded))
            e.fill(to, e.at(source, e.times(row, k)), k)
            e.fill(e.at(to, k), None, extra)
        before = b.sitofp(e.load(e.at(counts, location, of=INT32), INT32), FLOAT)
        some = b.fcmp_ordered(">", before, zero)
        total = b.fadd(before, new)
        share = b.fdiv(new, b.select(b.fcmp_ordered(">", total, zero), total, one))
        of_offset = e.splat(b.call(root, [new]))
        of_delta = e.splat(b.call(root, [b.fmul(before, share)]))
        share = e.splat(share)
        with e.loop(padded, step=e.lanes) as column:
            panel = e.at(
                panels, e.times(b.sdiv(column, whole(width)), every, width), b.srem(column, whole(width))
            )

            def mean_of(value_of: Callable[[Value], Value]) -> Value:
                """Over the vectors that count; of the others nothing is used, be it NaN."""
                total = e.local(e.splat(0.0))
                with e.loop(rows) as row:
                    counts_here = b.fcmp_ordered(">", e.load(e.at(where, row), FLOAT), zero)
                    value = b.select(counts_here, value_of(row), e.splat(0.0))
                    e.store(value, e.at(signed, e.times(row, padded), column))
                    b.store(b.fadd(e.get(total), value), total)
                return b.fdiv(e.get(total), divisor)

            mean = mean_of(lambda row: e.load(e.at(signed, e.times(row, padded), column)))
            left = mean_of(lambda row: b.fsub(e.load(e.at(signed, e.times(row, padded), column)), mean))
            with e.loop(rows) as row:
                deviation = e.load(e.at(signed, e.times(row, padded), column))
                e.store(deviation, e.at(panel, e.times(row, width)))
            old_origin, old_offset = e.load(e.at(origin, column)), e.load(e.at(offset, column))
            delta = b.fadd(b.fsub(mean, old_origin), b.fsub(left, old_offset))
            for row, value, sign in (
                (rows, b.fmul(of_offset, left), True),
                (e.plus(rows, 1), b.fmul(of_delta, delta), False),
            ):
                e.store(value, e.at(panel, e.times(row, width)))
                e.store(b.fneg(value) if sign else value, e.at(signed, e.times(row, padded), column))
            e.store(b.select(some, old_origin, mean), e.at(origin, column))
            e.store(b.select(some, e.fma(delta, share, old_offset), left), e.at(offset, column))
        e.fill(e.at(new_origins, place), origin, k)
        e.fill(e.at(new_offsets, place), offset, k)

        scatter = e.at(scatters, e.times(place, k))
        with e.loop(e.over(k, width)) as p:
            column = e.times(p, width)
            columns = e.least(whole(width), e.minus(k, column))
            panel = e.at(panels, e.times(p, every, width))
            whole_panel = b.icmp_signed("==", columns, whole(width))
            out = b.select(whole_panel, e.at(scatter, column), block)
            step = b.select(whole_panel, k, whole(width))
            with b.if_then(b.not_(whole_panel)), e.loop(k) as i:
                e.fill(e.at(block, e.times(i, width)), e.at(scatter, e.times(i, k), column), columns)
            chunk = e.over(k, e.over(k, target.pixels))
            with e.loop(e.over(k, chunk)) as c:
                first = e.times(c, chunk)
                at = e.at(out, e.times(first, step))
                b.call(product, [
                    e.least(chunk, e.minus(k, first)), e.at(signed, first), whole(1), padded, panel,
                    whole(width), at, step, whole(1), whole(0), every, NULL, at, whole(0),
                ])  # fmt: skip
            with b.if_then(b.not_(whole_panel)), e.loop(k) as i:
                e.fill(e.at(scatter, e.times(i, k), column), e.at(block, e.times(i, width)), columns)
    e.done()
    return e.function
