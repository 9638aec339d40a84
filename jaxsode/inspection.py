"""From prepared pictures to maps, scores, p-values and decisions: the one way, which every command takes."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode import calibration as calibrations
from jaxsode import checkpoint
from jaxsode.backbones.protocol import Backbone
from jaxsode.calibration import Calibration
from jaxsode.detector import Detector
from jaxsode.errors import ArgumentError, NumericalError
from jaxsode.fitting import grid_of
from jaxsode.preparation import Preparation
from jaxsode.regions import on_original, regions
from jaxsode.scoring import anomaly_maps


@dataclass(frozen=True, eq=False)
class Inspected:
    """Of N pictures.

    Attributes:
        maps: (N, height, width) float32 distances; NaN where nothing is judged.
        scores: (N,) float32, each map's maximum; NaN where the map isn't finite.
        p_values: (N,); None without a threshold.
        defective: (N,) bool; None without a threshold. True where the score is NaN: nothing says that it is
            good.
    """

    maps: np.ndarray
    scores: np.ndarray
    p_values: np.ndarray | None
    defective: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Inspector:
    """A detector, its threshold, and what is ignored.

    Attributes:
        detector: fitted.
        calibration: None where there is no threshold.
        ignored: (height, width) bool, True where nothing matters; None where all does.
        why_no_threshold: in a line; None where there is one.
    """

    detector: Detector
    calibration: Calibration | None = None
    ignored: np.ndarray | None = None
    why_no_threshold: str | None = None

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        ignored: np.ndarray | None = None,
        backbone: Backbone | None = None,
        keep_moments: bool = False,
    ) -> Self:
        """What `jaxsode fit` left.

        Args:
            folder: with a detector, and a calibration or none.
            ignored: see `Inspector`; None is the calibration's own.
            backbone, keep_moments: see `Detector.load`.

        Raises:
            CheckpointError: there is no detector, or something is damaged.
            ArgumentError: its pictures were padded.
        """
        folder = checkpoint.folder_at(folder)
        calibration, why = calibrations.read(folder)
        detector = Detector.load(folder, backbone=backbone, keep_moments=keep_moments)
        check_preparation(detector)
        if calibration is not None and ignored is not None and not _same(ignored, calibration.ignored):
            calibration, why = (
                None,
                (
                    "the threshold was made with another --ignore-mask: scores and maps come without one, "
                    "until jaxsode calibrate makes one with this mask"
                ),
            )
        if calibration is not None and ignored is None:
            ignored = calibration.ignored
        return cls(detector, calibration, ignored, why)

    def __call__(self, pictures: Any) -> Inspected:
        """Maps, scores, p-values and decisions.

        Args:
            pictures: (N, height, width, 3 or 1) as for `Detector.anomaly_map`; the same N is compiled once.

        Raises:
            ArgumentError: see `Detector.anomaly_map`.
        """
        return self.of_maps(np.asarray(self.detector.anomaly_map(pictures, ignored=self.ignored)))

    def of_maps(self, maps: np.ndarray) -> Inspected:
        """The same of maps that this detector made, with this `ignored`.

        Args:
            maps: (N, height, width).
        """
        scores = self.scores(maps)
        if self.calibration is None:
            return Inspected(maps, scores, None, None)
        finite = np.isfinite(scores)
        defective = np.ones(len(scores), bool)
        defective[finite] = self.calibration.defective(scores[finite])
        return Inspected(maps, scores, self.calibration.p_values(scores), defective)

    def score_samples(self, pictures: Any) -> np.ndarray:
        """scikit-learn's word for −score: higher is more normal.

        Args:
            pictures: as for `__call__`.

        Returns:
            (N,) float32; NaN where a map isn't finite.
        """
        return -self(pictures).scores

    def decision_function(self, pictures: Any) -> np.ndarray:
        """scikit-learn's word for threshold − score: below 0 is an outlier.

        Args:
            pictures: as for `__call__`.

        Returns:
            (N,) float32; NaN where a map isn't finite.

        Raises:
            ArgumentError: there is no threshold.
        """
        return np.float32(self._decided().threshold) + self.score_samples(pictures)

    def predict(self, pictures: Any) -> np.ndarray:
        """scikit-learn's word for the decision.

        Args:
            pictures: as for `__call__`.

        Returns:
            (N,) int: 1 is good, −1 defective; −1 too where the score is NaN.

        Raises:
            ArgumentError: there is no threshold.
        """
        self._decided()
        defective = self(pictures).defective
        assert defective is not None
        return np.where(defective, -1, 1)

    def told(self, inspected: Inspected, i: int, original: tuple[int, int]) -> dict[str, Any]:
        """One picture's result as the commands tell it.

        Args:
            inspected: of several.
            i: its place.
            original: (height, width) of the picture itself, upright where that is asked for.

        Returns:
            `score`, `p_value`, `decision` ("good" or "defective"), `regions` above the threshold, each a dict
            in the original's pixels, and their `area`; all but the score None without a threshold.

        Raises:
            NumericalError: it has no finite score.
        """
        score = float(inspected.scores[i])
        if not np.isfinite(score):
            raise NumericalError("it has no finite score: check the picture")
        told: dict[str, Any] = {"score": score}
        if self.calibration is None or inspected.p_values is None or inspected.defective is None:
            return told | dict.fromkeys(("p_value", "decision", "regions", "area"))
        preparation = self.detector.preparation or Preparation(upright=True)
        placing = preparation.placing(original, self.detector.size)
        found = regions(inspected.maps[i], self.calibration.threshold)
        told["p_value"] = float(inspected.p_values[i])
        told["decision"] = "defective" if inspected.defective[i] else "good"
        told["regions"] = [asdict(on_original(region, placing)) for region in found]
        told["area"] = sum(region["area"] for region in told["regions"])
        return told

    def scores(self, maps: np.ndarray) -> np.ndarray:
        """Each map's maximum over what is judged.

        Args:
            maps: (N, height, width), with this `ignored`.

        Returns:
            (N,) float32; NaN where a map isn't finite.
        """
        return np.max(maps[:, self.judged], axis=1)

    def _decided(self) -> Calibration:
        if self.calibration is None:
            raise ArgumentError(self.why_no_threshold or "there is no threshold: give a calibration")
        return self.calibration

    @cached_property
    def judged(self) -> np.ndarray:
        """(height, width) bool, where maps have a value."""
        if self.ignored is None:
            return np.ones(self.detector.size, bool)
        grid = grid_of(self.detector.backbone, self.detector.size)
        ones = jnp.ones((1, *grid), jnp.float32)
        method = self.detector.method
        with jax.ensure_compile_time_eval():
            even = anomaly_maps(ones, self.detector.size, method.sigma, jnp.asarray(self.ignored))
        judged = np.isfinite(np.asarray(even[0]))
        if not judged.any():
            raise ArgumentError("what is ignored leaves no location of the features: ignore less")
        return judged


def check_preparation(detector: Detector) -> None:
    """Refuse a detector whose pictures were padded: what counts of them is known to `jaxsode run` alone.

    Args:
        detector: loaded.

    Raises:
        ArgumentError: they were.
    """
    if detector.preparation is not None and detector.preparation.resize == "pad":
        raise ArgumentError(
            "the detector was fitted on padded pictures: fit it with --resize squeeze or crop, or score with "
            "jaxsode run --resize pad"
        )


def _same(one: np.ndarray, other: np.ndarray | None) -> bool:
    return np.array_equal(one, np.zeros_like(one) if other is None else other)
