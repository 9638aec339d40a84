"""3 × 3 convolution by Winograd's fewer products, a block of tiles at a time, all of it in the cache."""

import numpy as np
from llvmlite import ir

from jaxsode.kernels.native.calls import TASK, numbers_of, operands_of
from jaxsode.kernels.native.emitter import NULL, Emitter, Value, whole
from jaxsode.kernels.native.target import Target
from jaxsode.kernels.toom_cook import TAPS, TILE, WINDOW, A, B, G

NUMBERS = (
    "tasks", "workers", "height", "width", "channels", "out_channels", "tile_rows", "tile_columns", "tiles",
    "block", "groups", "panels", "transformed", "depth", "relu", "working",
)  # fmt: skip
"""What a call's numbers are, in order: `tiles` of all pictures; `block` of them, times one of `groups` of
`panels` of output channels, is a task; `transformed` is 1 where kernels are; else a task does it, for `depth`
channels at a time; `working` floats that a worker has."""

_POINTS = WINDOW**2


def working(block: int, channels: int, out_channels: int, depth: int, target: Target) -> int:
    """Floats that a worker needs, for a block of tiles and a group's output channels.

    Args:
        block, channels, out_channels, target: see `NUMBERS`.
        depth: channels whose kernels are transformed at once; 0 where none are.
    """
    return _POINTS * (channels + block * (channels + out_channels) + (depth + 1) * target.panel)


