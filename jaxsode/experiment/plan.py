"""A run's plan: all that was asked, and from the data set's own TOML in configs/ what was not."""

import dataclasses
import itertools
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxsode import datasets
from jaxsode.algebra.embedding import EMBEDDINGS
from jaxsode.algebra.precision import EIGENVECTORS, FULL_RANK, PRECISIONS
from jaxsode.algebra.pyramid import ALIGN
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import ArgumentError
from jaxsode.fitting import of_backbone
from jaxsode.home import expanded, readable
from jaxsode.method import AUTO, SCALES, Method
from jaxsode.metrics import PICTURE_SCORES
from jaxsode.peers import PEERS, Peer, Spade, Student

GAUSSIAN = "gaussian"
"""The method of a Gaussian at each location, beside those of `PEERS`."""


def chosen() -> dict[str, tuple[str, ...]]:
    """What is chosen by name, and the names that there are now: the registries may have grown."""
    return {
        "method": (GAUSSIAN, *PEERS),
        "embedding": tuple(EMBEDDINGS),
        "precision": (*PRECISIONS, FULL_RANK),
        "align": ALIGN,
        "scale": SCALES,
    }


_PAPER = {
    "precision": "local",
    "pooling": 1,
    "align": "nearest",
    "scale": "none",
    "shrinkage": None,
    "variance_weight": 0.0,
}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "recommended": {"precision": "local", "pooling": 3, "align": "nearest", "scale": "none", "epsilon": "5%"},
    "few": _PAPER | {"precision": "shrunk", "epsilon": AUTO},
}
"""The paper's features with the data set's own ε; or features pooled over 3 × 3 locations and ε a share of
the mean variance, which belong together: a mean over neighbours shrinks the variance; or, for few pictures,
covariances shrunk towards their mean, ε and α chosen by likelihood. docs/results.md has what they bring."""

FEW = 50
"""With fewer good pictures than this `few` is what was better, see docs/results.md."""

SWEPT = (
    "precision",
    "embedding",
    "k",
    "seed",
    "pooling",
    "align",
    "scale",
    "epsilon",
    "shrinkage",
    "variance_weight",
)
"""Of a Gaussian's `Request`: each value makes a method."""

_LARGEST = 3e38  # of float32


@dataclass(frozen=True)
class Request:
    """What was asked for. None is what wasn't: it comes from the data set's own configuration.

    Attributes:
        dataset, data_dir: see `jaxsode.datasets.load`.
        fold: names of splits, or ("all",).
        size: (height, width) of the pictures.
        resize, range, max_pixels: see `jaxsode.preparation.Preparation`.
        fit_on: how many of the good pictures are fitted on, drawn by a method's seed; None: all.
        hold_out, on_bad_picture: of a folder of one's own, see `jaxsode.datasets.folder.load`.
        backbone, weights, layers, dtype: see `jaxsode.load_backbone`; weights may be "random".
        method: "gaussian", or names of `PEERS`.
        preset: a name of `PRESETS`, which stands above the data set's own configuration and below whatever
            else is asked for.
        embedding, k, seed, precision, pooling, align, scale, epsilon, shrinkage, variance_weight: of the
            Gaussian's methods: every combination is one. Pooling as "3" or "3,1,1", ε as a number, "5%" or
            "auto", the shrinkage as a number or "auto"; it goes to those that are "shrunk".
        sigma: of all of these.
        picture_score: see `jaxsode.metrics.Stream`.
        neighbours: of SPADE, each a method.
        student_width, student_steps, student_every: of the student, which has each `seed`, too.
        distill_on: a folder of pictures that the student's teacher learns from; None: the good ones.
        batch_size: pictures computed at once.
        workers: threads that decode.
    """

    dataset: str = "demo"
    data_dir: Path | None = None
    fold: tuple[str, ...] = ("all",)
    size: tuple[int, int] | None = None
    resize: str | None = None
    range: int | None = None
    max_pixels: int | None = None
    fit_on: int | None = None
    hold_out: float | None = None
    on_bad_picture: str | None = None
    backbone: str | None = None
    weights: str | None = None
    layers: tuple[int, ...] | None = None
    dtype: str = "float32"
    method: tuple[str, ...] = (GAUSSIAN,)
    embedding: tuple[str, ...] | None = None
    k: tuple[int, ...] | None = None
    seed: tuple[int, ...] = (0,)
    precision: tuple[str, ...] | None = None
    preset: str | None = None
    pooling: tuple[str, ...] | None = None
    align: tuple[str, ...] | None = None
    scale: tuple[str, ...] | None = None
    epsilon: tuple[str, ...] | None = None
    shrinkage: tuple[str, ...] | None = None
    variance_weight: tuple[float, ...] | None = None
    sigma: float | None = None
    picture_score: str | None = None
    neighbours: tuple[int, ...] = (5,)
    student_width: float = 1.0
    student_steps: int = 20_000
    student_every: int = 200
    distill_on: Path | None = None
    batch_size: int | None = None
    workers: int = 1


