"""All that defines a fit: pooling, W, the precision and its ε, σ, and the layers. Checked once, here."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxsode.algebra import embedding as embeddings
from jaxsode.algebra.distance import SIGMA
from jaxsode.algebra.embedding import EMBEDDINGS
from jaxsode.algebra.precision import EIGENVECTORS, FULL_RANK, OF_MOMENTS, PRECISIONS
from jaxsode.algebra.pyramid import ALIGN
from jaxsode.errors import ArgumentError
from jaxsode.share import Share

DEFAULT_K = 100
GIVEN = "given"
"""What the embedding of a fitted detector is called whose W was an array."""

AUTO = "auto"
"""Of ε or the shrinkage: chosen in the fit by leave-one-out likelihood, see `jaxsode.choice`."""
SCALES = ("none", "layer")
_PAPERS_EPSILON = 0.01

Embedding = str | Callable[[jax.Array, int, int], jax.Array] | jax.Array | np.ndarray


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Method:
    """A fit's definition. What shapes the program is static in its treedef; ε, α, γ and the seed are leaves.

    The defaults are the paper's throughout.

    Attributes:
        embedding: a name of `EMBEDDINGS`; or a function (key, F, k) → W; or W itself, (F, k), which is kept
            in float32.
        k: the rank that is kept, ≥ 1; by default 100. None where W is given, or where all F are kept. With
            the eigenvectors' precisions, whose embedding is the identity, how many of them are kept.
        seed: of W, from 0 to 2³² − 1, and of what a precision draws. None where W is given.
        precision: a name of `PRECISIONS`; or "full-rank", of the identity: "local" or "dual", whichever is
            cheaper for the number of pictures.
        epsilon: ε > 0, added to the covariance's diagonal; the paper uses 0.01 (0.3 for mSTC). Or a share of
            the mean embedded variance, "5%", see `Share`: it means the same whatever the backbone and the
            pooling. Or "auto": the share of the highest leave-one-out likelihood, chosen in the fit; of a
            precision that each location has for itself.
        sigma: ≥ 0, of the anomaly map's Gaussian filter, in pixels; the paper uses 4.
        layers: whose feature maps are used, ascending; None takes those that the backbone has.
        pooling: the side of the window, odd, that each layer's features are averaged over on their own grid;
            one for all, or one for each layer. 1 averages nothing.
        align: how the coarser layers come onto the finest grid, "nearest" or "bilinear".
        scale: "layer": each layer's features are divided by their root mean variance over the first good
            pictures, up to 32. It goes into W, which then is diag(s) · Q with the embedding's Q.
        shrinkage: α from 0 to 1 of the precision "shrunk", or "auto", its default; None with the others.
        variance_weight: γ from 0 to 1, of the precisions "local" and "shrunk": a location's distances are
            multiplied by (v/v̄)^γ, v being the mean variance there. 0 multiplies by nothing. Which is better
            depends on whether defects lie where good pictures vary, and only labelled ones tell.

    Raises:
        ArgumentError: a value out of its range, or one that another makes meaningless.
    """

    embedding: Embedding = "semi-orthogonal"
    k: int | None = None
    seed: int | None = None
    precision: str = "local"
    epsilon: float | str | Share = _PAPERS_EPSILON
    sigma: float = SIGMA
    layers: tuple[int, ...] | None = None
    pooling: int | tuple[int, ...] = 1
    align: str = "nearest"
    scale: str = "none"
    shrinkage: float | str | None = None
    variance_weight: float = 0.0

    def __post_init__(self) -> None:
        given = self._check_embedding()
        if self.precision not in (*PRECISIONS, FULL_RANK):
            raise ArgumentError(
                f"precision {self.precision!r} is unknown: choose one of {', '.join(PRECISIONS)}, {FULL_RANK}"
            )
        if self.precision == FULL_RANK and self.embedding != "identity":
            raise ArgumentError(f"precision {FULL_RANK!r} is of all features: set embedding to identity")
        if self.precision in EIGENVECTORS and self.embedding != "identity":
            raise ArgumentError(
                f"precision {self.precision!r} chooses its k directions itself: set embedding to identity"
            )
        self._check_k()
        if given:
            if self.seed is not None:
                raise ArgumentError(f"seed = {self.seed} with a W that is given: leave the seed out")
        elif self.seed is None:
            self._set(seed=0)
        else:
            seeds = [embeddings.check_seed(seed) for seed in _concrete(self.seed)]
            if not isinstance(self.seed, jax.Array):
                self._set(seed=seeds[0])
        self._set(epsilon=self._checked_epsilon(), sigma=_in_range("sigma", self.sigma, least=0.0))
        self._check_features()
        self._check_shrinkage()
        if self.layers is not None:
            layers = _whole_numbers(self.layers)
            if not layers or list(layers) != sorted(set(layers)):
                raise ArgumentError(f"layers {layers}: name at least one, each once, ascending")
            self._set(layers=layers)

    def __str__(self) -> str:
        name = self.embedding if isinstance(self.embedding, str) else self.recorded().embedding
        parts = [str(name), *([] if self.k is None else [f"k{self.k}"])]
        if self.precision != "local":
            parts.append(self.precision)
        if self.random and self.seed is not None:
            parts.append(f"seed{int(self.seed)}")
        if self.pooling != 1:
            windows = (self.pooling,) if isinstance(self.pooling, int) else self.pooling
            parts.append(f"pool{'.'.join(map(str, windows))}")
        if self.align != "nearest":
            parts.append(self.align)
        if self.scale != "none":
            parts.append(f"{self.scale}-scaled")
        for name, value, papers in (
            ("eps", self.epsilon, _PAPERS_EPSILON),
            ("alpha", self.shrinkage, None),
            ("gamma", self.variance_weight, 0.0),
        ):
            if (shown := _short(value)) != _short(papers):
                parts.append(f"{name}{shown}")
        return "-".join(parts)

    @property
    def automatic(self) -> bool:
        """Whether ε or the shrinkage is still to be chosen from the pictures."""
        return _is_auto(self.epsilon) or _is_auto(self.shrinkage)

    @property
    def random(self) -> bool:
        """Whether a number of a fit can depend on the seed."""
        if self.seed is None:
            return False
        spec = PRECISIONS.get(self.precision)  # full rank, which is none of them, draws nothing
        return self.embedding != "identity" or (spec is not None and spec.draws)

    def size(self, features: int) -> int:
        """How many numbers an embedded feature vector has.

        Args:
            features: F.
        """
        if isinstance(self.embedding, str) and self.embedding == "identity":
            return features
        assert self.k is not None
        return self.k

    def matrix(self, features: int) -> jax.Array:
        """W, (F, k) float32.

        Args:
            features: F of the backbone.

        Raises:
            ArgumentError: k exceeds F, or a given W, or a function's, has another shape.
        """
        if isinstance(self.embedding, np.ndarray | jax.Array):
            return _of_shape(self.embedding, (features, self.k))
        if isinstance(self.embedding, str):
            if self.embedding == GIVEN:
                raise ArgumentError(
                    "the embedding is one that was given: give W itself as Method(embedding=W)"
                )
            assert self.seed is not None
            if self.precision in EIGENVECTORS and self.k is not None and self.k > features:
                raise ArgumentError(f"k = {self.k} exceeds the {features} features: choose k ≤ {features}")
            return _named(self.embedding, embeddings.as_key(self.seed), features, self.size(features))
        assert self.seed is not None
        made = self.embedding(embeddings.as_key(self.seed), features, self.size(features))
        return _of_shape(made, (features, self.k))

    def recorded(self, **changes: Any) -> Self:
        """The method as a fitted detector keeps it: by names alone, whatever the embedding was."""
        if isinstance(self.embedding, str):
            return dataclasses.replace(self, **changes)
        return dataclasses.replace(self, **({"embedding": GIVEN, "seed": None} | changes))

    def page(self) -> dict[str, Any]:
        """As JSON holds it; `Method(**page)` gives the method back.

        Raises:
            ArgumentError: the embedding is no name; see `recorded`.
        """
        if not isinstance(self.embedding, str):
            raise ArgumentError("an embedding that is no name can't be written down: use `recorded()`")
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        seed = None if self.seed is None else int(self.seed)
        numbers = {name: _written(getattr(self, name)) for name in _LEAVES if name != "seed"}
        return fields | numbers | {"seed": seed}

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        # As uint32: a Python integer would be an int32 to JAX, which half of the seeds exceed.
        seed = np.uint32(self.seed) if isinstance(self.seed, int) else self.seed
        values = {name: getattr(self, name) for name in _LEAVES} | {"seed": seed}
        # A word is no leaf: it stands with what is static, and None in its place.
        words = tuple(name for name, value in values.items() if _is_auto(value))
        children = tuple(
            (jax.tree_util.GetAttrKey(name), None if name in words else value)
            for name, value in values.items()
        )
        return children, (words, *(getattr(self, name) for name in _STATIC))

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], children: tuple[Any, ...]) -> Self:
        # Unchecked: the leaves may be tracers, or anything that a tree is mapped to.
        made = object.__new__(cls)
        words, *rest = static
        made._set(**dict(zip((*_STATIC, *_LEAVES), (*rest, *children), strict=True)))
        made._set(**dict.fromkeys(words, AUTO))
        return made

    def _checked_epsilon(self) -> Any:
        if _is_auto(self.epsilon):
            if self.precision not in (*OF_MOMENTS, "dual", FULL_RANK):
                raise ArgumentError(
                    f"epsilon 'auto' is of a precision that each location has for itself, not "
                    f"{self.precision!r}: give a number, or a share such as 5%"
                )
            return AUTO
        if isinstance(self.epsilon, str):
            return Share.parsed(self.epsilon)
        if isinstance(self.epsilon, Share):
            return Share.of(self.epsilon.percent) if isinstance(self.epsilon.percent, Real) else self.epsilon
        return _in_range("epsilon", self.epsilon, least=float(np.finfo(np.float32).tiny))

    def _check_features(self) -> None:
        windows = self.pooling if isinstance(self.pooling, tuple | list) else (self.pooling,)
        for window in windows:
            if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < 1:
                raise ArgumentError(f"pooling = {window!r} is no window: choose an odd number, 1 or 3")
            if window % 2 == 0:
                raise ArgumentError(
                    f"pooling = {window} has no location in its middle: choose an odd number, 1 or 3"
                )
        if not windows:
            raise ArgumentError("pooling has no window: give one for all layers, or one for each")
        windows = tuple(map(int, windows))
        self._set(pooling=windows[0] if len(windows) == 1 else windows)
        for name, value, choices in (("align", self.align, ALIGN), ("scale", self.scale, SCALES)):
            if value not in choices:
                raise ArgumentError(f"{name} {value!r} is unknown: choose one of {', '.join(choices)}")

    def _check_shrinkage(self) -> None:
        if self.precision != "shrunk":
            if self.shrinkage is not None:
                raise ArgumentError(
                    f"shrinkage = {self.shrinkage} with the precision {self.precision!r}: it is of 'shrunk'"
                )
        elif self.shrinkage is None or _is_auto(self.shrinkage):
            self._set(shrinkage=AUTO)
        else:
            self._set(shrinkage=_in_range("shrinkage", self.shrinkage, least=0.0, most=1.0))
        self._set(variance_weight=_in_range("variance_weight", self.variance_weight, least=0.0, most=1.0))
        if self.precision not in OF_MOMENTS and any(_concrete(self.variance_weight)):
            raise ArgumentError(
                f"variance_weight = {self.variance_weight} with the precision {self.precision!r}: it is of "
                f"{' and '.join(OF_MOMENTS)}"
            )

    def _check_embedding(self) -> bool:
        """Whether W is given."""
        if isinstance(self.embedding, str):
            if self.embedding != GIVEN and self.embedding not in EMBEDDINGS:
                raise ArgumentError(
                    f"embedding {self.embedding!r} is unknown: choose one of {', '.join(EMBEDDINGS)}, "
                    "or give a function or W itself"
                )
            return self.embedding == GIVEN
        if callable(self.embedding):
            return False
        W = np.array(self.embedding) if not isinstance(self.embedding, jax.Array) else self.embedding
        if W.ndim != 2 or not (jnp.issubdtype(W.dtype, jnp.floating) or jnp.issubdtype(W.dtype, jnp.integer)):
            raise ArgumentError(f"W is {W.dtype} of shape {W.shape}: give real numbers, (F, k)")
        self._set(embedding=jnp.asarray(W, jnp.float32))
        return True

    def _check_k(self) -> None:
        k = self.k
        if k is not None:
            if isinstance(k, bool) or not isinstance(k, int | np.integer):
                raise ArgumentError(f"k = {k!r} is no whole number: choose 1 ≤ k ≤ the number of features")
            if k < 1:
                raise ArgumentError(f"k = {k} is below 1: choose 1 ≤ k ≤ the number of features")
            self._set(k=int(k))
        if isinstance(self.embedding, jax.Array):
            columns = self.embedding.shape[1]
            if k is not None and k != columns:
                raise ArgumentError(f"k = {k} with a W of {columns} columns: leave k out")
            self._set(k=columns)
        elif self.embedding == "identity" and self.precision not in EIGENVECTORS:
            if k is not None:
                raise ArgumentError(f"k = {k} with the identity, which keeps all features: leave k out")
        elif k is None:
            self._set(k=DEFAULT_K)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


@jax.jit(static_argnums=(0, 2, 3))
def _named(name: str, key: jax.Array, features: int, k: int) -> jax.Array:
    return embeddings.named(name, key, features, k)


def _of_shape(W: Any, shape: tuple[int, int | None]) -> jax.Array:
    if np.shape(W) != shape:
        raise ArgumentError(
            f"W has shape {np.shape(W)}: the backbone's {shape[0]} features want ({shape[0]}, "
            f"{'k' if shape[1] is None else shape[1]})"
        )
    return jnp.asarray(W, jnp.float32)


def _whole_numbers(layers: Any) -> tuple[int, ...]:
    numbers: tuple[Any, ...] = (None,)
    if isinstance(layers, Iterable) and not isinstance(layers, str):
        numbers = tuple(layers)
    if not all(isinstance(number, int | np.integer) and not isinstance(number, bool) for number in numbers):
        raise ArgumentError(f"layers {layers!r}: give their numbers, such as (1, 2, 3)")
    return tuple(map(int, numbers))


_LEAVES = ("seed", "epsilon", "shrinkage", "variance_weight")
_STATIC = tuple(field.name for field in dataclasses.fields(Method) if field.name not in _LEAVES)


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == AUTO


def _short(value: Any) -> str:
    """A number or a share as a name has it; words and None as they are."""
    if isinstance(value, Share):
        return f"{float(value.percent):g}%"
    return f"{float(value):g}" if isinstance(value, Real | jax.Array | np.ndarray) else str(value)


def _written(value: Any) -> Any:
    """As JSON holds a number, a word, a share or None."""
    if value is None or isinstance(value, str):
        return value
    return str(value) if isinstance(value, Share) else float(value)


def _concrete(value: Any) -> list[Any]:
    """The numbers that a leaf has; a tracer has none to look at."""
    if not isinstance(value, jax.Array):
        return [value]
    return [] if isinstance(value, Tracer) else np.asarray(value).ravel().tolist()


_PAPERS = {"epsilon": "0.01 (0.3 for mSTC)", "sigma": "4", "shrinkage": "none", "variance_weight": "0"}


def _in_range(name: str, value: Any, *, least: float, most: float = float(np.finfo(np.float32).max)) -> Any:
    """Refuse what would fail, or come out as nonsense, only after all pictures are through."""
    if isinstance(value, jax.Array):  # a leaf of a detector's, or of several that are stacked
        for one in _concrete(value):
            _in_range(name, one, least=least, most=most)
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ArgumentError(f"{name} = {value!r} is no number")
    number = float(value)
    if not (least <= number <= most and math.isfinite(number)):
        rule = "not above 0 and finite" if least else "not at least 0 and finite"
        rule = "not from 0 to 1" if most == 1 else rule
        raise ArgumentError(f"{name} = {number} is {rule}: the paper uses {_PAPERS[name]}")
    return number
