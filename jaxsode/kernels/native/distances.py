"""‖M(z − μ)‖² at many locations, M triangular and in panels, every number read once.

A few pictures' distances take as long as the matrices take to come from memory. So that nothing waits for
them, the next location's are asked for while this one's are multiplied.
"""

from typing import Any

from llvmlite import ir

from jaxsode.kernels.native.calls import TASK, numbers_of, operands_of
from jaxsode.kernels.native.emitter import (
    BIT,
    FLOAT,
    INT32,
    INT64,
    NOTHING,
    POINTER,
    Emitter,
    Value,
    whole,
)
from jaxsode.kernels.native.product import emit_step
from jaxsode.kernels.native.target import Target

NUMBERS = ("tasks", "workers", "k", "pictures", "locations", "count", "panels", "width", "working")
"""What a call's numbers are, in order: `locations` of `count` are a task's; each of the `panels` has `width`
columns; `working` floats that a worker has."""
_LINE = 16  # numbers that memory gives at once


def working(k: int, pictures: int, target: Target) -> int:
    """Floats that a worker needs: for z − μ, and sums."""
    return pictures * (k + target.lanes)


def emit_distances(module: ir.Module, target: Target, _: Value) -> Value:
    """Emits a task: some locations.

    Operands: numbers, z, μ, each panel of Mᵀ; squared distances, working memory.

    Args:
        module, target: see `emit_direct`.
    """
    lengths = _emit_lengths(module, target)
    e = Emitter(module, "distances_task", TASK, lanes=target.lanes)
    b = e.build
    _, task, worker = e.arguments
    numbers, z, means = operands_of(e, 3)
    n = numbers_of(e, numbers, NUMBERS)
    k, pictures, width = n["k"], n["pictures"], n["width"]
    panels = e.at(e.arguments[0], 3, of=POINTER)
    squared, working = (e.load(e.at(panels, n["panels"], i, of=POINTER), POINTER) for i in (0, 1))
    centred = e.at(working, e.times(worker, n["working"]))
    sums = e.at(centred, e.times(pictures, k))
    chunk = e.over(pictures, e.over(pictures, target.pixels))
    wide = b.and_(
        e.below(chunk, _wide(target) + 1),
        b.icmp_signed("==", b.srem(width, whole(2 * target.panel)), whole(0)),
    )
    columns = b.select(wide, whole(2 * target.panel), whole(target.panel))
    total = e.declared(f"llvm.vector.reduce.fadd.v{target.lanes}f32", FLOAT, [FLOAT, e.vector])

    first = e.times(task, n["locations"])
    with e.loop(e.least(n["locations"], e.minus(n["count"], first))) as which:
        location = e.plus(first, which)
        mean = e.at(means, e.times(location, k))
        with e.loop(pictures) as p:
            source = e.at(z, e.times(e.plus(e.times(p, n["count"]), location), k))
            to = e.at(centred, e.times(p, k))
            with e.loop(k, step=e.lanes) as column:
                # The last one is moved back where they don't divide: what overlaps is computed twice.
                column = e.least(column, e.plus(k, -e.lanes))
                e.store(b.fsub(e.load(e.at(source, column)), e.load(e.at(mean, column))), e.at(to, column))
            e.store(e.splat(0.0), e.at(sums, e.times(p, target.lanes)))
        with e.loop(n["panels"]) as panel, e.loop(b.sdiv(width, columns)) as part:
            column = e.times(part, columns)
            rows = e.minus(k, e.times(e.minus(n["panels"], panel, whole(1)), width))
            size = e.times(rows, width)
            matrix = e.load(e.at(panels, panel, of=POINTER), POINTER)
            matrix = e.at(matrix, e.times(location, size), column)
            # Below these columns' own diagonal all is zero, and so are columns that end above the first row.
            rows = e.least(rows, e.most(e.plus(e.minus(rows, width), column, columns), whole(0)))
            with e.loop(e.over(pictures, chunk)) as c:
                begin = e.times(c, chunk)
                b.call(lengths, [
                    wide, e.least(chunk, e.minus(pictures, begin)), e.at(centred, e.times(begin, k)), k,
                    matrix, width, rows, size, e.at(sums, e.times(begin, target.lanes)),
                ])  # fmt: skip
        with e.loop(pictures) as p:
            by_lane = e.load(e.at(sums, e.times(p, target.lanes)))
            one = b.call(total, [ir.Constant(FLOAT, -0.0), by_lane], fastmath=("reassoc",))
            b.store(one, e.at(squared, e.plus(e.times(p, n["count"]), location)), align=4)
    e.done()
    return e.function


def _wide(target: Target) -> int:
    """Pictures, at most, of which there are registers for twice the columns: a sum takes a while to be added
    to, and others are added to meanwhile."""
    return target.pixels // 3


def _emit_lengths(module: ir.Module, target: Target) -> Value:
    """Emits lengths(wide, pictures, y, k, matrix, width, rows, ahead, sums): to the vector sums[p · lanes] of
    each picture p it adds the squares of Σ y[p · k + r] · matrix[r · width + column] over r < rows, for
    columns of a panel or twice as many; what is `ahead` of the matrix is asked for."""
    kinds = [POINTER, INT64, POINTER, INT64, INT64, INT64, POINTER]
    e = Emitter(module, "lengths", [BIT, INT64, *kinds])
    wide, pictures, *rest = e.arguments
    none = e.function.append_basic_block("none")
    choice = e.build.switch(e.build.add(e.times(pictures, 2), e.build.zext(wide, INT64)), none)
    for count in range(1, target.pixels + 1):
        for twice in range(1 + (count <= _wide(target))):
            function = _emit_length(module, target, count, target.vectors * (1 + twice), kinds)
            block = e.function.append_basic_block(function.name)
            choice.add_case(whole(2 * count + twice), block)
            e.build.position_at_end(block)
            e.build.call(function, rest)
            e.done()
    e.build.position_at_end(none)
    e.done()
    return e.function


def _emit_length(module: ir.Module, target: Target, pictures: int, vectors: int, kinds: list[Any]) -> Value:
    e = Emitter(module, f"length{pictures}of{vectors}", kinds, lanes=target.lanes)
    b = e.build
    y, k, matrix, width, rows, ahead, sums = e.arguments
    prefetch = e.declared("llvm.prefetch.p0", NOTHING, [POINTER, INT32, INT32, INT32])
    to_read, into_second_cache, data = (ir.Constant(INT32, number) for number in (0, 2, 1))
    white = [[e.local(e.splat(0.0)) for _ in range(vectors)] for _ in range(pictures)]
    place = e.local(matrix)
    # Addresses of three come from one pointer, see `emit_products`.
    firsts = [e.local(e.at(y, e.times(k, p))) for p in range(0, pictures, 3)]
    offsets = ((), (k,), (e.times(k, 2),))
    with e.loop(rows):
        row = e.get(place)
        loaded = [e.load(e.at(row, e.lanes * v)) for v in range(vectors)]
        for line in range(0, e.lanes * vectors, _LINE):
            b.call(prefetch, [e.at(row, ahead, line), to_read, into_second_cache, data])
        b.store(e.at(row, width), place)
        emit_step(e, firsts, offsets, 1, loaded, white)
    for p, ofs in enumerate(white):
        to = e.at(sums, e.lanes * p)
        summed = e.load(to)
        for one in ofs:
            summed = e.fma(e.get(one), e.get(one), summed)
        e.store(summed, to)
    e.done()
    return e.function
