"""The bench measures what it says: in turns, nothing compiled meanwhile, nothing timed that disagrees."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench import child, harness, limits
from bench.harness import BenchError, Contender, Deadline, Disagreement, TooSlow, check, race, relative_error
from bench.record import Result


def _noting(name, calls, **more):
    def call(*arguments):
        calls.append(name)
        return arguments

    return Contender(name, call, lambda result: result, **more)


def test_a_turn_begins_when_the_threads_of_the_last_one_sleep(monkeypatch):
    stop = threading.Event()

    def spin():
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        monkeypatch.setattr(harness, "PATIENCE", 0.05)
        with pytest.raises(BenchError, match="don't come to rest"):
            harness.rest()
        monkeypatch.setattr(harness, "PATIENCE", 60.0)
        threading.Timer(0.1, stop.set).start()
        harness.rest()
        assert stop.is_set()
    finally:
        stop.set()
        thread.join()


def test_contenders_take_turns_and_the_first_one_moves_on():
    calls: list[str] = []
    timings = race([_noting(name, calls) for name in "abc"], rounds=6, pause_s=0)
    assert "".join(calls[:6]) == "aabbcc"  # the first call, and one to warm up
    assert "".join(calls[6:]) == "abcbcacab" * 2
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 6, "b": 6, "c": 6}


def test_too_few_rounds_have_no_spread():
    with pytest.raises(BenchError, match="4 rounds"):
        race([_noting("a", [])], rounds=4)


def test_short_calls_are_repeated_and_their_mean_is_taken():
    calls: list[str] = []
    timing = race([_noting("a", calls)], least_s=0.001, pause_s=0)["a"]
    assert timing.calls > 1
    assert len(calls) == 2 + 5 * timing.calls
    assert max(timing.seconds) < 0.001


def test_what_is_prepared_is_passed_on_before_every_call():
    prepared: list[int] = []

    def prepare():
        prepared.append(len(prepared))
        return (prepared[-1],)

    seen: list[int] = []
    race([Contender("a", seen.append, lambda result: result, prepare)], pause_s=0)
    assert seen == prepared == list(range(7))


def test_rounds_that_would_take_too_long_are_not_begun():
    with pytest.raises(TooSlow, match="0 s are left"):
        race([_noting("a", [])], limit_s=0)


def test_compiling_while_timed_is_an_error():
    sizes = iter(range(1, 100))

    def call():
        return jax.jit(lambda x: x + 1)(jnp.zeros(next(sizes)))

    with pytest.raises(BenchError, match="compiled anew"):
        race([Contender("a", call)], pause_s=0)


def test_compilation_is_told_apart():
    function = jax.jit(lambda x: jnp.sin(x) @ x)
    x = jnp.ones((8, 8))
    timing = race([Contender("a", lambda: function(x))], pause_s=0)["a"]
    assert 0 < timing.compile_s <= timing.first_s
    record = timing.record(scale=2)
    assert record["median_s"] == 2 * np.median(timing.seconds)
    low, high = record["quartiles_s"]
    assert record["range_s"][0] <= low <= record["median_s"] <= high <= record["range_s"][1]


def test_relative_error():
    assert relative_error([1, 2.5], [1, 2]) == 0.25
    assert relative_error([1, np.nan], [1, 2]) == np.inf
    assert relative_error([1], [1, 2]) == np.inf


def test_disagreement_is_an_error():
    assert check("a", 1e-3, 1e-2) == 1e-3
    for error in (1e-1, np.inf, np.nan):
        with pytest.raises(Disagreement, match="a is off by"):
            check("a", error, 1e-2)


def test_the_first_setting_is_measured_however_long_it_takes():
    deadline = Deadline(minutes=0)
    assert not deadline.over
    assert deadline.limit_s() == np.inf
    assert deadline.over
    assert deadline.limit_s() <= 0


def test_deadline():
    assert Deadline(minutes=1).left_s > 50
    assert Deadline(minutes=0).left_s <= 0


def test_limits_are_rates_above_zero():
    found = limits.measure(quick=True)
    assert set(found) == {"bandwidth_gb_s", "matmul_gflop_s"}
    assert min(found.values()) > 0


def test_a_library_that_is_missing_or_broken_is_left_out_by_name(tmp_path, monkeypatch):
    result = Result("inverse", {}, tmp_path, silent=True)
    assert result.optional("math", "mathematics") is not None
    assert result.optional("no_such_library", "that") is None
    (tmp_path / "broken_library.py").write_text("raise OSError('a shared object is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    assert result.optional("broken_library", "this") is None
    assert [left["what"] for left in result.left_out] == ["that", "this"]
    assert "a shared object is missing" in result.left_out[1]["why"]


def test_no_result_of_the_day_is_overwritten(tmp_path):
    paths = [Result("inverse", {}, tmp_path, silent=True).save() for _ in range(3)]
    assert len(set(paths)) == 3
    assert paths[0].name.startswith("inverse-")


def test_a_childs_peak_is_its_own(tmp_path):
    """Not that of the process that started it, which may have held far more."""
    held = np.ones(400_000_000, np.uint8)
    setting = {"backbone": "resnet18", "size": (32, 32), "k": 2}
    parts = tmp_path / "parts.npz"
    from bench import ours
    from bench.setting import Setting

    ours.parts(Setting("resnet18", (32, 32), 2)).save(parts)
    found = child.measure(
        "peak",
        gigabytes=8,
        task="blocks",
        implementation="ours",
        parts=str(parts),
        pictures=2,
        batch=1,
        state_gb=1e-4,
        **setting,
    )
    assert held.nbytes < child.process_peak()
    assert 0 < found["before_bytes"] <= found["peak_bytes"] < child.process_peak()


def test_a_child_that_fails_says_why():
    with pytest.raises(child.ChildFailed, match=r"(?i)unexpected keyword|missing"):
        child.measure("peak", gigabytes=8, nonsense=1)


def test_a_child_that_needs_too_much_says_so(tmp_path):
    from bench import ours
    from bench.setting import Setting

    ours.parts(Setting("resnet18", (1024, 1024), 200)).save(tmp_path / "parts.npz")  # 10 GB of state
    with pytest.raises(child.ChildFailed, match="needs more than 2 GB"):
        child.measure(
            "peak",
            gigabytes=2,
            task="score",
            implementation="ours",
            backbone="resnet18",
            size=(1024, 1024),
            k=200,
            parts=str(tmp_path / "parts.npz"),
            pictures=1,
            batch=1,
        )
