"""Machine code in words: loops, vectors and pointers, as LLVM's intermediate representation."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

Value = Any
"""One of LLVM's; what llvmlite says of its types is less than what they are."""

FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
BIT, BYTE, INT32, INT64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))
POINTER, NOTHING = ir.PointerType(), ir.VoidType()
NULL = ir.Constant(POINTER, None)


def whole(number: int) -> Value:
    """A 64-bit constant."""
    return ir.Constant(INT64, number)


class Emitter:
    """Writes one function, block after block. What it returns are LLVM's values."""

    def __init__(
        self,
        module: ir.Module,
        name: str,
        arguments: Sequence[Any],
        *,
        lanes: int = 1,
        number: Any = FLOAT,
        returns: Any = NOTHING,
    ):
        """Begins a function.

        Args:
            module: that will hold it.
            name: of the function, one of a kind in the module.
            arguments: their types.
            lanes: numbers in a vector.
            number: their type.
            returns: type of the result.
        """
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(returns, arguments), name)
        self.lanes = lanes
        self.number = number
        self.vector = ir.VectorType(number, lanes)
        self._first = self.function.append_basic_block("entry")
        body = self.function.append_basic_block("body")
        ir.IRBuilder(self._first).branch(body)
        self.arguments: tuple[Value, ...] = self.function.args
        self.build: Any = ir.IRBuilder(body)

    def local(self, initial: Value) -> Value:
        """A place for a value that changes; LLVM keeps it in a register."""
        builder: Any = ir.IRBuilder(self._first)
        builder.position_before(self._first.terminator)
        place = builder.alloca(initial.type)
        place.type = POINTER  # not a pointer to its type, as LLVM's were once
        self.build.store(initial, place)
        return place

    def get(self, place: Value) -> Value:
        """What is in a local place."""
        return self.build.load(place, typ=place.allocated_type)

    @contextmanager
    def loop(self, stop: Value, *, start: Value | None = None, step: int = 1) -> Iterator[Value]:
        """`for index in range(start, stop, step)`, of 64-bit numbers."""
        place = self.local(whole(0) if start is None else start)
        head, body, end = (self.function.append_basic_block(name) for name in ("head", "loop", "end"))
        self.build.branch(head)
        self.build.position_at_end(head)
        index = self.build.load(place, typ=INT64)
        self.build.cbranch(self.build.icmp_signed("<", index, stop), body, end)
        self.build.position_at_end(body)
        yield index
        self.build.store(self.build.add(index, whole(step)), place)
        self.build.branch(head)
        self.build.position_at_end(end)

    def at(self, pointer: Value, *offsets: Value | int, of: Any = None) -> Value:
        """Pointer moved by a sum of offsets, in numbers of a type."""
        for offset in offsets:
            offset = whole(offset) if isinstance(offset, int) else offset
            pointer = self.build.gep(pointer, [offset], source_etype=of or self.number)
        return pointer

    def load(self, pointer: Value, of: Any = None) -> Value:
        """A vector, or a number of a type."""
        return self.build.load(pointer, typ=self.vector if of is None else of, align=4)

    def store(self, value: Value, pointer: Value) -> None:
        """Writes a vector or a number."""
        self.build.store(value, pointer, align=4)

    def splat(self, number: Value | float, of: Any = None) -> Value:
        """A vector of one number; of another type than the function's, if one is given."""
        if isinstance(number, (int, float)):
            return ir.Constant(self.vector, [float(number)] * self.lanes)
        undefined = ir.Constant(self.vector if of is None else ir.VectorType(of, self.lanes), ir.Undefined)
        one = self.build.insert_element(undefined, number, ir.Constant(INT32, 0))
        lanes = ir.Constant(ir.VectorType(INT32, self.lanes), [0] * self.lanes)
        return self.build.shuffle_vector(one, undefined, lanes)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a · b + c, rounded once."""
        name = f"llvm.fma.v{self.lanes}{'f32' if self.number is FLOAT else 'f64'}"
        fma = self.declared(name, self.vector, [self.vector] * 3)
        return self.build.call(fma, (a, b, c))

    def fill(self, to: Value, source: Value | None, count: Value) -> None:
        """Copies so many floats, or writes so many zeros."""
        size, false = self.times(count, 4), ir.Constant(BIT, 0)
        if source is None:
            zeros = self.declared("llvm.memset.p0.i64", NOTHING, [POINTER, BYTE, INT64, BIT])
            self.build.call(zeros, [to, ir.Constant(BYTE, 0), size, false])
        else:
            copy = self.declared("llvm.memcpy.p0.p0.i64", NOTHING, [POINTER, POINTER, INT64, BIT])
            self.build.call(copy, [to, source, size, false])

    def larger(self, a: Value, b: Value) -> Value:
        """Of each lane the larger; NaN where either is."""
        more = self.build.fcmp_unordered(">=", a, b)  # true for NaN in either
        nan = self.build.fcmp_unordered("uno", b, b)
        return self.build.select(nan, b, self.build.select(more, a, b))

    def over(self, number: Value, divisor: Value | int) -> Value:
        """⌈number / divisor⌉ of 64-bit numbers, ≥ 0 and ≥ 1."""
        divisor = whole(divisor) if isinstance(divisor, int) else divisor
        return self.build.sdiv(self.plus(number, divisor, -1), divisor)

    def parts(self, number: Value, divisor: Value) -> tuple[Value, Value]:
        """Quotient and remainder of 64-bit numbers ≥ 0."""
        return self.build.sdiv(number, divisor), self.build.srem(number, divisor)

    def below(self, a: Value, b: Value | int) -> Value:
        """Whether a < b, of 64-bit numbers."""
        return self.build.icmp_signed("<", a, whole(b) if isinstance(b, int) else b)

    def given(self, pointer: Value) -> Value:
        """Whether a pointer isn't null."""
        return self.build.icmp_unsigned("!=", pointer, NULL)

    def declared(self, name: str, returns: Any, arguments: Sequence[Any]) -> ir.Function:
        """A function from elsewhere: LLVM's own, or the C library's."""
        if name in self.module.globals:
            return self.module.globals[name]
        return ir.Function(self.module, ir.FunctionType(returns, arguments), name)

    def least(self, a: Value, b: Value) -> Value:
        """The smaller of two 64-bit numbers."""
        return self.build.select(self.build.icmp_signed("<", a, b), a, b)

    def most(self, a: Value, b: Value) -> Value:
        """The larger of two 64-bit numbers."""
        return self.build.select(self.build.icmp_signed(">", a, b), a, b)

    def minus(self, number: Value, *others: Value) -> Value:
        """A 64-bit number less others."""
        for other in others:
            number = self.build.sub(number, other)
        return number

    def times(self, *factors: Value | int) -> Value:
        """A product of 64-bit numbers."""
        first, *rest = (whole(f) if isinstance(f, int) else f for f in factors)
        for factor in rest:
            first = self.build.mul(first, factor)
        return first

    def plus(self, *terms: Value | int) -> Value:
        """A sum of 64-bit numbers."""
        first, *rest = (whole(t) if isinstance(t, int) else t for t in terms)
        for term in rest:
            first = self.build.add(first, term)
        return first

    def done(self) -> None:
        """Ends a function that returns nothing."""
        self.build.ret_void()
