"""Drift over the service's life, and in a file beyond it: written whole, never into the detector's folder."""

import hashlib
import json
import threading
import time
from pathlib import Path

import numpy as np

from jaxsode.calibration import Calibration
from jaxsode.drift import Drift
from jaxsode.errors import ArgumentError, DataError, OutputError
from jaxsode.home import readable
from jaxsode.report import write_json

SCHEMA = 1
EVERY_S = 5.0
"""Between writings; the last one is when the service ends."""


class Watch:
    """The drift of what one service sees; any thread may add to it.

    Args:
        calibration: that it is compared with.
        path: of the file; None keeps it in memory.

    Raises:
        DataError: the file is damaged, or another calibration's.
        OutputError: it can't be written.
    """

    def __init__(self, calibration: Calibration, path: Path | None = None):
        self._path = path
        self._lock = threading.Lock()
        scores = np.asarray(calibration.scores, np.float32)
        self._of = hashlib.sha256(scores.tobytes() + np.float32(calibration.threshold).tobytes()).hexdigest()
        self._drift = Drift(calibration.scores, calibration.threshold)
        self.limit = self._drift.limit
        self.alarm: str | None = None
        self._written = time.monotonic()
        if path is not None and path.exists():
            self._drift = self._drift.resumed(self._read(path))
            self.alarm = _ALARMED if self._drift.alarmed else None
        self.write()

    @property
    def statistic(self) -> float:
        """See `Drift.statistic`."""
        with self._lock:
            return self._drift.statistic

    @property
    def seen(self) -> int:
        """Pictures."""
        return self._drift.seen

    def add(self, score: float, defective: bool) -> str | None:
        """One more picture.

        Args:
            score: finite.
            defective: what it was decided to be.

        Returns:
            The alarm, the first time that it is given; else None.
        """
        with self._lock:
            alarm = self._drift.add(score, defective)
            self.alarm = alarm or self.alarm
            due = time.monotonic() - self._written > EVERY_S
        if due:
            self.write()
        return alarm

    def line(self) -> str:
        """What to know, in a line."""
        if self.alarm is not None:
            return self.alarm
        with self._lock:
            seen, recent, z = self._drift.seen, len(self._drift.recent), self._drift.statistic
        if not z:
            return f"drift: {seen} pictures seen; too few to compare with the good pictures' scores"
        return (
            f"no drift: the last {recent} scores of good pictures lie where the calibration's do "
            f"({z:+.1f} deviations; {self.limit:.1f} would be an alarm)"
        )

    def write(self) -> None:
        """Write the file now, if there is one.

        Raises:
            OutputError: it can't be written.
        """
        if self._path is None:
            return
        with self._lock:
            page = {"schema": SCHEMA, "calibration": self._of, "drift": self._drift.page()}
            self._written = time.monotonic()
            try:
                write_json(self._path, page)
            except OSError as error:
                raise OutputError(f"{readable(self._path)} can't be written: {error.strerror}") from error

    def _read(self, path: Path) -> dict[str, object]:
        try:
            page = json.loads(path.read_text(encoding="utf-8"))
            if page["schema"] != SCHEMA:
                raise ValueError(f"schema {page['schema']}")
            of, drift = page["calibration"], page["drift"]
            resumed = self._drift.resumed(drift)
            counts = (resumed.defective, resumed.seen, resumed.alarmed)
            if not np.isfinite(np.asarray(resumed.recent, np.float64)).all() or not all(
                isinstance(each, int) and each >= 0 for each in counts
            ):
                raise ValueError("no scores and counts")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{readable(path)} is not a service's state, or damaged: name another --state ({error})"
            ) from error
        if of != self._of:
            raise DataError(
                f"{readable(path)} is the state of another detector or threshold: name another --state, or "
                "remove it"
            )
        return drift


_ALARMED = "drift: it was alarmed before the service started: look, then calibrate or fit again"


def check_outside(path: Path, folder: Path) -> None:
    """Refuse a state file within the detector's folder.

    Args:
        path: of the file.
        folder: the detector's.

    Raises:
        ArgumentError: it lies there.
    """
    if folder.resolve() in path.resolve().parents:
        raise ArgumentError(
            f"--state {readable(path)} is in the detector's folder, which stays as it is: name a file "
            "elsewhere"
        )