@dataclass(frozen=True)
class Plan:
    """A complete plan.

    Attributes:
        dataset, data_dir, fold, fit_on, backbone, weights, layers, dtype, picture_score, batch_size, workers:
            see `Request`.
        size: (height, width), None for the data set's.
        settings: for `jaxsode.datasets.load`, the data set's own.
        preparation: fields of `Preparation` that are other than the data set's own.
        distill_on: see `Request`.
        methods: each once, in the order that was asked for.
    """

    dataset: str
    data_dir: Path | None
    fold: tuple[str, ...]
    fit_on: int | None
    size: tuple[int, int] | None
    settings: dict[str, Any]
    preparation: dict[str, Any]
    backbone: str
    weights: str | None
    layers: tuple[int, ...] | None
    dtype: str
    distill_on: Path | None
    methods: tuple[Method | Peer, ...]
    picture_score: str
    batch_size: int
    workers: int

    def splits(self, dataset: datasets.Dataset) -> tuple[str, ...]:
        """The names of the splits to run.

        Args:
            dataset: loaded.

        Raises:
            ArgumentError: it has none of that name.
        """
        names = tuple(dataset.splits)
        if self.fold == ("all",):
            return names
        known = {name.casefold(): name for name in names}
        for name in self.fold:
            if name.casefold() not in known:
                raise ArgumentError(
                    f"--fold {name} is unknown to {dataset.name}: choose {', '.join(names)} or all"
                )
        return tuple(dict.fromkeys(known[name.casefold()] for name in self.fold))

    def drawn(self, split: datasets.Split, method: Method | Peer) -> datasets.Split:
        """The split, with as many good pictures as are fitted on: of one seed the first few of one order.

        Args:
            split: of the data set.
            method: whose seed the draw is by.

        Raises:
            ArgumentError: there are fewer.
        """
        if self.fit_on is None:
            return split
        if self.fit_on > len(split.train):
            raise ArgumentError(
                f"--fit-on {self.fit_on} exceeds the {len(split.train)} good pictures of {split.name}: ask "
                "for fewer"
            )
        order = np.random.default_rng(method.page().get("seed") or 0).permutation(len(split.train))
        train = tuple(split.train[i] for i in sorted(order[: self.fit_on].tolist()))
        left_out = tuple(index for index in split.left_out if index in train)
        return dataclasses.replace(split, train=train, left_out=left_out)

    def check(self, backbone: Backbone) -> None:
        """Refuse what the network can't give, before a picture is touched.

        Args:
            backbone: see `Backbone`.

        Raises:
            ArgumentError: k exceeds F, or there is another number of windows than of feature maps.
        """
        features = sum(backbone.channels)
        for method in self.methods:
            if not isinstance(method, Method):
                continue
            of_backbone(method, backbone)
            if method.k is not None and method.k > features:
                raise ArgumentError(
                    f"--k {method.k} exceeds the {features} features of the chosen layers: "
                    f"choose 1 ≤ k ≤ {features}"
                )

    def check_neighbours(self, pictures: int) -> None:
        """Refuse more of SPADE's neighbours than there are good pictures, before a picture is touched.

        Args:
            pictures: that are fitted on, of the split with the fewest.

        Raises:
            ArgumentError: there are fewer.
        """
        for method in self.methods:
            if isinstance(method, Spade) and method.neighbours > pictures:
                raise ArgumentError(
                    f"--neighbours {method.neighbours} exceeds the {pictures} good pictures that are fitted "
                    "on: ask for fewer"
                )

    def recorded(self, method: Method | Peer) -> dict[str, Any]:
        """As it goes into metrics.json: all that can change a number, but where the data lie."""
        left_out = ("methods", "workers")
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in left_out}
        own["data_dir"] = None if self.data_dir is None else readable(self.data_dir)
        own["weights"] = None if self.weights is None else readable(self.weights)
        own["distill_on"] = None if self.distill_on is None else readable(self.distill_on)
        return own | method.page()

    def page(self) -> dict[str, Any]:
        """What another run must share to be the same one, as JSON holds it; but not what the weights are."""
        own = self.recorded(self.methods[0])
        whole = {name: own[name] for name in own if name not in ("weights", *self.methods[0].page())}
        where = None if self.data_dir is None else readable(self.data_dir.absolute())
        names = {"data_dir": where, "methods": [str(method) for method in self.methods]}
        pages = [method.page() for method in self.methods]
        values = {name: [page.get(name) for page in pages] for page in pages for name in page}
        alike = {name: each[0] if each == each[:1] * len(each) else each for name, each in values.items()}
        return whole | names | alike


