"""Pictures of many requests in one bounded house, computed a batch at a time by one thread.

Whoever comes in takes a place before anything is read, and keeps it until the answer is made. With no place
free there is no entry: so what is held is bounded, and an answer that was promised is given.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from jaxsode.inspection import Inspected, Inspector


class Full(Exception):
    """There is no place: come again."""


class Places:
    """How many pictures may be in the house at once: being read, decoded, waiting or computed.

    Args:
        limit: of them.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.taken = 0
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> None:
        """Take places, all or none.

        Args:
            count: how many.

        Raises:
            Full: so many are not free.
        """
        with self._lock:
            if self.taken + count > self.limit:
                raise Full
            self.taken += count

    def give(self, count: int) -> None:
        """Give them back.

        Args:
            count: how many.
        """
        with self._lock:
            self.taken -= count


@dataclass(frozen=True, eq=False)
class Judged:
    """One picture's result.

    Attributes:
        inspected: of the batch that it was in.
        index: its place there.
    """

    inspected: Inspected
    index: int

    @property
    def anomaly_map(self) -> np.ndarray:
        """(height, width) float32."""
        return self.inspected.maps[self.index]


class Engine:
    """One thread that computes what waits.

    Args:
        inspector: see `Inspector`.
        batch_size: the most pictures that are computed at once.
        noted: is told each batch's number of pictures and its seconds.

    A batch is one picture, or padded to `batch_size`: two programs, both compiled by `start`, and nothing
    afterwards.
    """

    def __init__(
        self, inspector: Inspector, batch_size: int, noted: Callable[[int, float], object] = lambda n, s: None
    ):
        self._inspector = inspector
        self._batch_size = batch_size
        self._noted = noted
        self._waiting: deque[tuple[np.ndarray, Future[Judged]]] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="jaxsode-engine", daemon=True)

    def start(self) -> None:
        """Compile, then begin."""
        for rows in {1, self._batch_size}:
            self._inspector(np.zeros((rows, *self._inspector.detector.size, 3), np.uint8))
        self._thread.start()

    def stop(self) -> None:
        """Compute what waits, then end."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        self._thread.join()

    def submit(self, prepared: np.ndarray) -> "Future[Judged]":
        """A picture to be computed.

        Args:
            prepared: (height, width, 3) uint8, of the detector's size.

        Returns:
            What will hold its result.

        Raises:
            RuntimeError: the engine has ended.
        """
        future: Future[Judged] = Future()
        with self._changed:
            if self._ending:
                raise RuntimeError("the engine has ended")
            self._waiting.append((prepared, future))
            self._changed.notify()
        return future

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ending:
                    self._changed.wait()
                if not self._waiting:
                    return
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._batch_size))]
            # From here on nobody can cancel them, and a result can be set.
            batch = [each for each in taken if each[1].set_running_or_notify_cancel()]
            if not batch:
                continue
            start = time.perf_counter()
            try:
                rows = 1 if len(batch) == 1 else self._batch_size
                pictures = np.zeros((rows, *batch[0][0].shape), np.uint8)
                for i, (prepared, _) in enumerate(batch):
                    pictures[i] = prepared
                found = self._inspector(pictures)
            except Exception as error:  # whoever waits is told, and the next batch is computed
                for _, future in batch:
                    future.set_exception(error)
                continue
            self._noted(len(batch), time.perf_counter() - start)
            for i, (_, future) in enumerate(batch):
                future.set_result(Judged(found, i))
