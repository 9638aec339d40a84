"""Work done ahead by a few threads, handed over in order."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Generator[Result, None, None]:
    """`function` of each item, in the items' order, computed by `workers` threads.

    At most `ahead` + 1 results are under way or waiting, so memory is bounded. An error in a thread is
    raised where its result would have come. When the iterator is closed or dropped early, what has not
    begun is called off, and the threads have ended before `close` returns.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="jaxsode") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