def complete(request: Request) -> Plan:
    """The plan, with the data set's own value for what was not asked for.

    Args:
        request: what was asked.

    Raises:
        ArgumentError: a value out of its range, or a data set that there isn't.
    """
    datasets.check_name(request.dataset)
    own: dict[str, Any] = tomllib.loads((folder() / f"{request.dataset}.toml").read_text(encoding="utf-8"))
    _check(request)
    preset = request.preset or own.get("preset")
    own = _PAPER | {"picture_score": "max"} | own | (PRESETS[preset] if preset else {})

    def value(name: str) -> Any:
        given = getattr(request, name)
        return own[name] if given is None else given

    def gaussians() -> Iterator[Method]:
        swept = {name: getattr(request, name) or (own[name],) for name in SWEPT}
        for values in itertools.product(*swept.values()):
            setting: dict[str, Any] = dict(zip(swept, values, strict=True))
            method = Method(
                **setting
                | {
                    "k": _rank(setting["embedding"], setting["precision"], setting["k"]),
                    "pooling": _windows(setting["pooling"]),
                    "epsilon": _number(setting["epsilon"]),
                    "shrinkage": _number(setting["shrinkage"]) if setting["precision"] == "shrunk" else None,
                },
                sigma=value("sigma"),
                layers=request.layers,
            )
            yield method if method.random else dataclasses.replace(method, seed=0)

    methods: dict[str, Method | Peer] = {}
    for method in itertools.chain(
        gaussians() if GAUSSIAN in request.method else (),
        _peers(request, sigma=value("sigma")),
    ):
        # Each has a folder of its name.
        if methods.setdefault(str(method), method) != method:
            raise ArgumentError(f"two methods of this sweep are called {method}: run them apart")
    settings, preparation = _data(request, own.get("data", {}))
    return Plan(
        dataset=request.dataset,
        data_dir=None if request.data_dir is None else expanded(request.data_dir),
        fold=request.fold,
        fit_on=request.fit_on,
        size=request.size,
        settings=settings,
        preparation=preparation,
        backbone=value("backbone"),
        weights=None if request.weights is None else str(expanded(request.weights)),
        layers=request.layers,
        dtype=request.dtype,
        distill_on=None if request.distill_on is None else expanded(request.distill_on),
        methods=tuple(methods.values()),
        picture_score=value("picture_score"),
        batch_size=value("batch_size"),
        workers=request.workers,
    )


