"""From uint8 pictures to map, score, p-value and decision: one pure function, as a pytree of its arrays.

What `jaxsode.inspection.Inspector` does on the host, for a JAX program: it goes through jit, vmap, sharding
and `jax.export` as it is, and holds nothing that scoring doesn't need.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import NumericalError
from jaxsode.fitting import embedded
from jaxsode.inspection import Inspector
from jaxsode.scoring import anomaly_maps, distances


class Judgement(NamedTuple):
    """Of N pictures.

    Attributes:
        map: (N, height, width) float32 distances; NaN where nothing is judged.
        score: (N,) float32, each map's maximum over what is judged; NaN where the map isn't finite there.
        p_value: (N,) float32 in (0, 1], or NaN where the score is; None without a threshold.
        defective: (N,) bool, score > threshold; True where the score is NaN, for nothing says that it is
            good; None without a threshold.
    """

    map: jax.Array
    score: jax.Array
    p_value: jax.Array | None
    defective: jax.Array | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Judge:
    """What turns pictures into judgements; make it by `of`.

    Attributes:
        backbone: pictures → feature maps.
        W: (F, k) the embedding.
        mean: (H, W, k) μ.
        precision: of each location, or one for all; see `jaxsode.algebra.precision`. Its arrays may be kept
            in a shorter type: they are computed with in that of `mean`.
        ignored: (height, width) bool, True where nothing matters; None where all does.
        judged: (height, width) bool, where maps have a value; None where they have one everywhere.
        scores: (N,) float32, the calibration's, in ascending order; None without a threshold.
        p_values: (N + 1,) float32, that of a score above all of `scores`, and of one that ties with each.
        threshold: () float32, what is greater is defective; None likewise.
        size: (height, width) of the pictures.
        sigma, pooling, align: see `jaxsode.Method`.
    """

    backbone: Backbone
    W: jax.Array
    mean: jax.Array
    precision: Any
    ignored: jax.Array | None
    judged: jax.Array | None
    scores: jax.Array | None
    p_values: jax.Array | None
    threshold: jax.Array | None
    size: tuple[int, int] = field(metadata={"static": True})
    sigma: float = field(metadata={"static": True})
    pooling: int | tuple[int, ...] = field(metadata={"static": True})
    align: str = field(metadata={"static": True})

    @classmethod
    def of(cls, inspector: Inspector) -> Self:
        """What an inspector does to pictures.

        Args:
            inspector: a detector with its threshold and what is ignored.

        Raises:
            NumericalError: one of its arrays isn't finite.
            ArgumentError: what is ignored leaves nothing.
        """
        detector, calibration = inspector.detector, inspector.calibration
        m = detector.method
        scores = np.sort(calibration.scores) if calibration is not None else ()
        made = cls(
            backbone=detector.backbone,
            W=detector.W,
            mean=detector.mean,
            precision=detector.precision,
            ignored=None if inspector.ignored is None else jnp.asarray(inspector.ignored),
            judged=None if inspector.ignored is None else jnp.asarray(inspector.judged),
            scores=None if calibration is None else jnp.asarray(scores),
            p_values=None
            if calibration is None
            else jnp.asarray(calibration.p_values([np.inf, *scores]), jnp.float32),
            threshold=None if calibration is None else jnp.float32(calibration.threshold),
            size=detector.size,
            sigma=m.sigma,
            pooling=m.pooling,
            align=m.align,
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(made):
            if not np.isfinite(np.asarray(leaf)).all():
                raise NumericalError(
                    f"{jax.tree_util.keystr(path).lstrip('.')} of the detector isn't finite: fit it again"
                )
        return made

    def __call__(self, pictures: jax.Array) -> Judgement:
        """Maps, scores, p-values and decisions.

        Args:
            pictures: (N, height, width, 3 or 1) of `size`, uint8, or float in [0, 1].

        Returns:
            Of each picture by itself. Its decision is that p ≤ the calibration's level, and that some judged
            pixel of the map is above the threshold.
        """
        z = embedded(self.backbone, self.W, jnp.asarray(pictures), pooling=self.pooling, align=self.align)
        precision = jax.tree.map(lambda x: x.astype(self.mean.dtype), self.precision)
        distance = distances(z, self.mean, precision)
        maps = anomaly_maps(distance, self.size, self.sigma, self.ignored)
        counts = maps if self.judged is None else jnp.where(self.judged[None], maps, 0)
        # Distances are never below 0. A maximum may pass over NaN (ONNX leaves that open); a sum doesn't.
        score = jnp.max(counts, axis=(1, 2)) + jnp.sum(counts * 0, axis=(1, 2))
        if self.scores is None or self.p_values is None or self.threshold is None:
            return Judgement(maps, score, None, None)
        # The greatest of those that it doesn't exceed: they are kept, for a compiler may divide by N + 1 by
        # multiplying with its reciprocal, which is not the same number.
        least, ties = self.p_values[0], self.p_values[1:]
        p_value = jnp.max(jnp.where(score[:, None] <= self.scores[None], ties[None], least), axis=1)
        p_value = jnp.where(score == score, p_value, jnp.nan)
        return Judgement(maps, score, p_value, ~(score <= self.threshold))
