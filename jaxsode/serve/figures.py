"""What the service counts, in Prometheus' text format (version 0.0.4)."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PICTURES = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """Counts by upper bounds.

    Args:
        bounds: in ascending order.
    """

    def __init__(self, bounds: Sequence[float]):
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value.

        Args:
            value: of any size.
        """
        place = next((i for i, bound in enumerate(self.bounds) if value <= bound), len(self.bounds))
        self.counts[place] += 1
        self.sum += value

    def lines(self, name: str) -> list[str]:
        """As text.

        Args:
            name: of the metric.
        """
        total, lines = 0, []
        for bound, count in zip([*map(_number, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {_number(self.sum)}", f"{name}_count {total}"]


class Figures:
    """Counters and histograms of one service; any thread may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.pictures: Counter[str] = Counter({"good": 0, "defective": 0, "undecided": 0})
        self.refused: Counter[str] = Counter()
        self._requests = Histogram(SECONDS)
        self._batches = Histogram(PICTURES)
        self._computing = 0.0

    def picture(self, decision: str | None) -> None:
        """A picture was judged.

        Args:
            decision: "good", "defective", or None without a threshold.
        """
        with self._lock:
            self.pictures[decision or "undecided"] += 1

    def refusal(self, status: int) -> None:
        """A request was answered by an error.

        Args:
            status: of HTTP.
        """
        with self._lock:
            self.refused[str(status)] += 1

    def request(self, seconds: float) -> None:
        """A request for predictions was answered.

        Args:
            seconds: from its head to its answer.
        """
        with self._lock:
            self._requests.add(seconds)

    def batch(self, pictures: int, seconds: float) -> None:
        """A batch was computed.

        Args:
            pictures: in it, without padding.
            seconds: that it took.
        """
        with self._lock:
            self._batches.add(pictures)
            self._computing += seconds

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """All of it.

        Args:
            gauges: by name, what each is and its value of now.
        """
        with self._lock:
            parts = [
                *_head("jaxsode_pictures_total", "counter", "Pictures judged, by decision."),
                *(f'jaxsode_pictures_total{{decision="{d}"}} {n}' for d, n in self.pictures.items()),
                *_head("jaxsode_refused_total", "counter", "Requests answered by an error, by HTTP status."),
                *(f'jaxsode_refused_total{{status="{s}"}} {n}' for s, n in self.refused.items()),
                *_head("jaxsode_request_seconds", "histogram", "From a request's head to its answer."),
                *self._requests.lines("jaxsode_request_seconds"),
                *_head("jaxsode_batch_pictures", "histogram", "Pictures computed at once."),
                *self._batches.lines("jaxsode_batch_pictures"),
                *_head("jaxsode_computing_seconds_total", "counter", "Seconds spent on batches."),
                f"jaxsode_computing_seconds_total {_number(self._computing)}",
            ]
        for name, (says, value) in gauges.items():
            parts += [*_head(name, "gauge", says), f"{name} {_number(value)}"]
        return "\n".join(parts) + "\n"


def _head(name: str, kind: str, says: str) -> list[str]:
    return [f"# HELP {name} {says}", f"# TYPE {name} {kind}"]


def _number(value: float) -> str:
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}[str(value)]
    return f"{value:.10g}"
