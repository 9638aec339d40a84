"""What the command can be asked for, and each data set's own defaults (configs/*.toml)."""

import os
import tomllib
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxsode import datasets
from jaxsode.errors import ArgumentError

_LARGEST = 3e38  # of float32


@dataclass(frozen=True)
class Config:
    """Anomaly segmentation by semi-orthogonal embedding: fit on good pictures, score the test pictures.

    Without arguments: the generated demo data, offline. What is not given comes from the data set's own
    configuration. Several values of --k, --embedding or --seed run in one go on features extracted once, each
    into a folder of its own.
    """

    dataset: Annotated[str, tyro.conf.arg(metavar=f"{{{','.join(datasets.NAMES)}}}")] = "demo"
    """Pictures to run on."""
    data_dir: Path | None = None
    """Where the data set lies: its folder, or its zip as published. The demo needs none."""
    fold: tuple[str, ...] = ("all",)
    """Folds to run: kolektor has 1 2 3, demo has object texture; or all of them."""
    size: tuple[int, int] | None = None
    """Height and width that pictures are resized to; by default the data set's."""
    backbone: str | None = None
    """Pretrained network that gives the features; by default the data set's. See the README's table."""
    weights: str | None = None
    """File with its weights, or the word random; by default from the cache, its package or its publisher."""
    layers: tuple[int, ...] | None = None
    """Whose feature maps are used; by default the backbone's, 1 2 3."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the backbone computes in. All after it is float32."""
    embedding: tuple[Literal["semi-orthogonal", "sampled", "gaussian", "identity"], ...] | None = None
    """How F features become k; identity keeps all F. By default semi-orthogonal."""
    k: tuple[int, ...] | None = None
    """Embedding size; by default the data set's, 100."""
    epsilon: float | None = None
    """ε, added to the diagonal of each covariance; by default the data set's, 0.01."""
    sigma: float | None = None
    """Of the anomaly map's Gaussian filter, in pixels; by default the data set's, 4."""
    seed: tuple[int, ...] = (0,)
    """Seed of the embedding."""
    batch_size: int | None = None
    """Pictures computed at once; by default the data set's, 8."""
    memory_gb: float | None = None
    """What the fitted state may take, 4·H·W·k² bytes and some; above it, locations are done block by block.
    By default a share of what is free."""
    workers: int = min(8, os.cpu_count() or 1)
    """Threads that decode pictures."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the results, which must hold nothing yet; by default runs/DATASET-DATE-TIME."""
    maps: Literal["all", "defective", "none"] = "all"
    """Test pictures whose heat maps are drawn."""
    colours: Literal["jet", "cubehelix"] = "jet"
    """Of the heat maps: the paper's jet, or the perceptual cubehelix. Both span distances from 0 to 10."""
    save_detector: bool = True
    """Whether each fold's fitted detector is saved."""


@dataclass(frozen=True)
class Setting:
    """One point of a sweep: what W is."""

    embedding: str
    k: int
    seed: int

    def __str__(self) -> str:
        return f"{self.embedding}-k{self.k}-seed{self.seed}"


def with_defaults(config: Config) -> Config:
    """The configuration with the data set's own value for what was not given.

    Raises:
        ArgumentError: a value out of its range, or a data set that there isn't.
    """
    datasets.check_name(config.dataset)
    own = tomllib.loads((folder() / f"{config.dataset}.toml").read_text())
    own |= {name: (own[name],) for name in ("k", "embedding")}
    given = {name: value for name, value in vars(config).items() if value is not None}
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    filled = replace(config, **({"output": Path("runs") / f"{config.dataset}-{now}"} | own | given))
    _check(filled)
    return filled


def settings(config: Config, features: int) -> list[Setting]:
    """Every combination of embedding, k and seed that was asked for, each once.

    Args:
        config: with defaults.
        features: F of the backbone.

    Raises:
        ArgumentError: k exceeds F.
    """
    assert config.k is not None
    assert config.embedding is not None
    for k in config.k:
        if k > features and set(config.embedding) != {"identity"}:
            raise ArgumentError(
                f"--k {k} exceeds the {features} features of the chosen layers: choose 1 ≤ k ≤ {features}"
            )
    every = [
        # The identity has one k and no seed.
        Setting(embedding, features, 0) if embedding == "identity" else Setting(embedding, k, seed)
        for embedding in config.embedding
        for k in config.k
        for seed in config.seed
    ]
    return list(dict.fromkeys(every))


def recorded(config: Config) -> dict[str, Any]:
    """The configuration as it goes into metrics.json: all that can change a number."""
    left_out = ("output", "maps", "colours", "save_detector", "workers", "memory_gb")
    return {n: str(v) if isinstance(v, Path) else v for n, v in asdict(config).items() if n not in left_out}


def folder() -> Path:
    """Where the configurations lie: in the wheel beside this file, in a checkout at the top."""
    installed = Path(__file__).parent / "configs"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "configs"


def _check(config: Config) -> None:
    assert config.k is not None
    for name in ("k", "embedding", "seed", "fold"):
        if not getattr(config, name):
            raise ArgumentError(f"--{name} has no value: give at least one")
    for k in config.k:
        if k < 1:
            raise ArgumentError(f"--k {k} is below 1: choose 1 ≤ k ≤ the number of features")
    for name in ("epsilon", "batch_size", "workers", "memory_gb"):
        value = getattr(config, name)
        if value is not None and not 0 < value < _LARGEST:
            raise ArgumentError(f"--{name.replace('_', '-')} {value} must be above 0, and finite")
    if config.sigma is not None and not 0 <= config.sigma < _LARGEST:
        raise ArgumentError(f"--sigma {config.sigma} must be at least 0, and finite")
    if config.size is not None and min(config.size) < 32:
        raise ArgumentError(f"--size {config.size[0]} {config.size[1]} is too small: give at least 32 32")
    for seed in config.seed:
        if not 0 <= seed < 2**32:
            raise ArgumentError(f"--seed {seed} is out of range: choose 0 ≤ seed < 2³²")
