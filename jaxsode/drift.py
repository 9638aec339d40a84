"""Whether the last scores still look like those of the calibration, or light, camera, product have changed.

A fixed calibration set makes p-values of good pictures that are not uniform even where nothing has changed,
so that a test of uniformity would alarm by itself. So two samples are compared, by the rank sum of Wilcoxon,
Mann and Whitney: the last M scores against the N of the calibration. Under no change every order of all of
them is as probable as any other, whatever the scores' distribution, and so the highest that the statistic
gets in a run of LOOKS pictures has a distribution that depends on N, M and LOOKS alone. The alarm's limit is
its quantile, by simulation with a fixed seed: of runs of LOOKS unchanged pictures at most RATE ever alarm,
each of the looks counted, either direction.

Pictures that were decided defective are counted apart: many defects are no drift. That takes the highest
scores of good ones out too, and so the calibration's own above the threshold are left out alike, here and in
the simulation.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from jaxsode.errors import ArgumentError

RATE = 0.01
"""Of runs of LOOKS unchanged pictures, those that may ever alarm."""

LOOKS = 1000
WINDOW = 50
"""M, the scores that are compared."""

_LEAST = 10  # scores in the window before it is looked at
_RUNS = 4000
_QUANTILE = 0.6  # of RATE: the simulation's own error at 4,000 runs is a quarter of it


@dataclass
class Drift:
    """The last scores against the calibration's.

    Attributes:
        calibration: (N,) its scores.
        threshold: above which a picture is defective; None where no picture is decided.
        window: M.
        recent: the last scores of pictures that were not defective, at most M.
        defective: how many were.
        seen: how many there were in all.
        alarmed: whether the alarm was given.
    """

    calibration: np.ndarray
    threshold: float | None = None
    window: int = WINDOW
    recent: list[float] = field(default_factory=list)
    defective: int = 0
    seen: int = 0
    alarmed: bool = False

    def __post_init__(self) -> None:
        scores = np.sort(np.asarray(self.calibration, np.float64))
        if not len(scores) or not np.isfinite(scores).all():
            raise ArgumentError("drift compares with the calibration's scores: give them, all finite")
        self._all = len(scores)
        self._kept = scores if self.threshold is None else scores[scores <= self.threshold]

    @property
    def statistic(self) -> float:
        """The standardised rank sum of the last scores: above 0 where they are higher; 0 with too few."""
        if len(self.recent) < _LEAST or len(self._kept) < 2:
            return 0.0
        recent = np.array(self.recent)
        below = np.searchsorted(self._kept, recent, side="left")
        upto = np.searchsorted(self._kept, recent, side="right")
        return float(_standardised(np.sum(below + upto) / 2, len(self._kept), len(recent)))

    @property
    def limit(self) -> float:
        """What the statistic doesn't pass, either way, but in a share RATE of unchanged runs."""
        above = None if self.threshold is None else self._all - len(self._kept)
        return limit(self._all, above, self.window)

    def add(self, score: float, defective: bool) -> str | None:
        """One more picture.

        Args:
            score: finite.
            defective: what it was decided to be.

        Returns:
            The alarm, in a line, the first time that it is given; else None.
        """
        self.seen += 1
        if defective:
            self.defective += 1
            return None
        self.recent = [*self.recent, float(score)][-self.window :]
        z = self.statistic
        if self.alarmed or abs(z) <= self.limit:
            return None
        self.alarmed = True
        return (
            f"drift: the last {len(self.recent)} scores are {'higher' if z > 0 else 'lower'} than the "
            f"calibration's ({z:+.1f} deviations, after {self.seen} pictures): light, camera or product have "
            "changed; look, then calibrate or fit again"
        )

    def page(self) -> dict[str, Any]:
        """What `resumed` goes on from, as JSON holds it."""
        return {
            "recent": self.recent,
            "defective": self.defective,
            "seen": self.seen,
            "alarmed": self.alarmed,
        }

    def resumed(self, page: dict[str, Any]) -> "Drift":
        """With what another had seen.

        Args:
            page: by `page`, of the same calibration.
        """
        return Drift(self.calibration, self.threshold, self.window, **page)


@lru_cache(maxsize=32)
def limit(scores: int, above: int | None, window: int) -> float:
    """The quantile of the highest absolute statistic in LOOKS unchanged pictures.

    Args:
        scores: N of the calibration.
        above: of them, how many are above the threshold and left out, as are the pictures above it; None
            where no picture is decided.
        window: M.

    Returns:
        It, of 4,000 runs simulated from a fixed seed.
    """
    rng = np.random.default_rng((scores, above or 0, window))
    highest = np.zeros(_RUNS)
    kept = scores - (above or 0)
    if kept < 2:
        return float("inf")
    for run in range(_RUNS):
        calibration = np.sort(rng.random(scores))[:kept]
        stream = rng.random(LOOKS)
        if above is not None:
            stream = stream[stream <= calibration[-1]]
        below = np.searchsorted(calibration, stream)
        total = np.concatenate([[0], np.cumsum(below)])
        n = np.arange(_LEAST, len(stream) + 1)
        m = np.minimum(n, window)
        sums = total[n] - total[n - m]
        highest[run] = np.max(np.abs(_standardised(sums, kept, m)), initial=0.0)
    return float(np.quantile(highest, 1 - RATE * _QUANTILE))


def _standardised(ranks_below: Any, n: int, m: Any) -> Any:
    """(U − nm/2) / √(nm(n + m + 1)/12)."""
    return (ranks_below - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
