"""The inner loop of every convolution: a few pixels by a panel of channels, in registers."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from jaxsode.kernels.native.emitter import FLOAT, INT64, POINTER, Emitter, Value, whole
from jaxsode.kernels.native.target import Target


def emit_products(module: ir.Module, target: Target) -> Value:
    """Emits, for each number of pixels up to the target's, a sum over rows of products; and what chooses.

    Returns:
        product(pixels, a, a_pixel, a_step, panel, panel_step, out, out_pixel, rows, a_row, inner, bias,
        other, relu): of pixel p and each channel of a panel, the sum over r < rows and i < inner of
        a[r · a_row + p · a_pixel + i · a_step] times panel[(r · inner + i) · panel_step + channel]; plus
        bias[channel] and other[p · out_pixel + channel], where these are not null; negative ones to 0 where
        relu isn't 0. Written to out[p · out_pixel + channel].
    """
    kinds = [POINTER, INT64, INT64, POINTER, INT64, POINTER, *[INT64] * 4, POINTER, POINTER, INT64]
    each = {pixels: _emit_product(module, target, pixels, kinds) for pixels in range(1, target.pixels + 1)}
    e = Emitter(module, "product", [INT64, *kinds])
    pixels, *rest = e.arguments
    none = e.function.append_basic_block("none")
    choice = e.build.switch(pixels, none)
    for count, function in each.items():
        block = e.function.append_basic_block(f"of{count}")
        choice.add_case(whole(count), block)
        e.build.position_at_end(block)
        e.build.call(function, rest)
        e.done()
    e.build.position_at_end(none)
    e.done()
    return e.function


def emit_step(
    e: Emitter,
    firsts: Sequence[Value],
    offsets: Sequence[Any],
    step: Value | int,
    loaded: Sequence[Value],
    sums: Sequence[Sequence[Value]],
) -> None:
    """Emits an addition to the sums of each pixel: a number of it times the vectors that are loaded.

    Args:
        e: of the function.
        firsts: places of pointers to the number of every third pixel; they are moved by a step.
        offsets: from there to it and the two after it.
        step: in numbers.
        loaded: vectors of weights.
        sums: of each pixel as many places.
    """
    places = [e.get(first) for first in firsts]
    for p, ofs in enumerate(sums):
        number = e.splat(e.load(e.at(places[p // 3], *offsets[p % 3]), FLOAT))
        for vector, one in zip(loaded, ofs, strict=True):
            e.build.store(e.fma(number, vector, e.get(one)), one)
    for first, place in zip(firsts, places, strict=True):
        e.build.store(e.at(place, step), first)


def _emit_product(module: ir.Module, target: Target, pixels: int, kinds: Sequence[Any]) -> Value:
    e = Emitter(module, f"product{pixels}", kinds, lanes=target.lanes)
    b = e.build
    a, a_pixel, a_step, panel, panel_step, out, out_pixel, rows, a_row, inner, bias, other, relu = e.arguments
    vectors = range(target.vectors)
    sums = [[e.local(e.splat(0.0)) for _ in vectors] for _ in range(pixels)]
    weights = e.local(panel)
    # Addresses of three pixels come from one pointer, by what a memory operand can add: a pointer for each
    # would be more than there are registers.
    offsets = ((), (a_pixel,), (e.times(a_pixel, 2),))
    with e.loop(rows) as row:
        firsts = [e.local(e.at(a, e.times(row, a_row), e.times(a_pixel, p))) for p in range(0, pixels, 3)]
        with e.loop(inner):
            place = e.get(weights)
            loaded = [e.load(e.at(place, e.lanes * v)) for v in vectors]
            b.store(e.at(place, panel_step), weights)
            emit_step(e, firsts, offsets, a_step, loaded, sums)

    def place_of(pointer: Value, p: int, v: int) -> Value:
        return e.at(pointer, e.times(out_pixel, p), e.lanes * v)

    every = [(p, v) for v in vectors for p in range(pixels)]
    with b.if_then(e.given(bias)):
        terms = [e.load(e.at(bias, e.lanes * v)) for v in vectors]
        for p, v in every:
            b.store(b.fadd(e.get(sums[p][v]), terms[v]), sums[p][v])
    with b.if_then(e.given(other)):
        for p, v in every:
            b.store(b.fadd(e.get(sums[p][v]), e.load(place_of(other, p, v))), sums[p][v])
    with b.if_then(b.icmp_signed("!=", relu, whole(0))):
        for p, v in every:
            b.store(e.larger(e.get(sums[p][v]), e.splat(0.0)), sums[p][v])
    for p, v in every:
        e.store(e.get(sums[p][v]), place_of(out, p, v))
    e.done()
    return e.function
