import gc
import threading
import time

import pytest

from jaxsode.datasets.workers import in_order


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("jaxsode")]


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (4, 1), (4, 7), (3, 100)])
def test_results_come_in_order(workers: int, ahead: int):
    def slow_where_even(item: int) -> int:
        time.sleep(0.004 * (item % 2 == 0))
        return item * item

    results = list(in_order(slow_where_even, range(20), workers=workers, ahead=ahead))
    assert results == [item * item for item in range(20)]
    assert not our_threads()


def test_nothing_to_do():
    assert list(in_order(str, [], workers=2, ahead=2)) == []


def test_work_ahead_is_bounded():
    begun: list[int] = []
    results = in_order(lambda item: begun.append(item), range(1000), workers=4, ahead=5)
    for taken in range(1, 50):
        next(results)
        assert len(begun) <= taken + 5
    results.close()


def test_an_error_comes_in_its_turn():
    results = in_order(lambda item: 1 // (3 - item), range(10), workers=4, ahead=8)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not our_threads()


@pytest.mark.parametrize("how", ["close", "drop"])
def test_stopping_early_leaves_no_thread(how: str):
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)

    results = in_order(work, range(1000), workers=2, ahead=500)
    next(results)
    assert our_threads()
    if how == "close":
        results.close()
    del results
    gc.collect()
    assert not our_threads()
    assert len(begun) < 100