def emit_winograd(module: ir.Module, target: Target, product: Value, *, shortcut: bool) -> Value:
    """Emits a task: a block of tiles, some channels. Its operands are those of `emit_direct`.

    Args:
        module, target: that it is for.
        product: see `emit_products`.
        shortcut: whether something of the output's shape is added before the ReLU.
    """
    e = Emitter(module, f"winograd{'_shortcut' * shortcut}_task", TASK, lanes=target.lanes)
    b = e.build
    _, task, worker = e.arguments
    numbers, x, panels, bias, *others, y, patch = operands_of(e, 6 + shortcut)
    n = numbers_of(e, numbers, NUMBERS)
    block, group = e.parts(task, n["groups"])
    group_channels = e.times(n["panels"], target.panel)
    patch = e.at(patch, e.times(worker, n["working"]))
    inputs = e.at(patch, e.times(n["channels"], _POINTS))
    outputs = e.at(inputs, e.times(n["block"], n["channels"], _POINTS))
    kernel = e.at(outputs, e.times(n["block"], group_channels, _POINTS))
    first = e.times(block, n["block"])
    tiles = e.least(n["block"], b.sub(n["tiles"], first))
    per_picture = e.times(n["tile_rows"], n["tile_columns"])

    def place(tile: Value) -> tuple[Value, Value, Value]:
        """Picture, first row and first column of a tile's outputs."""
        picture, rest = e.parts(tile, per_picture)
        row, column = e.parts(rest, n["tile_columns"])
        return picture, e.times(row, TILE), e.times(column, TILE)

    into = e.times(n["block"], n["channels"])  # from a point to the next
    with e.loop(tiles) as t:
        picture, row, column = place(b.add(first, t))
        row, column = b.sub(row, whole(1)), b.sub(column, whole(1))
        picture = e.at(x, e.times(picture, n["height"], n["width"], n["channels"]))
        source, step = _whole_window(e, n, picture, row, column, patch)
        with e.loop(n["channels"], step=e.lanes) as c:
            window = [
                [e.load(e.at(source, e.times(step, i), e.times(n["channels"], j), c)) for j in range(WINDOW)]
                for i in range(WINDOW)
            ]
            columns = [_into_points(e, [window[i][j] for i in range(WINDOW)]) for j in range(WINDOW)]
            to = e.at(inputs, e.times(t, n["channels"]), c)
            for p in range(WINDOW):
                for q, value in enumerate(_into_points(e, [columns[j][p] for j in range(WINDOW)])):
                    e.store(value, e.at(to, e.times(into, WINDOW * p + q)))

    out_of = e.times(n["block"], group_channels)
    size = e.times(n["channels"], target.panel)
    chunks = e.over(tiles, target.pixels)
    pixels = e.over(tiles, chunks)
    given = b.icmp_signed("!=", n["transformed"], whole(0))
    # Rows of points would be as far from each other as the cache's sets are, but for the one row more.
    spaced = b.select(given, size, e.times(e.plus(n["depth"], 1), target.panel))
    of_panel = b.select(given, e.times(size, _POINTS), e.times(size, TAPS**2))
    with e.loop(n["panels"]) as p, e.loop(e.over(n["channels"], n["depth"])) as part:
        channel = e.times(part, n["depth"])
        depth = e.least(n["depth"], e.minus(n["channels"], channel))
        panel = e.at(panels, e.times(e.plus(e.times(group, n["panels"]), p), of_panel))
        panel = e.at(panel, e.times(channel, target.panel))
        points = b.select(given, panel, kernel)
        with b.if_then(b.not_(given)), e.loop(e.times(depth, target.panel), step=e.lanes) as c:
            taps = [
                [e.load(e.at(panel, e.times(size, TAPS * i + j), c)) for j in range(TAPS)]
                for i in range(TAPS)
            ]
            columns = [_of_taps(e, [taps[i][j] for i in range(TAPS)]) for j in range(TAPS)]
            for i in range(WINDOW):
                for j, value in enumerate(_of_taps(e, [columns[tap][i] for tap in range(TAPS)])):
                    e.store(value, e.at(kernel, e.times(spaced, WINDOW * i + j), c))
        first_part = b.icmp_signed("==", part, whole(0))
        with e.loop(whole(_POINTS)) as point:
            a = e.at(inputs, e.times(point, into), channel)
            out = e.at(outputs, e.times(point, out_of), e.times(p, target.panel))
            with e.loop(chunks) as chunk:
                tile = e.times(chunk, pixels)
                made = e.at(out, e.times(tile, group_channels))
                b.call(product, [
                    e.least(pixels, b.sub(tiles, tile)), e.at(a, e.times(tile, n["channels"])),
                    n["channels"], whole(1), e.at(points, e.times(point, spaced)), whole(target.panel), made,
                    group_channels, whole(1), whole(0), depth, NULL,
                    b.select(first_part, NULL, made), whole(0),
                ])  # fmt: skip

    first_channel = e.times(group, group_channels)
    with e.loop(tiles) as t:
        picture, row, column = place(b.add(first, t))
        rows, columns = b.sub(n["height"], row), b.sub(n["width"], column)
        corner = e.plus(e.times(e.plus(e.times(picture, n["height"]), row), n["width"]), column)
        corner = e.plus(e.times(corner, n["out_channels"]), first_channel)
        with e.loop(group_channels, step=e.lanes) as c:
            source = e.at(outputs, e.times(t, group_channels), c)
            points = [
                [e.load(e.at(source, e.times(out_of, WINDOW * p + q))) for q in range(WINDOW)]
                for p in range(WINDOW)
            ]
            halves = [_out_of_points(e, [points[p][q] for p in range(WINDOW)]) for q in range(WINDOW)]
            term = e.load(e.at(bias, first_channel, c))
            for i in range(TILE):
                for j, value in enumerate(_out_of_points(e, [halves[q][i] for q in range(WINDOW)])):
                    inside = b.and_(e.below(whole(i), rows), e.below(whole(j), columns))
                    offset = e.plus(corner, e.times(e.plus(e.times(n["width"], i), j), n["out_channels"]), c)
                    with b.if_then(inside):
                        value = b.fadd(value, term)
                        if shortcut:
                            value = b.fadd(value, e.load(e.at(others[0], offset)))
                        positive = e.larger(value, e.splat(0.0))
                        value = b.select(b.icmp_signed("!=", n["relu"], whole(0)), positive, value)
                        e.store(value, e.at(y, offset))
    e.done()
    return e.function


