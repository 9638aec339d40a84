"""A = LLᵀ → L⁻¹, a matrix at a time on each thread: ⅔·k³ operations, in the order that needs no more.

In blocks of rows, as wide as a panel of columns. With all earlier ones known, a block row of the Schur
complement is A less a sum of products; its diagonal block D is eliminated column by column, which gives
M_D = L_D⁻¹; and the block rows of Lᵀ and of L⁻¹ are M_D times what was summed.
"""

from typing import Any

from llvmlite import ir

from jaxsode.kernels.native.calls import TASK, numbers_of, operands_of
from jaxsode.kernels.native.emitter import DOUBLE, FLOAT, INT32, INT64, NULL, POINTER, Emitter, Value, whole
from jaxsode.kernels.native.target import Target

NUMBERS = ("tasks", "workers", "k", "padded", "matrices", "count", "working")
"""What a call's numbers are, in order: `padded` is k up to whole panels; `matrices` of `count` are a task's;
`working` floats that a worker has."""


def working(k: int, target: Target) -> int:
    """Floats that a worker needs: for A, Lᵀ, L⁻¹ and −Lᵀ, for two blocks and one of float64."""
    return 4 * k * target.padded(k) + 4 * target.panel**2


def emit_inverse_cholesky(module: ir.Module, target: Target, product: Value) -> Value:
    """Emits a task: some matrices. Operands: numbers, A; L⁻¹, working memory.

    Args:
        module, target, product: see `emit_direct`.
    """
    eliminate = _emit_eliminate(module, target)
    e = Emitter(module, "inverse_cholesky_task", TASK, lanes=target.lanes)
    _, task, worker = e.arguments
    numbers, A, M, working = operands_of(e, 4)
    n = numbers_of(e, numbers, NUMBERS)
    k, width = n["k"], target.panel
    size = e.times(k, n["padded"])
    # Panels of columns, each (k, width): A and what is left of it, Lᵀ, L⁻¹ and −Lᵀ.
    rest = e.at(working, e.times(worker, n["working"]))
    upper, inverse, lower = (e.at(rest, e.times(size, i)) for i in (1, 2, 3))
    diagonal = e.at(rest, e.times(size, 4))
    block = e.at(diagonal, width * width)
    in_full = e.at(block, width * width)
    panels = e.over(k, width)
    panel_size = e.times(k, width)
    squared = e.times(k, k)

    def each_panel(matrix: Value, panel: Value) -> Value:
        return e.at(matrix, e.times(panel, panel_size))

    def products(
        rows: Value, a: Value, steps: tuple[int, int], inner: Value, b: Value, out: Value, other: Value
    ) -> None:
        """`out` (rows, width) = `other`, or nothing, + a (rows, inner) · b (inner, width).

        From a row of a to the next, and from a column to the next, it is as far as the steps.
        """
        a_row, a_column = map(whole, steps)
        chunk = e.over(rows, e.over(rows, target.pixels))
        with e.loop(e.over(rows, chunk)) as i:
            first = e.times(i, chunk)
            place = e.times(first, width)
            added = NULL if other is NULL else e.at(other, place)
            e.build.call(product, [
                e.least(chunk, e.minus(rows, first)), e.at(a, e.times(first, a_row)), a_row, a_column, b,
                whole(width), e.at(out, place), whole(width), whole(1), whole(0), inner,
                NULL, added, whole(0),
            ])  # fmt: skip

    by_rows, by_columns = (width, 1), (1, width)
    start = e.times(task, n["matrices"])
    with e.loop(e.least(n["matrices"], e.minus(n["count"], start))) as one:
        source = e.at(A, e.times(e.plus(start, one), squared))
        result = e.at(M, e.times(e.plus(start, one), squared))
        with e.loop(panels) as c:
            column = e.times(c, width)
            columns = e.least(whole(width), e.minus(k, column))
            # Row i of A is of use from its own block's columns on.
            with e.loop(e.least(k, e.plus(column, width))) as i:
                to = e.at(each_panel(rest, c), e.times(i, width))
                e.fill(to, e.at(source, e.times(i, k), column), columns)
                e.fill(e.at(to, columns), None, e.minus(whole(width), columns))
        with e.loop(panels) as b:
            first = e.times(b, width)
            rows = e.least(whole(width), e.minus(k, first))
            here, below = e.times(first, width), each_panel(lower, b)
            with e.loop(panels, start=b) as c:
                left = e.at(each_panel(rest, c), here)
                products(rows, below, by_columns, first, each_panel(upper, c), left, left)
            e.build.call(eliminate, [rows, e.at(each_panel(rest, b), here), in_full, diagonal])
            with e.loop(panels, start=e.plus(b, 1)) as c:
                made = e.at(each_panel(upper, c), here)
                products(rows, diagonal, by_rows, rows, e.at(each_panel(rest, c), here), made, NULL)
                with e.loop(e.times(rows, width), step=e.lanes) as i:
                    negative = e.build.fneg(e.load(e.at(made, i)))
                    e.store(negative, e.at(each_panel(lower, c), here, i))
            with e.loop(b) as c:
                column = e.times(c, width)
                known = e.at(each_panel(inverse, c), e.times(column, width))
                inner = e.minus(first, column)
                below_it = e.at(below, e.times(column, width))
                products(rows, below_it, by_columns, inner, known, block, NULL)
                products(rows, diagonal, by_rows, rows, block, e.at(each_panel(inverse, c), here), NULL)
            e.fill(e.at(each_panel(inverse, b), here), diagonal, e.times(rows, width))
        with e.loop(k) as i:
            to = e.at(result, e.times(i, k))
            known = e.least(k, e.times(e.plus(e.build.sdiv(i, whole(width)), 1), width))
            with e.loop(e.over(known, width)) as c:
                column = e.times(c, width)
                columns = e.least(whole(width), e.minus(k, column))
                e.fill(e.at(to, column), e.at(each_panel(inverse, c), e.times(i, width)), columns)
            e.fill(e.at(to, known), None, e.minus(k, known))
    e.done()
    return e.function


