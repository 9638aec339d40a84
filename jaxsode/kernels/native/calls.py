"""How XLA calls machine code, and how that shares its work among XLA's threads.

The calling convention is XLA's foreign function interface, a C interface of its own version; the offsets
below are those of the structures in its header, `xla/ffi/api/c_api.h` in `jax.ffi.include_dir()`.
"""

import sys
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from jaxsode.kernels.native.emitter import BYTE, INT32, INT64, NOTHING, NULL, POINTER, Emitter, Value, whole

VERSION = (0, 3)
"""Of the interface, its header's XLA_FFI_API_MAJOR and XLA_FFI_API_MINOR."""

# XLA_FFI_CallFrame, with XLA_FFI_Args and XLA_FFI_Rets in it
_EXTENSION, _API, _CONTEXT, _STAGE = 8, 16, 24, 32
_ARGUMENTS, _RESULTS = 40 + 16, 80 + 16  # how many; the pointers to them 16 further on
_DATA = 24  # XLA_FFI_Buffer
_EXECUTE = 3  # XLA_FFI_ExecutionStage
_METADATA, _MAJOR, _MINOR = 24, 8 + 16, 8 + 20  # XLA_FFI_Metadata_Extension, XLA_FFI_Metadata
_DESTROY, _SCHEDULE, _THREADS = 64, 136, 144  # XLA_FFI_Api

# What the threads of a call share: four counters, what is wanted, the caller's processor, and the operands.
_NEXT, _DONE, _HOLDERS, _WORKER, _TASKS, _PROCESSOR, _OPERANDS = 0, 8, 16, 24, 32, 40, 48
_AFFINITY = 16  # 64-bit words of the C library's cpu_set_t, which has a bit for each processor

_KNOWS_PROCESSORS = sys.platform == "linux"

TASKS, WORKERS = 0, 1
"""Where the numbers of a call, its first operand, have how many tasks it is of, and for how many threads at
most it has working memory."""


TASK = [POINTER, INT64, INT64]
"""The arguments of a task: (operands, which, worker). Operands are pointers to the data of all arguments,
then of all results; a worker's number is one of a kind among those that run at the same time."""


