"""Vectors come back as they went in, whatever else happens to the file."""

import tempfile

import numpy as np
import pytest

from jaxsode.errors import ArgumentError, OutputError
from jaxsode.metrics import spool

VECTORS = [
    np.array([1.5, -0.0, np.inf], np.float32),
    np.array([], np.float64),
    np.arange(10, dtype=np.float16)[::-3],
    np.array([7], ">f8"),
    np.arange(5, dtype=np.int64),
]


@pytest.fixture(params=[1, 100, 2**20], ids=lambda limit: f"{limit} bytes")
def waiting(request, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", request.param)
    made = spool.Spool()
    yield made
    made.close()


def same(found, expected):
    assert [(v.dtype, v.tobytes()) for v in found] == [(v.dtype, v.tobytes()) for v in expected]


def test_vectors_are_kept_bit_for_bit_and_in_order(waiting):
    assert list(waiting) == []
    waiting.append(*VECTORS[:2])
    for vector in VECTORS[2:]:
        waiting.append(vector)
    for _ in range(2):
        same(waiting, VECTORS)


def test_reading_and_writing_do_not_disturb_each_other(waiting):
    waiting.append(*VECTORS)
    first, second = iter(waiting), iter(waiting)
    same([next(first), next(second), next(first)], [VECTORS[0], VECTORS[0], VECTORS[1]])
    waiting.append(VECTORS[0])
    same(first, [*VECTORS[2:], VECTORS[0]])
    same(second, [*VECTORS[1:], VECTORS[0]])


def test_closed(waiting):
    waiting.append(*VECTORS)
    waiting.close()
    waiting.close()
    for call in (lambda: list(waiting), lambda: waiting.append(VECTORS[0])):
        with pytest.raises(ArgumentError, match="closed"):
            call()


def test_half_a_vector_is_never_read_back(monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "w+b"))  # noqa: SIM115
    waiting = spool.Spool()
    waiting.append(VECTORS[0])
    with pytest.raises(OutputError, match="TMPDIR"):
        waiting.append(np.zeros(100_000))
    with pytest.raises(ArgumentError, match="closed"):
        list(waiting)
