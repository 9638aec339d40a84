"""The engine, the places, the figures and the drift's state, each by itself."""

import json
import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsode.calibration import Calibration
from jaxsode.errors import ArgumentError, DataError, OutputError
from jaxsode.inspection import Inspected
from jaxsode.serve.engine import Engine, Full, Places
from jaxsode.serve.figures import Figures, Histogram
from jaxsode.serve.state import Watch, check_outside


class Slow:
    """An inspector whose score is the picture's first number, and which waits until it is let go."""

    detector = SimpleNamespace(size=(2, 2))

    def __init__(self):
        self.sizes = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, pictures):
        self.sizes.append(len(pictures))
        assert self.go.wait(10)
        if (pictures == 255).any():
            raise ValueError("no")
        maps = pictures[..., 0].astype(np.float32)
        return Inspected(maps, maps[:, 0, 0], None, None)


def _picture(value):
    return np.full((2, 2, 3), value, np.uint8)


def test_what_waits_is_computed_together_in_one_of_two_sizes():
    slow, batches = Slow(), []
    engine = Engine(slow, 4, lambda n, s: batches.append(n))
    engine.start()
    assert sorted(slow.sizes) == [1, 4]
    slow.go.clear()
    first = engine.submit(_picture(1))
    while len(slow.sizes) < 3:
        pass
    rest = [engine.submit(_picture(value)) for value in range(2, 9)]
    slow.go.set()
    for value, future in enumerate([first, *rest], 1):
        judged = future.result(10)
        assert judged.inspected.scores[judged.index] == value
        assert (judged.anomaly_map == value).all()
    assert slow.sizes[2:] == [1, 4, 4]
    assert batches == [1, 4, 3]
    engine.stop()
    with pytest.raises(RuntimeError):
        engine.submit(_picture(1))


def test_who_no_longer_waits_is_passed_over():
    slow = Slow()
    engine = Engine(slow, 1)
    engine.start()
    slow.go.clear()
    first, gone, last = (engine.submit(_picture(value)) for value in (1, 2, 3))
    while len(slow.sizes) < 2:
        pass
    assert gone.cancel()
    slow.go.set()
    assert first.result(10).inspected.scores[0] == 1
    assert last.result(10).inspected.scores[0] == 3
    assert len(slow.sizes) == 3
    engine.stop()


def test_an_error_goes_to_who_waits_and_the_next_is_computed():
    engine = Engine(Slow(), 1)
    engine.start()
    with pytest.raises(ValueError, match="no"):
        engine.submit(_picture(255)).result(10)
    assert engine.submit(_picture(7)).result(10).inspected.scores[0] == 7
    engine.stop()


def test_to_stop_is_to_finish():
    slow = Slow()
    engine = Engine(slow, 2)
    engine.start()
    slow.go.clear()
    futures = [engine.submit(_picture(value)) for value in range(5)]
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    slow.go.set()
    stopping.join(10)
    assert [future.result(0).inspected.scores[future.result(0).index] for future in futures] == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_places_are_taken_all_or_none():
    places = Places(3)
    places.take(2)
    with pytest.raises(Full):
        places.take(2)
    assert places.taken == 2
    places.take()
    places.give(3)
    assert places.taken == 0


def test_figures_are_prometheus_text():
    figures = Figures()
    for decision in ("good", "good", "defective", None):
        figures.picture(decision)
    figures.refusal(503)
    figures.request(0.03)
    figures.batch(3, 0.5)
    text = figures.text({"jaxsode_queue_pictures": ("Places taken.", 2), "odd": ("No number.", float("nan"))})
    sample = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"\})? (-?[0-9.e+-]+|NaN|[+-]Inf)')
    named = set()
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            named.add(line.split()[2])
            continue
        assert line.startswith("# HELP ") or sample.fullmatch(line), line
        if not line.startswith("#"):
            name = line.partition(" ")[0].partition("{")[0]
            assert re.sub("_(bucket|sum|count)$", "", name) in named, line
    assert 'jaxsode_pictures_total{decision="good"} 2' in text
    assert 'jaxsode_refused_total{status="503"} 1' in text
    assert 'jaxsode_request_seconds_bucket{le="0.05"} 1' in text
    assert "jaxsode_batch_pictures_sum 3" in text
    assert "odd NaN" in text


def test_a_histogram_counts_what_is_at_a_bound_below_it():
    histogram = Histogram((1, 2))
    for value in (1, 1.5, 9):
        histogram.add(value)
    assert histogram.lines("h") == [
        'h_bucket{le="1"} 1', 'h_bucket{le="2"} 2', 'h_bucket{le="+Inf"} 3', "h_sum 11.5", "h_count 3"
    ]  # fmt: skip


def _calibration(scale=1.0):
    scores = scale * np.random.default_rng(0).normal(10, 1, 80).astype(np.float32)
    return Calibration(scores, tuple(map(str, range(80))), 0.05)


def test_drift_outlives_the_service(tmp_path):
    path = tmp_path / "deep" / "state.json"
    watch = Watch(_calibration(), path)
    assert path.exists()
    for score in np.random.default_rng(1).normal(10, 1, 30):
        watch.add(float(score), bool(score > _calibration().threshold))
    assert watch.line().startswith("no drift: the last ")
    watch.write()
    again = Watch(_calibration(), path)
    assert (again.seen, again.statistic) == (30, watch.statistic)
    alarms = [again.add(11.0, False) for _ in range(80)]
    assert sum(alarm is not None for alarm in alarms) == 1
    assert again.line().startswith("drift: the last ")
    again.write()
    assert "alarmed before" in Watch(_calibration(), path).line()


def test_the_file_is_written_in_the_course_of_it(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    watch = Watch(_calibration(), path)
    watch.add(10.0, False)
    assert json.loads(path.read_text())["drift"]["seen"] == 0
    monkeypatch.setattr("jaxsode.serve.state.EVERY_S", 0.0)
    watch.add(10.0, False)
    assert json.loads(path.read_text())["drift"]["seen"] == 2


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "calibration": "", "drift": {"x": 1}}']
)
def test_a_file_that_is_none_is_refused_and_kept(content, tmp_path):
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(DataError, match="not a service's state, or damaged"):
        Watch(_calibration(), path)
    assert path.read_text() == content


def test_scores_that_are_none_are_refused(tmp_path):
    path = tmp_path / "state.json"
    Watch(_calibration(), path)
    page = json.loads(path.read_text())
    for name, value in {"recent": ["high"], "seen": -1, "defective": 0.5}.items():
        path.write_text(json.dumps(page | {"drift": page["drift"] | {name: value}}))
        with pytest.raises(DataError, match="damaged"):
            Watch(_calibration(), path)


def test_anothers_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "state.json"
    Watch(_calibration(), path)
    before = path.read_bytes()
    with pytest.raises(DataError, match="another detector or threshold"):
        Watch(_calibration(2.0), path)
    assert path.read_bytes() == before


def test_where_it_may_not_be(tmp_path):
    (tmp_path / "d").mkdir()
    with pytest.raises(ArgumentError, match="in the detector's folder"):
        check_outside(tmp_path / "d" / "state.json", tmp_path / "d")
    check_outside(tmp_path / "state.json", tmp_path / "d")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        Watch(_calibration(), tmp_path / "file" / "state.json")
