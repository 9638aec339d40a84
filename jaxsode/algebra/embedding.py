"""W, the F × k matrix that shrinks every feature vector: z = Wᵀx.

To the rest of the package an embedding is nothing but this array. One W is shared by all locations.
"""

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float, Key
from jaxsode.errors import ArgumentError

EMBEDDINGS = ("semi-orthogonal", "sampled", "gaussian", "identity")


def semi_orthogonal(key: Key[Array, ""] | int, features: int, k: int) -> Float[Array, "F k"]:
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


def sampled(key: Key[Array, ""] | int, features: int, k: int) -> Float[Array, "F k"]:
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
    chosen = jax.random.choice(_key(key), features, (k,), replace=False)
    return jax.nn.one_hot(chosen, features, axis=0, dtype=jnp.float32)


def gaussian(key: Key[Array, ""] | int, features: int, k: int) -> Float[Array, "F k"]:
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
    return jax.random.normal(_key(key), (features, k), jnp.float32)


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


def embedding(name: str, key: Key[Array, ""] | int, features: int, k: int) -> Float[Array, "F k"]:
    """The embedding of that name, one of `EMBEDDINGS`; "identity" takes neither key nor k, and gives k = F.

    Args:
        name: "semi-orthogonal", "sampled", "gaussian" or "identity".
        key: a JAX random key, or a seed.
        features: F, the number of features.
        k: the embedding size, 1 ≤ k ≤ F.

    Returns:
        W, float32.

    Raises:
        ArgumentError: an unknown name, or k out of range.
    """
    if name == "identity":
        return identity(features)
    if name == "semi-orthogonal":
        return semi_orthogonal(key, features, k)
    if name == "sampled":
        return sampled(key, features, k)
    if name == "gaussian":
        return gaussian(key, features, k)
    raise ArgumentError(f"embedding {name!r} is unknown: choose one of {', '.join(EMBEDDINGS)}")


def _key(key: Key[Array, ""] | int) -> Key[Array, ""]:
    return jax.random.key(key) if isinstance(key, int) else key


def _check(features: int, k: int) -> None:
    if k < 1:
        raise ArgumentError(f"k = {k} is below 1: choose 1 ≤ k ≤ {features}")
    if k > features:
        raise ArgumentError(
            f"k = {k} exceeds the {features} features of the chosen layers: choose k ≤ {features}"
        )
