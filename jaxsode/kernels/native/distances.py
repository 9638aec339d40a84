"""‖M(z − μ)‖² at many locations, of M, which is triangular, only what isn't zero read, and that once.

A single picture's distances take as long as the matrices take to come from memory.
"""

from llvmlite import ir

from jaxsode.kernels.native.calls import TASK, numbers_of, operands_of
from jaxsode.kernels.native.emitter import FLOAT, INT32, NULL, Emitter, Value, whole
from jaxsode.kernels.native.target import Target

NUMBERS = ("tasks", "workers", "k", "pictures", "locations", "count", "working")
"""What a call's numbers are, in order: `locations` of `count` are a task's; `working` floats that a worker
has."""


def working(k: int, pictures: int, target: Target) -> int:
    """Floats that a worker needs: for z − μ, a panel of what it becomes, and sums."""
    return pictures * (k + target.lanes) + target.pixels * target.panel


def emit_distances(module: ir.Module, target: Target, product: Value) -> Value:
    """Emits a task: some locations. Operands: numbers, z, μ, Mᵀ; squared distances, working memory.

    Args:
        module, target, product: see `emit_direct`.
    """
    e = Emitter(module, "distances_task", TASK, lanes=target.lanes)
    b = e.build
    _, task, worker = e.arguments
    numbers, z, means, matrices, squared, working = operands_of(e, 6)
    n = numbers_of(e, numbers, NUMBERS)
    k, pictures, width = n["k"], n["pictures"], target.panel
    centred = e.at(working, e.times(worker, n["working"]))
    sums = e.at(centred, e.times(pictures, k))
    white = e.at(sums, e.times(pictures, target.lanes))
    size = e.times(k, k)
    panels = e.over(k, width)
    # The first panel has what is left over. A whole one is read; columns that are the next one's count as 0.
    left_over = e.minus(k, e.times(e.plus(panels, -1), width))
    chunk = e.over(pictures, e.over(pictures, target.pixels))
    lanes = ir.VectorType(INT32, target.lanes)
    total = e.declared(f"llvm.vector.reduce.fadd.v{target.lanes}f32", FLOAT, [FLOAT, e.vector])

    first = e.times(task, n["locations"])
    with e.loop(e.least(n["locations"], e.minus(n["count"], first))) as which:
        location = e.plus(first, which)
        matrix, mean = e.at(matrices, e.times(location, size)), e.at(means, e.times(location, k))
        with e.loop(pictures) as p:
            source = e.at(z, e.times(e.plus(e.times(p, n["count"]), location), k))
            to = e.at(centred, e.times(p, k))
            with e.loop(k, step=e.lanes) as column:
                # The last one is moved back where they don't divide: what overlaps is computed twice.
                column = e.least(column, e.plus(k, -e.lanes))
                e.store(b.fsub(e.load(e.at(source, column)), e.load(e.at(mean, column))), e.at(to, column))
            e.store(e.splat(0.0), e.at(sums, e.times(p, target.lanes)))
        with e.loop(panels) as panel:
            end = e.plus(left_over, e.times(panel, width))
            start = e.most(e.minus(end, whole(width)), whole(0))
            columns = b.trunc(e.minus(end, start), INT32)
            with e.loop(e.over(pictures, chunk)) as c:
                begin = e.times(c, chunk)
                some = e.least(chunk, e.minus(pictures, begin))
                b.call(product, [
                    some, e.at(centred, e.times(begin, k)), k, whole(1), e.at(matrix, start), k, white,
                    whole(width), whole(1), whole(0), end, NULL, NULL, whole(0),
                ])  # fmt: skip
                with e.loop(some) as p:
                    place = e.at(sums, e.times(e.plus(begin, p), target.lanes))
                    summed = e.load(place)
                    for v in range(target.vectors):
                        value = e.load(e.at(white, e.times(p, width), target.lanes * v))
                        ordinals = ir.Constant(lanes, list(range(target.lanes * v, target.lanes * (v + 1))))
                        counts = b.icmp_signed("<", ordinals, e.splat(columns, of=INT32))
                        value = b.select(counts, value, e.splat(0.0))
                        summed = e.fma(value, value, summed)
                    e.store(summed, place)
        with e.loop(pictures) as p:
            by_lane = e.load(e.at(sums, e.times(p, target.lanes)))
            one = b.call(total, [ir.Constant(FLOAT, -0.0), by_lane], fastmath=("reassoc",))
            b.store(one, e.at(squared, e.plus(e.times(p, n["count"]), location)), align=4)
    e.done()
    return e.function
