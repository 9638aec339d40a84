"""Fitting and scoring by Ray: the results are those of one machine, also where a worker dies half-way."""

import functools
import io
import itertools
import os
import signal
import types

import numpy as np
import pytest
from PIL import Image

from jaxsode import Detector, Method, backbones
from jaxsode.errors import ArgumentError, DataError
from jaxsode.preparation import Preparation
from jaxsode.remote import Files, Workers, _Pool, chunked
from jaxsode.statistics import unpack

SIZE = (48, 64)


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _files(pictures, size):
    encoded = [_png(pixels) for pixels in pictures]
    parts = [tuple(encoded[i : i + size]) for i in range(0, len(encoded), size)]
    return [Files(part, 3, SIZE, Preparation(), 4) for part in parts]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own
def test_four_workers_of_whom_one_is_killed_are_one_machine():
    pytest.importorskip("ray", reason="Ray, the extra ray, isn't installed")
    pictures = np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), dtype=np.uint8)
    backbone = backbones.create("resnet18")
    method = Method(k=6, pooling=3, epsilon="5%")
    one = Detector.fit([pictures[i : i + 4] for i in range(0, 40, 4)], backbone, method)
    new = np.random.default_rng(1).integers(0, 256, (24, *SIZE, 3), dtype=np.uint8)
    done, killed = [], []
    with Workers(number=4) as workers:

        def progress(count):
            done.append(count)
            if len(done) == 4:
                killed.extend(_kill_a_worker())

        several = workers.fit(
            _files(pictures, 4), backbone, method, size=SIZE, pictures=40, progress=progress
        )
        maps = np.concatenate(list(workers.maps(several, _files(new, 5), ignored=None)))
        groups = [0, 1, 1, *range(3, 40)]
        places = chunked(groups, 7)
        encoded = [_png(pixels) for pixels in pictures]
        chunks = [Files(tuple(encoded[p] for p in part), 3, SIZE, Preparation(), 4) for part in places]
        of_chunk = [[groups[p] for p in part] for part in places]
        left = workers.maps(several, chunks, ignored=None, groups=of_chunk)
        left_out = np.empty((40, *SIZE), np.float32)
        for part, found in zip(places, left, strict=True):
            left_out[part] = found
        broken = Files((b"no picture",), 3, SIZE, Preparation(), 4)
        with pytest.raises(DataError, match="dealt out"):
            workers.fit([broken], backbone, method, size=SIZE, pictures=1, progress=lambda _: None)
    assert len(killed) == 1
    assert sum(done) == 40
    assert int(several.count) == 40
    mine, theirs = unpack(several.statistics), unpack(one.statistics)
    for a, b in ((mine.mean, theirs.mean), (mine.scatter, theirs.scatter)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)
    expected = np.asarray(one.anomaly_map(new))
    assert np.abs(maps - expected).max() <= 1e-5 * expected.max()
    batches = [pictures[i : i + 4] for i in range(0, 40, 4)]
    expected = np.concatenate(list(one.leave_one_out_maps(batches, groups=groups)))
    assert np.abs(left_out - expected).max() <= 1e-4 * expected.max()


def _kill_a_worker():
    """SIGKILL to one of the actors of the Ray that this process started."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        if "ray::_Partial" in " ".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
            return [process.pid]
    return []


def test_a_group_lies_in_one_chunk():
    groups = [0, 1, 0, 2, 2, 2, 2, 2, 3, 4]
    chunks = chunked(groups, 3)
    assert sorted(itertools.chain(*chunks)) == list(range(10))
    for group in set(groups):
        assert sum(any(groups[p] == group for p in chunk) for chunk in chunks) == 1
    assert max(map(len, chunks)) == 5


def test_what_wants_all_pictures_is_refused():
    backbone = backbones.create("resnet18", layers=(1,))
    files = [Files((b"",), 3, SIZE, Preparation(), 4)]
    for method in (Method(k=4, epsilon="auto"), Method(k=4, scale="layer")):
        workers = Workers.__new__(Workers)
        with pytest.raises(ArgumentError, match="leave --ray away"):
            workers.fit(files, backbone, method, size=SIZE, pictures=1, progress=lambda _: None)
    with pytest.raises(ArgumentError, match="at least 1"):
        Workers(number=0)


class _Dying:
    """Stands for Ray: each call is done at once, and the first of some names dies."""

    class Died(Exception):
        pass

    def __init__(self, *names):
        self.names = list(names)
        self.exceptions = self
        self.RayActorError = self.WorkerCrashedError = self.ObjectLostError = self.OutOfMemoryError = (
            self.Died
        )

    def remote(self, kind):
        def made(*arguments):
            worker = kind(*arguments)
            calls = {}
            for name in ("do", "part", "merge", "clear"):
                calls[name] = types.SimpleNamespace(remote=functools.partial(self._call, worker, name))
            return types.SimpleNamespace(**calls)

        return types.SimpleNamespace(options=lambda **_: types.SimpleNamespace(remote=made))

    def _call(self, worker, name, *arguments):
        if name in self.names:
            self.names.remove(name)
            return _Ref(self.Died())
        return _Ref(getattr(worker, name)(*arguments))

    def get(self, ref):
        if isinstance(ref.value, self.Died):
            raise ref.value
        return ref.value

    def wait(self, refs, num_returns):
        return refs[:num_returns], refs[num_returns:]


class _Ref:
    def __init__(self, value):
        self.value = value


class _Sum:
    """A worker whose part is the sum of its chunks."""

    def __init__(self):
        self.total = 0

    def do(self, chunk):
        self.total += chunk
        return 1

    def part(self):
        return np.float32(self.total)

    def merge(self, other):
        self.total += float(other)

    def clear(self):
        self.total = 0


@pytest.mark.parametrize("dying", [(), ("do",), ("part",), ("merge",), ("clear",), ("do", "part", "merge")])
@pytest.mark.parametrize("workers", [1, 3])
def test_whoever_dies_nothing_counts_twice(dying, workers):
    pool = _Pool(_Dying(*dying), workers, _Sum, ())
    chunks = [2**i for i in range(7)]
    assert list(pool.gathered(chunks)) == [1] * 7
    assert float(pool.merged()) == 127


@pytest.mark.parametrize("dying", [(), ("do",), ("do", "do")])
def test_results_come_in_order_whoever_dies(dying):
    class Twice(_Sum):
        def do(self, chunk):
            return 2 * chunk

    pool = _Pool(_Dying(*dying), 2, Twice, ())
    assert list(pool.in_order(iter(range(9)))) == [2 * i for i in range(9)]
