"""Groups of options that commands share: the data, the network, the method, the machine, the output."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxsode import datasets, report
from jaxsode.errors import ArgumentError
from jaxsode.experiment.plan import PRESETS, chosen
from jaxsode.metrics import PICTURE_SCORES

if TYPE_CHECKING:
    from jaxsode.remote import Workers


def _one_of(names: Iterable[str]) -> Any:
    return tyro.conf.arg(metavar=f"{{{','.join(names)}}}")


def _some_of(names: Iterable[str]) -> Any:
    return tyro.conf.arg(metavar=f"{{{','.join(names)}}} …")


@dataclass(frozen=True)
class Data:
    """The pictures."""

    dataset: Annotated[str, _one_of(datasets.NAMES)] = "demo"
    """Pictures to run on."""
    data_dir: Path | None = None
    """Where the data set lies: its folder, or its zip as published. The demo needs none."""
    fold: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--category", "--scene"])] = ("all",)
    """Splits to run, each with a model of its own: kolektor has the folds 1 2 3, mvtec_ad its categories,
    mstc its scenes, demo object and texture; or all of them."""
    download: bool = False
    """Get the data set from its publisher first, where there is a direct link, into the cache."""
    size: tuple[int, int] | None = None
    """Height and width that pictures are resized to; by default the data set's, of a folder of your own the
    pictures' aspect with a shorter side of 256."""
    resize: Literal["squeeze", "crop", "pad"] | None = None
    """What becomes of another aspect; by default it is squeezed. What is cropped or padded isn't judged."""
    range: Literal[255, 1023, 4095, 16383, 65535] | None = None
    """What is white in files of 16 bits; of a folder by default the least that no training picture passes."""
    max_pixels: int | None = None
    """A picture of more is refused; by default 178956970."""
    fit_on: int | None = None
    """How many of the good pictures are fitted on, drawn by the seed; by default all."""
    hold_out: float | None = None
    """Of a folder: the fraction of good pictures that is set apart for testing. By default none is, and where
    there are none for testing either, the fitted ones are scored as if unseen, each left out in turn."""
    on_bad_picture: Literal["stop", "skip"] | None = None
    """Of a folder: a picture that can't be used ends the run, or is counted and named. By default it ends."""


@dataclass(frozen=True)
class Network:
    """The backbone."""

    backbone: str | None = None
    """Pretrained network that gives the features; by default the data set's. See docs/how-to/backbones.md."""
    weights: str | None = None
    """File with its weights, or the word random; by default from the cache, its package or its publisher."""
    layers: tuple[int, ...] | None = None
    """Whose feature maps are used; by default the backbone's, 1 2 3."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the backbone computes in. All after it is float32."""


