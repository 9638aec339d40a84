"""A threshold with a stated false-alarm rate, and p-values, from the scores of good pictures.

With N scores of good pictures as if unseen, the rate α and r = ⌈(N + 1)(1 − α)⌉, the threshold is the r-th
smallest score, and a picture whose score is greater is defective. With p = (1 + #{scores ≥ s})/(N + 1) that
is p ≤ α, and p ≤ (N + 1 − r)/(N + 1), the level that N attain: one rule for decisions and p-values, and, the
score being the map's maximum, for pixels too. Where the new good picture and the N are exchangeable, at most
α of good pictures are called defective (split conformal prediction; Vovk et al. 2005); given the N, the rate
is distributed as Beta(N + 1 − r, r), and the number of false alarms among m good pictures as
BetaBinomial(m, N + 1 − r, r).

Scores of the fitted pictures, each left out in turn, stand for those of unseen ones: then it is the
jackknife, right in practice and not by theorem, for each was scored by a model of one picture fewer.

A calibration belongs to one state of a detector's moments and to one region that is ignored. It lies beside
the saved detector, and is not read for another state.
"""

import base64
import dataclasses
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from jaxsode import checkpoint
from jaxsode.errors import ArgumentError, CheckpointError, DataError, JaxsodeError, NumericalError

