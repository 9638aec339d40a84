"""The one place where a fast form or its plain twin is chosen: by the switches, then by the platform."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

# JAX keeps them in the key of every program it has traced: under other values a function is traced anew.
_plain = jax.make_user_context(default_value=False)
_evaluated = jax.make_user_context(default_value=False)


@contextmanager
def plain() -> Iterator[None]:
    """Every kernel in its plain form: `with kernels.plain(): ...`, for an export or to find a kernel's fault.

    Read when a function is traced. What `jax.jit` has traced outside is traced anew inside, and the other way
    round; a program that is compiled or exported already stays what it is. Holds in the thread that enters
    it, until it leaves; may be nested.
    """
    with _plain(True):
        yield


@contextmanager
def evaluated(here: bool) -> Iterator[None]:
    """What is called within is evaluated here and nothing else: each kernel takes its form for a CPU, which
    may be code that JAX can't look into.

    Args:
        here: whether that is so, `is_here` of all arrays that programs within are for; False where a caller's
            own code is called, which may take derivatives or maps.
    """
    with _evaluated(here):
        yield


def is_evaluated() -> bool:
    """Whether this is within `evaluated`. Read when a function is traced."""
    return _evaluated.value


def choose(
    *operands: Any,
    plain: Callable[..., Any],
    cpu: Callable[..., Any],
    elsewhere: Callable[..., Any] | None = None,
    here: bool = False,
) -> Any:
    """One of several functions that compute the same.

    Args:
        operands: of the function, arrays or pytrees of arrays.
        plain: taken within `plain()`: in the words of JAX and its libraries.
        cpu: taken on a CPU. Otherwise than `here` it is decided when the program is lowered: what is exported
            for another platform has that platform's form.
        elsewhere: taken on every other platform; None is `plain`.
        here: whether the program is for a CPU of this process alone, as it is within `evaluated`. The other
            forms are not traced then: tracing them takes as long as all else before the first result.

    Returns:
        The chosen function's result, an array or a pytree of arrays.
    """
    if _plain.value:
        return plain(*operands)
    if here or is_evaluated():
        return cpu(*operands)
    return jax.lax.platform_dependent(*operands, cpu=cpu, default=elsewhere or plain)