def folder() -> Path:
    """Where the configurations lie: in the wheel within the package, in a checkout at the top."""
    package = Path(__file__).parents[1]
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def check_positive(name: str, value: float | None) -> None:
    """Refuse an option's value that is not above 0, or not finite.

    Args:
        name: of the option, without its dashes.
        value: None where it was not given.

    Raises:
        ArgumentError: it is out of range.
    """
    if value is not None and not 0 < value < _LARGEST:
        raise ArgumentError(f"--{name} {value} must be above 0, and finite")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse an option's value that is none of its choices.

    Args:
        name: of the option, without its dashes.
        value: that was given.
        choices: all that there are.

    Raises:
        ArgumentError: it is none of them.
    """
    if value not in choices:
        raise ArgumentError(f"--{name} {readable(value)} is unknown: choose one of {', '.join(choices)}")


def _data(request: Request, own: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `datasets.load` is told, and how the pictures of a published data set are prepared otherwise."""
    prepared = {name: getattr(request, name) for name in ("resize", "range", "max_pixels")}
    prepared = {name: given for name, given in prepared.items() if given is not None}
    mine = {name: getattr(request, name) for name in ("hold_out", "on_bad_picture")}
    mine = {name: given for name, given in mine.items() if given is not None}
    if request.resize == "pad" and request.method != (GAUSSIAN,):
        raise ArgumentError(
            "--resize pad is for the method gaussian: others would fit the padding as well; choose squeeze "
            "or crop"
        )
    if request.dataset == "folder" and request.data_dir is None:
        raise ArgumentError("a folder of your own has no place by itself: name it by --data-dir")
    if request.dataset != "folder":
        for name in mine:
            option = name.replace("_", "-")
            raise ArgumentError(
                f"--{option} is for a folder of your own, not for {request.dataset}: leave it out"
            )
        return own, prepared
    return own | prepared | mine | ({} if request.size is None else {"size": request.size}), {}


def _peers(request: Request, *, sigma: float) -> Iterator[Peer]:
    if "spade" in request.method:
        for neighbours in request.neighbours:
            yield Spade(neighbours=neighbours, sigma=sigma)
    if "student" in request.method:
        for seed in request.seed:
            yield Student(
                width=request.student_width,
                steps=request.student_steps,
                every=request.student_every,
                seed=seed,
            )


def _rank(embedding: str, precision: str, k: int) -> int | None:
    """The identity keeps all, unless eigenvectors are chosen of it."""
    return None if embedding == "identity" and precision not in EIGENVECTORS else k


def _number(value: Any) -> Any:
    """What a text says, where it is a number; shares and words as they are."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _windows(value: Any) -> Any:
    """ "3", or "3,1,1"; a configuration's numbers as they are."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    try:
        return tuple(int(window) for window in value.split(","))
    except ValueError as error:
        raise ArgumentError(
            f"--pooling {readable(value)} is no window: give 3, or one for each layer, 3,1,1"
        ) from error


def _check(request: Request) -> None:
    """In the option's own words, what `Method` would refuse as well."""
    several: dict[str, Sequence[Any] | None] = {
        name: getattr(request, name) for name in ("method", *SWEPT, "neighbours", "fold")
    }
    for name, values in several.items():
        if values is not None and not values:
            raise ArgumentError(f"--{name.replace('_', '-')} has no value: give at least one")
    for name, choices in chosen().items():
        for value in several[name] or ():
            check_choice(name, value, choices)
    for name, choices in (("preset", PRESETS), ("picture_score", PICTURE_SCORES)):
        if (one := getattr(request, name)) is not None:
            check_choice(name.replace("_", "-"), one, choices)
    for epsilon in map(_number, request.epsilon or ()):
        if not isinstance(epsilon, str):
            check_positive("epsilon", epsilon)
    precisions = request.precision or (PRESETS[request.preset or "paper"]["precision"],)
    if request.shrinkage is not None and "shrunk" not in precisions:
        raise ArgumentError("--shrinkage is of the precision shrunk: add --precision shrunk")
    for k in request.k or ():
        if k < 1:
            raise ArgumentError(f"--k {k} is below 1: choose 1 ≤ k ≤ the number of features")
    for name in ("batch_size", "workers"):
        check_positive(name.replace("_", "-"), getattr(request, name))
    if request.sigma is not None and not 0 <= request.sigma < _LARGEST:
        raise ArgumentError(f"--sigma {request.sigma} must be at least 0, and finite")
    if request.size is not None and min(request.size) < 32:
        raise ArgumentError(f"--size {request.size[0]} {request.size[1]} is too small: give at least 32 32")
    if request.fit_on is not None and request.fit_on < 1:
        raise ArgumentError(f"--fit-on {request.fit_on} is too few: give at least 1")
    for seed in request.seed:
        if not 0 <= seed < 2**32:
            raise ArgumentError(f"--seed {seed} is out of range: choose 0 ≤ seed < 2³²")