def _emit_eliminate(module: ir.Module, target: Target) -> Value:
    """eliminate(rows, D, X, M): of (rows, width) D = LLᵀ, L⁻¹ with zeros above the diagonal, NaN from the
    first pivot on that is not positive. X is for (rows, width) numbers of float64.

    Gaussian elimination of D | I in place, pivot rows divided by the root of their pivot: column j of the
    right half comes to be when column j of the left half has become zero, so one array holds both. In
    float64, for here is where digits are lost: the whole then keeps as many as LAPACK's, or more.
    """
    lanes = target.lanes // 2
    e = Emitter(module, "eliminate", [INT64, POINTER, POINTER, POINTER], lanes=lanes, number=DOUBLE)
    b = e.build
    rows, D, X, M = e.arguments
    vectors = range(2 * target.vectors)
    floats = ir.VectorType(FLOAT, lanes)
    ordinals = ir.VectorType(INT32, lanes)
    columns = [ir.Constant(ordinals, list(range(lanes * v, lanes * (v + 1)))) for v in vectors]

    def compared(how: str, j: Value) -> list[Value]:
        """Of each lane, whether its column is so to j."""
        same = e.splat(b.trunc(j, INT32), of=INT32)
        return [b.icmp_signed(how, column, same) for column in columns]

    def row_of(i: Value, *, of: Value = X, kind: Any = DOUBLE) -> list[Value]:
        return [e.at(of, e.times(i, target.panel), lanes * v, of=kind) for v in vectors]

    with e.loop(rows) as i:
        for to, source in zip(row_of(i), row_of(i, of=D, kind=FLOAT), strict=True):
            e.store(b.fpext(e.load(source, floats), e.vector), to)
    root = e.declared("llvm.sqrt.f64", DOUBLE, [DOUBLE])
    with e.loop(rows) as j:
        at = compared("==", j)
        pivot = e.load(e.at(X, e.times(j, target.panel), j), DOUBLE)
        positive = b.fcmp_ordered(">", pivot, ir.Constant(DOUBLE, 0.0))
        scale = b.fdiv(ir.Constant(DOUBLE, 1.0), b.call(root, [pivot]))
        scale = b.select(positive, scale, ir.Constant(DOUBLE, float("nan")))
        scales = e.splat(scale)
        pivots = []
        for v, place in enumerate(row_of(j)):
            pivots.append(b.fmul(b.select(at[v], e.splat(1.0), e.load(place)), scales))
            e.store(pivots[v], place)
        with e.loop(rows, start=e.plus(j, 1)) as i:
            factor = b.fmul(e.load(e.at(X, e.times(i, target.panel), j), DOUBLE), scale)
            factors = e.splat(b.fneg(factor))
            for v, place in enumerate(row_of(i)):
                left = b.select(at[v], e.splat(0.0), e.load(place))
                e.store(e.fma(factors, pivots[v], left), place)
    with e.loop(rows) as j:
        kept = compared("<=", j)
        for v, to in enumerate(row_of(j, of=M, kind=FLOAT)):
            number = b.select(kept[v], e.load(row_of(j)[v]), e.splat(0.0))
            e.store(b.fptrunc(number, floats), to)
    e.done()
    return e.function
