"""Uninformed students (Bergmann et al. 2020, arXiv:1911.02357): a teacher, and an ensemble that imitates it.

The teacher, one small network, learns to give the deepest feature map in use of the backbone. Students of the
same architecture, each from its own random start, regress its descriptors on good pictures. Where they have
seen nothing alike they err, and disagree. See `distillation` for losses and score, `patch_network` for the
architecture, `training` for the loop. All good pictures are held in memory as they come, in uint8
N · height · width · channels bytes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.fitting import NO_PICTURES
from jaxsode.peers import patch_network
from jaxsode.peers.distillation import (
    Deepest,
    normalised,
    parts_of,
    standard,
    student_loss,
    teacher_loss,
)
from jaxsode.peers.protocol import Bar, no_bar, of_size
from jaxsode.peers.training import Trained, Training, train
from jaxsode.pictures import padded
from jaxsode.scoring import anomaly_maps

HELD_OUT = 10
"""Every tenth picture is held out, the first among them."""

TEACHER_RATE, STUDENT_RATE, DECAY = 2e-4, 1e-4, 1e-5


@dataclass(frozen=True)
class Student:
    """Settings of teacher and students.

    Attributes:
        students: M ≥ 2, of the ensemble; the paper's 3.
        width: of all networks, times the paper's channels; 0.25 is sixteen times cheaper.
        steps: of each network, at most; the paper's students see each picture a hundred times.
        every: steps between two looks at the held-out pictures.
        patience: looks without a new least loss after which a network's training stops.
        batch_size: pictures a step; the paper's 1.
        sigma: ≥ 0, of the anomaly map's Gaussian filter, in pixels; the paper has none.
        seed: of all random starts and orders.
        distill_on: batches of pictures, of one size, that the teacher learns from; None: the good ones.
        checkpoints: a folder, in which training goes on where it was interrupted; None: nothing is written.

    Raises:
        ArgumentError: a value out of its range.
    """

    students: int = 3
    width: float = 1.0
    steps: int = 20_000
    every: int = 200
    patience: int = 10
    batch_size: int = 1
    sigma: float = 0.0
    seed: int = 0
    distill_on: Iterable[Any] | None = field(default=None, compare=False)
    checkpoints: Path | None = None

    def __post_init__(self) -> None:
        least = {"students": 2, "steps": 1, "every": 1, "patience": 1, "batch_size": 1, "seed": 0}
        for name, smallest in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < smallest:
                raise ArgumentError(f"{name} = {value!r}: give a whole number, at least {smallest}")
        for name in ("width", "sigma"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < np.inf:
                raise ArgumentError(f"{name} = {value!r}: give a number, at least 0")
        patch_network.channels_of(self.width)

    def __str__(self) -> str:
        return f"student-width{self.width:g}-steps{self.steps}-seed{self.seed}"

    def page(self) -> dict[str, Any]:
        """The settings, as JSON holds them."""
        names = ("students", "width", "steps", "every", "patience", "batch_size", "sigma", "seed")
        return {"method": "student"} | {name: getattr(self, name) for name in names}

    def keeps(self, pictures: int, *, numbers: int, pixels: int) -> int:
        """See `Peer.keeps`: the pictures themselves, in uint8, while it trains."""
        return pictures * pixels

    def fit(self, batches: Iterable[Any], backbone: Backbone, /, *, bar: Bar | None = None) -> "StudentModel":
        """Train teacher and students.

        Args:
            batches, backbone: see `Peer.fit`.
            bar: counts the steps of each network.

        Returns:
            The model.

        Raises:
            ArgumentError: pictures of different sizes, or checkpoints of another training.
            DataError: fewer than two pictures.
            NumericalError: a loss or score that is not finite.
            CheckpointError: checkpoints that can't be read or written.
        """
        bar = bar or no_bar
        good, held_out = _split(_gathered(batches, what="fit"), what="fit")
        others = None
        if self.distill_on is not None:
            others = _split(_gathered(self.distill_on, what="distil"), what="distil")
        teacher = self._teacher(backbone, *(others or (good, held_out)), bar)
        network = teacher.params["network"]
        mean, scale = standard(network, good)
        students = [
            train(
                student_loss,
                patch_network.init(np.random.default_rng((self.seed, 1 + i)), width=self.width),
                (network, mean, scale),
                good,
                held_out,
                self._training(STUDENT_RATE, 1 + i),
                what=f"student {i + 1}",
                bar=bar,
                folder=self.checkpoints,
            )
            for i in range(self.students)
        ]
        params = tuple(student.params for student in students)
        parts = np.stack([parts_of(network, params, mean, scale, p[None]) for p in held_out])
        usual, spread = (f(parts, axis=(0, 2, 3, 4), dtype=np.float64) for f in (np.mean, np.std))
        if not (np.isfinite(spread).all() and (spread > 0).all()):
            raise NumericalError(
                f"the students' error and variance have deviations {spread.tolist()} on held-out pictures, "
                "by which no score can be divided: give other pictures"
            )
        return StudentModel(
            self,
            teacher,
            tuple(students),
            mean,
            scale,
            jnp.asarray(usual, jnp.float32),
            jnp.asarray(spread, jnp.float32),
            (good.shape[1], good.shape[2]),
            {
                "pictures": len(good) + len(held_out),
                "held_out": len(held_out),
                "distilled_on": "the good pictures" if others is None else f"{sum(map(len, others))} others",
            },
        )

    def _training(self, rate: float, number: int) -> Training:
        seed = self.seed * (1 + self.students) + number
        return Training(self.steps, self.every, self.patience, self.batch_size, rate, DECAY, seed)

    def _teacher(self, backbone: Backbone, pictures: np.ndarray, held_out: np.ndarray, bar: Bar) -> Trained:
        rng = np.random.default_rng((self.seed, 0))
        channels = backbone.channels[-1]
        network = patch_network.init(rng, width=self.width)
        descriptor = patch_network.channels_of(self.width)[-1]
        return train(
            teacher_loss,
            {"network": network, "decode": patch_network.dense(rng, (descriptor, channels))},
            (backbone, *standard(Deepest(backbone), pictures)),
            pictures,
            held_out,
            self._training(TEACHER_RATE, 0),
            what="teacher",
            bar=bar,
            folder=self.checkpoints,
        )


@dataclass(frozen=True)
class StudentModel:
    """A teacher and its students.

    Attributes:
        settings: see `Student`.
        teacher, students: with their learning curves.
        mean, scale: (d,) μ and 1 / σ of the teacher's descriptors.
        usual, spread: (2,) mean and deviation of e, then of v.
        size: (height, width) of the pictures.
        numbers: of pictures.
    """

    settings: Student
    teacher: Trained
    students: tuple[Trained, ...]
    mean: jax.Array
    scale: jax.Array
    usual: jax.Array
    spread: jax.Array
    size: tuple[int, int]
    numbers: dict[str, Any]

    def anomaly_map(self, pictures: Any, /) -> jax.Array:
        """(N, height, width), see `Model.anomaly_map`; of both signs, about 0 where all is as usual."""
        students = tuple(student.params for student in self.students)
        pixels = of_size(pictures, self.size)
        parts = parts_of(self.teacher.params["network"], students, self.mean, self.scale, pixels)
        score = normalised(parts, self.usual, self.spread)
        return anomaly_maps(score, self.size, float(self.settings.sigma))

    def page(self) -> dict[str, Any]:
        """See `Model.page`: settings, numbers of pictures, what was distilled on, and the learning curves."""
        curves = {"teacher": self.teacher, **{f"student {i + 1}": t for i, t in enumerate(self.students)}}
        return (
            self.settings.page()
            | self.numbers
            | {
                "grid": [-(-side // patch_network.STRIDE) for side in self.size],
                "receptive_field": patch_network.FIELD,
                "stopped_early": {name: trained.stopped for name, trained in curves.items()},
                "curves": {name: trained.curve for name, trained in curves.items()},
            }
        )


def _gathered(batches: Iterable[Any], *, what: str) -> np.ndarray:
    """(N, height, width, channels) of all pictures."""
    found = [np.asarray(pixels)[:valid] for pixels, valid in padded(batches)]
    if not found:
        raise DataError(NO_PICTURES if what == "fit" else "there are no pictures to distil on: give some")
    return np.concatenate(found)


def _split(pictures: np.ndarray, *, what: str) -> tuple[np.ndarray, np.ndarray]:
    """(to train on, held out)."""
    if len(pictures) < 2:
        raise DataError(f"one picture to {what} on, and training holds one out: give at least two")
    apart = np.arange(len(pictures)) % HELD_OUT == 0
    return pictures[~apart], pictures[apart]
