"""Fitting and scoring by Ray: the results are those of one machine, also where a worker dies half-way."""

import io
import itertools
import os
import signal

import numpy as np
import pytest
from PIL import Image

from jaxsode import Detector, Method, backbones
from jaxsode.errors import ArgumentError, DataError
from jaxsode.preparation import Preparation
from jaxsode.remote import Files, Workers, chunked
from jaxsode.statistics import unpack

pytest.importorskip("ray", reason="Ray, the extra ray, isn't installed")

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
    """SIGKILL to one of Ray's processes that hold an actor of ours."""
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        if "ray::_Partial" in " ".join(process.info["cmdline"] or []):
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