def _whole_window(
    e: Emitter, n: dict[str, Value], picture: Value, row: Value, column: Value, patch: Value
) -> tuple[Value, Value]:
    """Where a window's numbers are, and from a row to the next: in the picture, or copied with zeros."""
    b = e.build
    step = e.times(n["width"], n["channels"])
    source, rows = e.local(e.at(picture, e.times(row, step), e.times(column, n["channels"]))), e.local(step)
    low = e.below(e.least(row, column), 0)
    spare = e.least(b.sub(n["height"], row), b.sub(n["width"], column))
    with b.if_then(b.or_(low, e.below(spare, WINDOW))):
        e.fill(patch, None, e.times(n["channels"], _POINTS))
        from_row, from_column = (e.minus(whole(0), e.least(v, whole(0))) for v in (row, column))
        to_row = e.least(whole(WINDOW), b.sub(n["height"], row))
        to_column = e.least(whole(WINDOW), b.sub(n["width"], column))
        with e.loop(to_row, start=from_row) as i:
            to = e.at(patch, e.times(e.plus(e.times(i, WINDOW), from_column), n["channels"]))
            at = e.times(e.plus(e.times(b.add(row, i), n["width"]), column, from_column), n["channels"])
            e.fill(to, e.at(picture, at), e.times(b.sub(to_column, from_column), n["channels"]))
        b.store(patch, source)
        b.store(e.times(n["channels"], WINDOW), rows)
    return e.get(source), e.get(rows)


def _into_points(e: Emitter, x: list[Value]) -> list[Value]:
    """Bᵀx. The rows of points p and −p have the same terms, those of odd places with another sign."""
    first, last = (_sum(e, B[i], x, range(WINDOW)) for i in (0, -1))
    made = []
    for i in range(1, WINDOW - 1, 2):
        even, odd = (_sum(e, B[i], x, range(start, WINDOW, 2)) for start in (0, 1))
        made += [e.build.fadd(even, odd), e.build.fsub(even, odd)]
    return [first, *made, last]


def _of_taps(e: Emitter, g: list[Value]) -> list[Value]:
    """Gg. The rows of points p and −p have the same terms, the middle one with another sign."""
    made = [_sum(e, G[0], g, range(TAPS))]
    for i in range(1, WINDOW - 1, 2):
        even, odd = (_sum(e, G[i], g, range(start, TAPS, 2)) for start in (0, 1))
        made += [e.build.fadd(even, odd), e.build.fsub(even, odd)]
    return [*made, _sum(e, G[-1], g, range(TAPS))]


def _out_of_points(e: Emitter, z: list[Value]) -> list[Value]:
    """Aᵀz, the sums and differences of points p and −p taken once."""
    pairs = range(1, WINDOW - 1, 2)
    sums = [e.build.fadd(z[i], z[i + 1]) for i in pairs]
    differences = [e.build.fsub(z[i], z[i + 1]) for i in pairs]
    made = []
    for i, row in enumerate(A):
        both = differences if i % 2 else sums
        terms = [z[0], *both, z[-1]]
        made.append(_sum(e, np.array([row[0], *row[1:-1:2], row[-1]]), terms, range(len(terms))))
    return made


def _sum(e: Emitter, factors: np.ndarray, terms: list[Value], places: range) -> Value:
    """Σ factors[i] · terms[i], those of 0 left out; what needs no factor comes first."""
    chosen = sorted((i for i in places if factors[i]), key=lambda i: factors[i] != 1)
    first, *rest = chosen
    total = terms[first] if factors[first] == 1 else e.build.fmul(e.splat(factors[first]), terms[first])
    for i in rest:
        total = e.fma(e.splat(factors[i]), terms[i], total)
    return total
