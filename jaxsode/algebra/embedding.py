"""W, the F × k matrix that shrinks every feature vector: z = Wᵀx.

To the rest of the package an embedding is nothing but this array. One W is shared by all locations.
"""

import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxsode._typing import Array, Float, Key
from jaxsode.errors import ArgumentError

_IMPLEMENTATION = "threefry2x32"


def semi_orthogonal(key: Key[Array, ""] | SupportsIndex, features: int, k: int) -> Float[Array, "F k"]:
    """A Haar-distributed semi-orthogonal W: WᵀW = I (Eq. 7).

    The QR decomposition of a Gaussian matrix alone is not Haar-distributed, because its signs follow the
    factorisation's convention; multiplying each column by the sign of R's diagonal makes it so
    (Mezzadri, 2007).

    Args:
        key: a JAX random key, or a seed.
        features: F, the number of features.
        k: the embedding size, 1 ≤ k ≤ F.

    Returns:
        W, float32.

    Raises:
        ArgumentError: k out of range.
    """
    omega = gaussian(key, features, k)
    q, r = jnp.linalg.qr(omega)
    diagonal = jnp.diagonal(r)
    return q * jnp.where(diagonal < 0, -1.0, 1.0).astype(q.dtype)[None, :]


def sampled(key: Key[Array, ""] | SupportsIndex, features: int, k: int) -> Float[Array, "F k"]:
    """k different columns of the identity: k features chosen at random, as PaDiM does.

    Args:
        key: a JAX random key, or a seed.
        features: F, the number of features.
        k: the number of features kept, 1 ≤ k ≤ F.

    Returns:
        W, float32, with WᵀW = I.

    Raises:
        ArgumentError: k out of range.
    """
    _check(features, k)
    with jax.threefry_partitionable(True):
        chosen = jax.random.choice(as_key(key), features, (k,), replace=False)
    return jax.nn.one_hot(chosen, features, axis=0, dtype=jnp.float32)


def gaussian(key: Key[Array, ""] | SupportsIndex, features: int, k: int) -> Float[Array, "F k"]:
    """Ω with independent N(0, 1) entries: the embedding that the paper's ablation warns against.

    Args:
        key: a JAX random key, or a seed.
        features: F, the number of features.
        k: the embedding size, 1 ≤ k ≤ F.

    Returns:
        Ω, float32.

    Raises:
        ArgumentError: k out of range.
    """
    _check(features, k)
    with jax.threefry_partitionable(True):  # the default, which decides the numbers
        return jax.random.normal(as_key(key), (features, k), jnp.float32)


def identity(features: int) -> Float[Array, "F F"]:
    """The identity: full rank, the O(HWF³) method that the others approximate.

    Args:
        features: F, the number of features.

    Returns:
        I of size F × F, float32.

    Raises:
        ArgumentError: F < 1.
    """
    _check(features, features)
    return jnp.eye(features, dtype=jnp.float32)


Constructor = Callable[[Key[Array, ""] | SupportsIndex, int, int], Array]
"""(key, F, k) → W, (F, k)."""

EMBEDDINGS: dict[str, Constructor] = {
    "semi-orthogonal": semi_orthogonal,
    "sampled": sampled,
    "gaussian": gaussian,
    "identity": lambda key, features, k: identity(features),
}
"""The paper's embeddings by name. The identity takes neither key nor k."""


def named(name: str, key: Key[Array, ""] | SupportsIndex, features: int, k: int) -> Float[Array, "F k"]:
    """The embedding of that name, one of `EMBEDDINGS`.

    Args:
        name: "semi-orthogonal", "sampled", "gaussian" or "identity", which gives k = F.
        key: a JAX random key, or a seed.
        features: F, the number of features.
        k: the embedding size, 1 ≤ k ≤ F.

    Returns:
        W, float32.

    Raises:
        ArgumentError: an unknown name, or k or the seed out of range.
    """
    if name not in EMBEDDINGS:
        raise ArgumentError(f"embedding {name!r} is unknown: choose one of {', '.join(EMBEDDINGS)}")
    return EMBEDDINGS[name](key, features, k)


def check_seed(seed: Any) -> int:
    """The seed as an int.

    Args:
        seed: any integer, NumPy's too.

    Returns:
        0 ≤ seed < 2³².

    Raises:
        ArgumentError: no integer, or out of range: JAX would take it modulo 2³² without a word.
    """
    try:
        if isinstance(seed, bool):
            raise TypeError("a bool is no seed")
        number = operator.index(seed)
    except TypeError as error:
        raise ArgumentError(f"seed {seed!r} is no integer: give one from 0 to 2³² − 1") from error
    if not 0 <= number < 2**32:
        raise ArgumentError(f"seed {number} is out of range: choose 0 ≤ seed < 2³²")
    return number


def as_key(key: Key[Array, ""] | SupportsIndex) -> Key[Array, ""]:
    """A JAX random key.

    Args:
        key: one already, or a seed. A seed means the same whatever `jax_default_prng_impl` says.

    Returns:
        The key.

    Raises:
        ArgumentError: a seed that is no integer, or out of range.
    """
    if isinstance(key, jax.Array) and not jnp.issubdtype(key.dtype, jnp.integer):
        return key
    if isinstance(key, Tracer):  # it has no value to look at
        return jax.random.key(key, impl=_IMPLEMENTATION)
    return jax.random.key(check_seed(key), impl=_IMPLEMENTATION)


def _check(features: int, k: int) -> None:
    if k < 1:
        raise ArgumentError(f"k = {k} is below 1: choose 1 ≤ k ≤ {features}")
    if k > features:
        raise ArgumentError(
            f"k = {k} exceeds the {features} features of the chosen layers: choose k ≤ {features}"
        )
