"""The code of this process, made when it is first asked for, and how a program calls it."""

import os
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from jaxsode._typing import Array

_lock = threading.Lock()
_code: Any = None
_folder: Path | None = None


def keep_in(folder: Path) -> None:
    """Keep what is compiled in a folder that nobody else can write to: what lies there is run."""
    global _folder
    _folder = folder


def ready() -> Any:
    """The code for this machine; None without llvmlite, on a machine that it isn't written for, or where JAX
    computes on an accelerator by default. What else stops it is told in a warning, once."""
    global _code
    if jax.default_backend() != "cpu":
        return None
    with _lock:
        if _code is None:
            _code = False
            try:
                from jaxsode.kernels.native import build, target
            except ImportError:
                return None
            try:
                if (here := target.here()) is not None:
                    _code = build.Code(here, _folder)
            except Exception as error:  # of LLVM, of a library's other version, of XLA as it registers
                warnings.warn(f"no machine code, so XLA's is taken: {error}", RuntimeWarning, stacklevel=2)
    return _code or None


def cores() -> int:
    """How many threads of a process run at the same time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_here(*trees: Any) -> bool:
    """Whether a program of these arrays is for one CPU of this process, and nothing is being traced.

    Args:
        trees: pytrees of arrays.
    """
    # A number that is put nowhere in particular is where programs of such arrays run: on the default device,
    # or in the program that is being traced.
    anywhere = jax.device_put(np.float32(0))
    return all(map(_lies_here, jax.tree.leaves((anywhere, trees))))


def _lies_here(leaf: Any) -> bool:
    if isinstance(leaf, Tracer):
        return False
    if not isinstance(leaf, jax.Array):
        return jax.default_backend() == "cpu"
    devices = leaf.sharding.device_set
    (device, *others) = devices
    return not others and device.platform == "cpu" and device.process_index == jax.process_index()


def call(
    name: str,
    numbers: dict[str, int],
    operands: Sequence[Array],
    shapes: Sequence[tuple[int, ...]],
    *,
    reused: dict[int, int] | None = None,
) -> list[Array]:
    """Calls a function of the code.

    Args:
        name: of the function.
        numbers: by name, without how many workers there are; `working` floats are had by each of them.
        operands: after the numbers, of the shapes and types that the code takes; none that `varies`.
        shapes: of the results, float32.
        reused: by operand, the result that it becomes.

    Returns:
        The results, of those shapes.
    """
    code, workers = ready(), max(1, min(cores(), numbers["tasks"]))
    numbers = numbers | {"workers": workers}
    first = np.array([numbers[one] for one in code.order(name)], np.int32)
    results = [jax.ShapeDtypeStruct(size, np.float32) for size in (*shapes, (workers, numbers["working"]))]
    aliases = {1 + operand: result for operand, result in (reused or {}).items()}
    function = jax.ffi.ffi_call(code.called(name), results, input_output_aliases=aliases)
    return list(function(first, *operands)[:-1])


def varies(x: Array) -> bool:
    """Whether it is a part of something, within `jax.shard_map`: what a call gives there JAX can't type.

    Args:
        x: (…) any.
    """
    kind = jax.typeof(x)
    axes = getattr(kind, "vma", None) or getattr(getattr(kind, "manual_axis_type", None), "varying", None)
    return bool(axes)
