"""Imports of many modules, sooner.

JAX, Flax and Orbax make a quarter of a million objects, none of them garbage.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Without Python's cyclic collector, which would go through all objects over and over.

    Afterwards it is as it was before.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def at_start() -> Iterator[None]:
    """`uncollected`, for a process of our own: what is there by the end is never looked at for garbage."""
    with uncollected():
        yield
        gc.freeze()