@dataclass(frozen=True)
class Methods:
    """What is fitted. Several values make a sweep."""

    method: Annotated[tuple[str, ...], _some_of(chosen()["method"])] = ("gaussian",)
    """A Gaussian at each location, the paper's method with all that follows; or what the paper compares it
    to: SPADE, the uninformed student."""
    embedding: Annotated[tuple[str, ...] | None, _some_of(chosen()["embedding"])] = None
    """How F features become k; identity keeps all F. By default semi-orthogonal."""
    k: tuple[int, ...] | None = None
    """Embedding size, or how many eigenvectors; by default the data set's, 100."""
    precision: Annotated[tuple[str, ...] | None, _some_of(chosen()["precision"])] = None
    """By default local, each location's own, the paper's method; shrunk, for few pictures; or another of its
    Table 1. Eigenvectors and full-rank want --embedding identity."""
    epsilon: tuple[str, ...] | None = None
    """ε, added to the diagonal of each covariance: a number; a share of the mean variance, 5%; or auto, the
    share under which good pictures foretell each other best. By default the data set's, 0.01."""
    preset: Annotated[str | None, _one_of(PRESETS)] = None
    """paper: all as in the paper. recommended: --pooling 3 --epsilon 5%, the default of a folder of your own.
    few: --precision shrunk --epsilon auto, for fewer than 50 good pictures. What else is given is kept."""
    pooling: tuple[str, ...] | None = None
    """Side of the window that features are averaged over: 1 averages nothing, 3 over 3 × 3 locations; or one
    for each layer, 3,1,1."""
    align: Annotated[tuple[str, ...] | None, _some_of(chosen()["align"])] = None
    """How coarser layers come onto the finest grid; by default nearest."""
    scale: Annotated[tuple[str, ...] | None, _some_of(chosen()["scale"])] = None
    """layer: each layer's features divided by their root mean variance. By default none."""
    shrinkage: tuple[str, ...] | None = None
    """With --precision shrunk: how much of the mean of all covariances there is in each one, from 0 to 1; or
    auto, its default, chosen as ε is. For few pictures."""
    variance_weight: tuple[float, ...] | None = None
    """γ from 0 to 1: distances are multiplied by (v / mean v)^γ, v being the variance at the location. By
    default 0; what is better, only labelled defects tell."""
    sigma: float | None = None
    """Of the anomaly map's Gaussian filter, in pixels; by default the data set's, 4."""
    picture_score: Annotated[str | None, _one_of(PICTURE_SCORES)] = None
    """A picture's score: its map's highest value, as in the paper; or the mean of the highest hundredth."""
    neighbours: tuple[int, ...] = (5,)
    """SPADE's K, pictures that each is compared to; its authors use 50."""
    student_width: float = 1.0
    """Of the student's networks, times their authors' channels."""
    student_steps: int = 20_000
    """Training steps of each network, at most."""
    student_every: int = 200
    """Steps between two looks at held-out pictures, after each of which a checkpoint is written."""
    distill_on: Path | None = None
    """Folder of pictures that the student's teacher learns from; by default the good ones."""
    seed: tuple[int, ...] = (0,)
    """Seed of the embedding, and of the student. A method that draws nothing is run once for all."""

    @property
    def by_default(self) -> bool:
        """Whether nothing was asked for that a preset has."""
        given = (self.preset, self.precision, self.pooling, self.align, self.scale, self.epsilon)
        return self.method == ("gaussian",) and all(each is None for each in given)


@dataclass(frozen=True)
class Several:
    """More machines than one."""

    ray: str | None = None
    """Deal the work out to Ray's workers (extra ray): --ray, at the end, starts them here; --ray ADDRESS
    finds others."""
    ray_workers: int | None = None
    """How many; by default one for each CPU that Ray has."""

    @contextmanager
    def workers(self) -> Iterator["Workers | None"]:
        """Ray's workers, where they were asked for."""
        if self.ray is None:
            if self.ray_workers is not None:
                raise ArgumentError("--ray-workers is for --ray: add it")
            yield None
            return
        from jaxsode.remote import Workers

        with Workers(self.ray, self.ray_workers) as found:
            yield found


def with_address(arguments: Sequence[str] | None) -> list[str]:
    """Arguments in which --ray without an address has that of a Ray which is started here.

    Args:
        arguments: of a command; by default the process's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for i, argument in enumerate(given):
        if argument == "--ray" and (i + 1 == len(given) or given[i + 1].startswith("-")):
            given[i] = "--ray=local"
    return given


@dataclass(frozen=True)
class Machine:
    """What is computed at once."""

    batch_size: int | None = None
    """Pictures computed at once; by default the data set's, 8."""
    memory_gb: float | None = None
    """What the fitted state may take, 6·H·W·k² bytes and some; above it, locations are done block by block.
    By default a share of what is free."""
    metric_memory: float | None = None
    """GB that exact metrics may take, by default 2. With more scores than fit they have a stated bound."""
    workers: int = min(8, os.cpu_count() or 1)
    """Threads that decode pictures."""


@dataclass(frozen=True)
class Output:
    """What is left behind."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the results, which must hold nothing yet; by default runs/DATASET-DATE-TIME. Until all is
    done they lie in OUTPUT.partial."""
    resume: bool = False
    """Go on in OUTPUT.partial, if a run that ended early left one, with the splits that it did not finish.
    All else must be asked as it was."""
    maps: Literal["all", "defective", "none"] = "all"
    """Test pictures whose heat maps are drawn."""
    map_size: Literal["computed", "original"] = "computed"
    """Of the heat maps: that at which they are computed, or that of the original picture. What is grey isn't
    judged."""
    colours: Annotated[str, _one_of(report.COLOUR_MAPS)] = "jet"
    """Of the heat maps: the paper's jet, or the perceptual cubehelix. Both span distances from 0 to 10."""
    save_detector: bool = True
    """Whether each split's fitted detector is saved."""
