"""Several hosts that do one thing together: what fails on one fails on all, and none waits for it in vain.

Every host calls these functions in the same order. On one host they do nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsode.errors import CheckpointError

_LONGEST = 1024
"""Bytes of an error's text that the other hosts are told."""

_LONGEST_SAID = 2**13


@contextmanager
def in_step(devices: Sequence[Any] | None = None) -> Iterator[None]:
    """What is done in it is done on all hosts when it ends, or fails on all of them.

    Args:
        devices: whose hosts take part; by default all.

    Raises:
        CheckpointError: on the hosts where nothing failed, in the words of the first one where something
            did; there it is its own error. Also where a host is gone.
    """
    try:
        yield
    except BaseException as error:
        tell(error, devices)
        raise
    if (said := tell(None, devices)) is not None:
        raise CheckpointError(said)


def tell(error: BaseException | None, devices: Sequence[Any] | None = None) -> str | None:
    """Tell the other hosts what failed here, and hear what failed there.

    Args:
        error: None where nothing failed.
        devices: whose hosts take part; by default all.

    Returns:
        What the first host said where something failed, this one among them; None where nothing did.
    """
    devices = jax.devices() if devices is None else devices
    if len({device.process_index for device in devices}) == 1:
        return None if error is None else _words(error)
    mesh = Mesh(np.array(devices), ("devices",))
    own = np.zeros((1, _LONGEST), np.uint8)
    if error is not None:
        text = f"{_words(error)} (on host {jax.process_index()})".encode(errors="backslashreplace")
        own[0, : len(text[:_LONGEST])] = np.frombuffer(text[:_LONGEST], np.uint8)
    try:
        sharding = NamedSharding(mesh, PartitionSpec("devices"))
        said = jax.make_array_from_callback((len(devices), _LONGEST), sharding, lambda _: own)
        heard = np.asarray(jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, PartitionSpec()))(said))
    except jax.errors.JaxRuntimeError as gone:
        if error is not None:
            return _words(error)
        raise CheckpointError(f"another host is gone ({_words(gone)[:200]}): start all hosts again") from gone
    words = [bytes(row).rstrip(b"\0").decode(errors="replace") for row in heard if row[0]]
    return words[0] if words else None


def first_says(text: bytes) -> bytes:
    """What the first host says, on every host.

    Args:
        text: without a NUL at its end; of at most 2¹³ bytes, what is beyond is cut off.
    """
    if jax.process_count() == 1:
        return text
    from jax.experimental import multihost_utils

    own = np.zeros(_LONGEST_SAID, np.uint8)
    own[: len(text[:_LONGEST_SAID])] = np.frombuffer(text[:_LONGEST_SAID], np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(own)).tobytes().rstrip(b"\0")


def _words(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
