"""The code of this process, made when it is first asked for, and how a program calls it."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsode._typing import Array

_lock = threading.Lock()
_code: Any = None
_folder: Path | None = None


def keep_in(folder: Path) -> None:
    """Keep what is compiled in a folder that nobody else can write to: what lies there is run."""
    global _folder
    _folder = folder


def ready() -> Any:
    """The code for this machine; None without llvmlite, or on a machine that it isn't written for."""
    global _code
    with _lock:
        if _code is None:
            _code = False
            try:
                from jaxsode.kernels.native import build, target
            except ImportError:
                return None
            if (here := target.here()) is not None:
                _code = build.Code(here, _folder)
    return _code or None


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
        operands: after the numbers; none that `varies`.
        shapes: of the results, float32.
        reused: by operand, the result that it becomes.

    Returns:
        The results.
    """
    from jaxsode.kernels.native import target

    code, workers = ready(), target.cores()
    numbers = numbers | {"workers": workers}
    first = np.array([numbers[one] for one in code.order(name)], np.int32)
    results = [jax.ShapeDtypeStruct(size, np.float32) for size in (*shapes, (workers, numbers["working"]))]
    aliases = {1 + operand: result for operand, result in (reused or {}).items()}
    function = jax.ffi.ffi_call(code.called(name), results, input_output_aliases=aliases)
    return list(function(first, *operands)[:-1])


def varies(x: Array) -> bool:
    """Whether it is a part of something, within `jax.shard_map`: what a call gives there JAX can't type."""
    kind = jax.typeof(x)
    axes = getattr(kind, "vma", None) or getattr(getattr(kind, "manual_axis_type", None), "varying", None)
    return bool(axes)
