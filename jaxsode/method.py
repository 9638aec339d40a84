"""All that defines a fit: what W is, which precision, ε, σ, and the layers. Checked once, here."""

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
from jaxsode.algebra.precision import EIGENVECTORS, FULL_RANK, PRECISIONS
from jaxsode.errors import ArgumentError

DEFAULT_K = 100
GIVEN = "given"
"""What the embedding of a fitted detector is called whose W was an array."""

Embedding = str | Callable[[jax.Array, int, int], jax.Array] | jax.Array | np.ndarray


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Method:
    """A fit's definition. What shapes the program is static in its treedef; ε and the seed are leaves.

    Attributes:
        embedding: a name of `EMBEDDINGS`; or a function (key, F, k) → W; or W itself, (F, k), which is kept
            in float32.
        k: the rank that is kept, ≥ 1; by default 100. None where W is given, or where all F are kept. With
            the eigenvectors' precisions, whose embedding is the identity, how many of them are kept.
        seed: of W, from 0 to 2³² − 1, and of what a precision draws. None where W is given.
        precision: a name of `PRECISIONS`; or "full-rank", of the identity: "local" or "dual", whichever is
            cheaper for the number of pictures.
        epsilon: ε > 0, added to the covariance's diagonal; the paper uses 0.01 (0.3 for mSTC).
        sigma: ≥ 0, of the anomaly map's Gaussian filter, in pixels; the paper uses 4.
        layers: whose feature maps are used, ascending; None takes those that the backbone has.

    Raises:
        ArgumentError: a value out of its range, or one that another makes meaningless.
    """

    embedding: Embedding = "semi-orthogonal"
    k: int | None = None
    seed: int | None = None
    precision: str = "local"
    epsilon: float = 0.01
    sigma: float = SIGMA
    layers: tuple[int, ...] | None = None

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
        self._set(
            epsilon=_in_range("epsilon", self.epsilon, least=float(np.finfo(np.float32).tiny)),
            sigma=_in_range("sigma", self.sigma, least=0.0),
        )
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
        return "-".join(parts)

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
        return fields | {"seed": seed, "epsilon": float(self.epsilon), "layers": self.layers}

    def tree_flatten_with_keys(self) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        # As uint32: a Python integer would be an int32 to JAX, which half of the seeds exceed.
        seed = np.uint32(self.seed) if isinstance(self.seed, int) else self.seed
        names = ("seed", "epsilon")
        children = tuple(
            (jax.tree_util.GetAttrKey(n), v) for n, v in zip(names, (seed, self.epsilon), strict=True)
        )
        return children, (self.embedding, self.k, self.precision, self.sigma, self.layers)

    @classmethod
    def tree_unflatten(cls, static: tuple[Any, ...], children: tuple[Any, ...]) -> Self:
        # Unchecked: the leaves may be tracers, or anything that a tree is mapped to.
        made = object.__new__(cls)
        names = ("embedding", "k", "precision", "sigma", "layers", "seed", "epsilon")
        made._set(**dict(zip(names, (*static, *children), strict=True)))
        return made

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


def _concrete(value: Any) -> list[Any]:
    """The numbers that a leaf has; a tracer has none to look at."""
    if not isinstance(value, jax.Array):
        return [value]
    return [] if isinstance(value, Tracer) else np.asarray(value).ravel().tolist()


def _in_range(name: str, value: Any, *, least: float) -> Any:
    """Refuse what would fail, or come out as nonsense, only after all pictures are through."""
    if isinstance(value, jax.Array):  # a leaf of a detector's, or of several that are stacked
        for one in _concrete(value):
            _in_range(name, one, least=least)
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ArgumentError(f"{name} = {value!r} is no number")
    number = float(value)
    if not (least <= number <= float(np.finfo(np.float32).max) and math.isfinite(number)):
        rule = "not above 0 and finite" if least else "not at least 0 and finite"
        says = "0.01 (0.3 for mSTC)" if name == "epsilon" else "4"
        raise ArgumentError(f"{name} = {number} is {rule}: the paper uses {says}")
    return number