FILE = "calibration.json"
SCHEMA = 1
LEAVE_ONE_OUT, UNSEEN = "leave-one-out", "unseen"
PICTURE_SCORE = "max"
"""A picture's score: the highest distance of its map that is judged."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of good pictures, and the false-alarm rate that is asked of them.

    Attributes:
        scores: (N,) float32, in the order of `names`.
        names: of the pictures.
        rate: α that was asked for, above 0 and below 1.
        source: "leave-one-out" of the fitted pictures, or "unseen" ones.
        ignored: (height, width) bool, True where nothing was judged; None where all was.
        groups: of each picture, where some were left out together; None where each was by itself.
        excluded: how many pictures were taken out of the fit by name.
        labelled: thresholds that labelled defects gave, and what they find; None without.
        state: of the saved detector, see `jaxsode.checkpoint.state`; "" in memory.

    Raises:
        ArgumentError: the rate is out of range.
        DataError: there are no scores.
        NumericalError: one isn't finite.
    """

    scores: np.ndarray
    names: tuple[str, ...]
    rate: float
    source: Literal["leave-one-out", "unseen"] = LEAVE_ONE_OUT
    ignored: np.ndarray | None = None
    groups: tuple[str, ...] | None = None
    excluded: int = 0
    labelled: Mapping[str, Any] | None = None
    state: str = ""

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if len(self.scores) == 0 or len(self.scores) != len(self.names):
            raise DataError(
                f"{len(self.names)} good pictures with {len(self.scores)} scores give no threshold: give more"
            )
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float32))
        if (bad := np.flatnonzero(~np.isfinite(self.scores))).size:
            raise NumericalError(f"{self.names[bad[0]]} has no finite score: leave it out, or raise epsilon")

    @property
    def pictures(self) -> int:
        """N."""
        return len(self.scores)

    @property
    def alpha(self) -> float:
        """The false-alarm rate that N pictures can promise: what was asked for, or 1/(N + 1) if more."""
        return float(max(_exact(self.rate), Fraction(1, self.pictures + 1)))

    @property
    def level(self) -> float:
        """(N + 1 − r)/(N + 1), the greatest p-value that is called defective; at most `alpha`."""
        return (self.pictures + 1 - self.rank) / (self.pictures + 1)

    @property
    def rank(self) -> int:
        """r = ⌈(N + 1)(1 − α)⌉, from 1 to N."""
        N = self.pictures
        return math.ceil((N + 1) * (1 - max(_exact(self.rate), Fraction(1, N + 1))))

    @property
    def threshold(self) -> float:
        """The r-th smallest score, in units of the distance; what is greater is defective."""
        return float(np.sort(self.scores)[self.rank - 1])

    @property
    def note(self) -> str | None:
        """What to know of the rate, in a line; None where it is the one that was asked for."""
        if _exact(self.rate) * (self.pictures + 1) >= 1:
            return None
        wanted = math.ceil(1 / _exact(self.rate)) - 1
        return (
            f"{self.pictures} good pictures can promise a false-alarm rate of {self.alpha:.3g} at the least, "
            f"not {self.rate:g}: that takes {wanted}"
        )

    def p_values(self, scores: Any) -> np.ndarray:
        """(1 + #{calibration scores ≥ s})/(N + 1) of each.

        Args:
            scores: (n,).

        Returns:
            (n,) float64 in (0, 1]; NaN where the score is.
        """
        s = np.asarray(scores, np.float32)
        below = np.searchsorted(np.sort(self.scores), s, side="left")
        return np.where(np.isnan(s), np.nan, (1 + self.pictures - below) / (self.pictures + 1))

    def defective(self, scores: Any) -> np.ndarray:
        """Whether each score is above the threshold; that is p ≤ `level`.

        Args:
            scores: (n,).

        Returns:
            (n,) bool.

        Raises:
            NumericalError: a score is NaN, of which nothing can be said.
        """
        s = np.asarray(scores, np.float32)
        if np.isnan(s).any():
            raise NumericalError("a picture without a score has no decision: see why its map is NaN")
        return s > np.float32(self.threshold)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The central interval of the true false-alarm rate, of Beta(N + 1 − r, r).

        Args:
            level: how probable it is, above 0 and below 1.
        """
        from scipy import stats  # .8 s to import, and few commands come here

        tail = (1 - level) / 2
        law = stats.beta(self.pictures + 1 - self.rank, self.rank)
        return float(law.ppf(tail)), float(law.ppf(1 - tail))

    def false_alarms(self, good: int, level: float = 0.95) -> tuple[int, int]:
        """The central interval of the number of false alarms, of BetaBinomial(m, N + 1 − r, r).

        Args:
            good: m, unseen good pictures.
            level: how probable it is at the least, above 0 and below 1.
        """
        from scipy import stats

        tail = (1 - level) / 2
        law = stats.betabinom(good, self.pictures + 1 - self.rank, self.rank)
        return int(law.ppf(tail)), int(law.ppf(1 - tail))

    def page(self) -> dict[str, Any]:
        """As JSON holds it; `of_page` reads it."""
        return {
            "schema": SCHEMA,
            "picture_score": PICTURE_SCORE,
            "state": self.state,
            "source": self.source,
            "rate": self.rate,
            "alpha": self.alpha,
            "threshold": self.threshold,
            "excluded": self.excluded,
            "labelled": None if self.labelled is None else dict(self.labelled),
            "ignored": None if self.ignored is None else _packed(self.ignored),
            "names": list(self.names),
            "scores": [float(score) for score in self.scores],
            "groups": None if self.groups is None else list(self.groups),
        }

    @classmethod
    def of_page(cls, page: Mapping[str, Any]) -> Self:
        """What `page` wrote.

        Args:
            page: by `page`.
        """
        if page["schema"] != SCHEMA or page["picture_score"] != PICTURE_SCORE:
            raise ValueError(f"schema {page['schema']}, picture score {page['picture_score']}")
        groups = page["groups"]
        made = cls(
            scores=np.array(page["scores"], np.float32),
            names=tuple(page["names"]),
            rate=page["rate"],
            source=page["source"],
            ignored=None if page["ignored"] is None else _unpacked(page["ignored"]),
            groups=None if groups is None else tuple(groups),
            excluded=page["excluded"],
            labelled=page["labelled"],
            state=page["state"],
        )
        if made.threshold != page["threshold"]:
            raise ValueError("the threshold isn't that of its scores")
        return made

    def write(self, folder: Path) -> None:
        """Write it beside a saved detector, whole, and bind it to that one's state.

        Args:
            folder: the detector's.

        Raises:
            CheckpointError: it can't be written, or there is no detector.
        """
        page = dataclasses.replace(self, state=checkpoint.state(folder)).page()
        part = folder / f".{FILE}.part"
        try:
            part.write_text(json.dumps(page, allow_nan=False) + "\n", encoding="utf-8")
            part.replace(folder / FILE)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CheckpointError(f"{folder / FILE} can't be written: {error.strerror}") from error


def read(folder: Path) -> tuple[Calibration | None, str | None]:
    """The calibration beside a saved detector.

    Args:
        folder: the detector's.

    Returns:
        The calibration, and None; or None, and why there is none that counts.

    Raises:
        CheckpointError: there is one, and it is damaged.
    """
    remedy = "jaxsode calibrate makes one"
    if not (folder / FILE).exists():
        return None, f"{folder} has no threshold: {remedy}"
    try:
        found = Calibration.of_page(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, JaxsodeError) as error:
        raise CheckpointError(f"{folder / FILE} is damaged: {remedy} anew ({error})") from error
    if found.state != checkpoint.state(folder):
        return None, f"the threshold in {folder} is another state's of the detector: {remedy}"
    return found, None


def check_rate(rate: float) -> None:
    """Refuse a false-alarm rate that is none.

    Args:
        rate: α.

    Raises:
        ArgumentError: it is not above 0 and below 1.
    """
    if not 0 < rate < 1:
        raise ArgumentError(f"the false-alarm rate is {rate:g}: it must be above 0 and below 1, such as 0.01")


def _exact(rate: float) -> Fraction:
    """The decimal number that was meant: 0.05 is a twentieth."""
    return Fraction(repr(float(rate)))


def _packed(ignored: np.ndarray) -> str:
    """A bool array as a PNG in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(ignored.astype(np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _unpacked(text: str) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) > 127