def emit_call(module: ir.Module, name: str, task: Value) -> None:
    """Emits `name`, a handler that XLA calls: it runs a task for each number below how many there are.

    Args:
        module: that holds the task.
        name: of the handler. The first of its arguments is of int32 numbers, see `TASKS`.
        task: see `TASK`.
    """
    helper = _emit_helper(module, f"{name}_helper", task)
    e = Emitter(module, name, [POINTER], returns=POINTER)
    b = e.build
    (frame,) = e.arguments

    def field(pointer: Value, offset: int, of: Any) -> Value:
        return b.load(e.at(pointer, offset, of=BYTE), typ=of)

    extension = field(frame, _EXTENSION, POINTER)
    with b.if_then(e.given(extension)):
        metadata = field(extension, _METADATA, POINTER)
        for offset, number in ((_MAJOR, VERSION[0]), (_MINOR, VERSION[1])):
            b.store(ir.Constant(INT32, number), e.at(metadata, offset, of=BYTE))
        b.ret(NULL)
    with b.if_then(b.icmp_unsigned("!=", field(frame, _STAGE, INT32), ir.Constant(INT32, _EXECUTE))):
        b.ret(NULL)

    malloc = e.declared("malloc", POINTER, [INT64])
    arguments, results = (field(frame, base, INT64) for base in (_ARGUMENTS, _RESULTS))
    shared = b.call(malloc, [e.plus(e.times(e.plus(arguments, results), 8), _OPERANDS)])
    for first, base, count in ((whole(0), _ARGUMENTS, arguments), (arguments, _RESULTS, results)):
        buffers = field(frame, base + 16, POINTER)
        with e.loop(count) as i:
            data = field(b.load(e.at(buffers, i, of=POINTER), typ=POINTER), _DATA, POINTER)
            b.store(data, e.at(shared, _OPERANDS // 8, first, i, of=POINTER))
    numbers = b.load(e.at(shared, _OPERANDS // 8, of=POINTER), typ=POINTER)
    tasks, workers = (b.sext(b.load(e.at(numbers, i, of=INT32), typ=INT32), INT64) for i in (TASKS, WORKERS))
    for offset, initial in ((_NEXT, whole(0)), (_DONE, whole(0)), (_WORKER, whole(0)), (_TASKS, tasks)):
        b.store(initial, e.at(shared, offset, of=BYTE))
    if _KNOWS_PROCESSORS:
        processor = b.call(e.declared("sched_getcpu", INT32, []), [])
        b.store(b.sext(processor, INT64), e.at(shared, _PROCESSOR, of=BYTE))

    # The caller works too, and waits at the end for tasks that others have begun, never for a thread to
    # begin: all of XLA's threads may be callers.
    api, context = field(frame, _API, POINTER), field(frame, _CONTEXT, POINTER)
    threads = e.local(whole(1))
    request = e.local(ir.Constant(ir.ArrayType(INT64, 5), None))
    asked = ir.FunctionType(POINTER, [POINTER])

    def ask(function: int, *fields: Value) -> Value:
        values = (whole(8 * (2 + len(fields))), NULL, *fields)
        for i, value in enumerate(values):
            b.store(value, e.at(request, i, of=INT64))
        pointer = b.inttoptr(field(api, function, INT64), asked.as_pointer())
        return b.call(pointer, [request])

    failed = ask(_THREADS, context, threads)
    with b.if_then(e.given(failed)):
        b.call(e.declared("free", NOTHING, [POINTER]), [shared])
        b.ret(failed)
    wanted = e.least(e.least(e.get(threads), workers), tasks)
    helpers = b.sub(wanted, whole(1))
    helpers = b.select(e.below(helpers, 0), whole(0), helpers)
    holders = e.at(shared, _HOLDERS, of=BYTE)
    b.store(b.add(helpers, whole(1)), holders)
    with e.loop(helpers):
        failed = ask(_SCHEDULE, context, helper, shared)
        # what could not be scheduled holds nothing; the others, this thread among them, do its work
        with b.if_then(e.given(failed)):
            b.atomic_rmw("sub", holders, whole(1), "seq_cst")
            ask(_DESTROY, failed)
    _emit_work(e, shared, task)
    yields = e.declared("sched_yield", INT32, [])
    head, wait, end = (e.function.append_basic_block(x) for x in ("waits", "wait", "all"))
    b.branch(head)
    b.position_at_end(head)
    done = b.load_atomic(e.at(shared, _DONE, of=BYTE), "acquire", 8, typ=INT64)
    b.cbranch(e.below(done, tasks), wait, end)
    b.position_at_end(wait)
    b.call(yields, [])
    b.branch(head)
    b.position_at_end(end)
    _emit_release(e, shared)
    b.ret(NULL)


def _emit_helper(module: ir.Module, name: str, task: Value) -> Value:
    """A thread's part. It may begin when the call has long ended, and finds nothing to do then."""
    e = Emitter(module, name, [POINTER])
    (shared,) = e.arguments
    if _KNOWS_PROCESSORS:
        _emit_move(e, shared)
    _emit_work(e, shared, task)
    _emit_release(e, shared)
    e.done()
    return e.function


def _emit_move(e: Emitter, shared: Value) -> None:
    """Off the caller's processor, if that is where the system woke this thread.

    After a pause it does so although another one is idle, and for milliseconds the caller doesn't run. It may
    then run where it might before. A call that needs no more threads is left alone.
    """
    b = e.build
    tasks = b.load(e.at(shared, _TASKS, of=BYTE), typ=INT64)
    late = b.icmp_signed(">=", b.load_atomic(e.at(shared, _NEXT, of=BYTE), "acquire", 8, typ=INT64), tasks)
    here = b.sext(b.call(e.declared("sched_getcpu", INT32, []), []), INT64)
    same = b.icmp_signed("==", here, b.load(e.at(shared, _PROCESSOR, of=BYTE), typ=INT64))
    counted = b.icmp_unsigned("<", here, whole(64 * _AFFINITY))
    allowed, others = (e.local(ir.Constant(ir.ArrayType(INT64, _AFFINITY), None)) for _ in range(2))
    kinds = [INT32, INT64, POINTER]
    ask, say = (e.declared(f"sched_{what}affinity", INT32, kinds) for what in ("get", "set"))

    def done(function: Value, processors: Value) -> Value:
        result = b.call(function, [ir.Constant(INT32, 0), whole(8 * _AFFINITY), processors])
        return b.icmp_signed("==", result, ir.Constant(INT32, 0))

    with b.if_then(b.and_(b.not_(late), b.and_(same, counted))), b.if_then(done(ask, allowed)):
        e.fill(others, allowed, whole(2 * _AFFINITY))
        word = e.at(others, b.lshr(here, whole(6)), of=INT64)
        bit = b.shl(whole(1), b.and_(here, whole(63)))
        b.store(b.and_(b.load(word, typ=INT64), b.not_(bit)), word)
        # It fails, and changes nothing, where there is no other.
        with b.if_then(done(say, others)):
            done(say, allowed)


def _emit_work(e: Emitter, shared: Value, task: Value) -> None:
    """Tasks, one after the other, until none is left."""
    b = e.build
    tasks = b.load(e.at(shared, _TASKS, of=BYTE), typ=INT64)
    worker = b.atomic_rmw("add", e.at(shared, _WORKER, of=BYTE), whole(1), "seq_cst")
    head, work, end = (e.function.append_basic_block(x) for x in ("next", "work", "none"))
    b.branch(head)
    b.position_at_end(head)
    which = b.atomic_rmw("add", e.at(shared, _NEXT, of=BYTE), whole(1), "seq_cst")
    b.cbranch(e.below(which, tasks), work, end)
    b.position_at_end(work)
    b.call(task, [e.at(shared, _OPERANDS, of=BYTE), which, worker])
    b.atomic_rmw("add", e.at(shared, _DONE, of=BYTE), whole(1), "seq_cst")
    b.branch(head)
    b.position_at_end(end)


def _emit_release(e: Emitter, shared: Value) -> None:
    """The last of those who hold the shared memory gives it back."""
    b = e.build
    before = b.atomic_rmw("sub", e.at(shared, _HOLDERS, of=BYTE), whole(1), "seq_cst")
    with b.if_then(b.icmp_signed("==", before, whole(1))):
        b.call(e.declared("free", NOTHING, [POINTER]), [shared])


def operands_of(e: Emitter, count: int) -> list[Value]:
    """Within a task: pointers to the data of all operands."""
    return [e.load(e.at(e.arguments[0], i, of=POINTER), POINTER) for i in range(count)]


def numbers_of(e: Emitter, pointer: Value, names: Sequence[str]) -> dict[str, Value]:
    """Within a task: the numbers of the call, by name in order, as 64-bit ones."""
    loaded = (e.load(e.at(pointer, i, of=INT32), INT32) for i in range(len(names)))
    return {name: e.build.sext(one, INT64) for name, one in zip(names, loaded, strict=True)}
