"""The embedding that Theorem 1 calls the best, and its opposite: eigenvectors of each location's own C.

With the k smallest ("lower") or the k largest ("higher") eigenvalues λ of C and their eigenvectors U (F × k),
W(WᵀCW + εI)⁻¹Wᵀ = U diag(λ + ε)⁻¹Uᵀ, and the distance is ‖M(z − μ)‖ with the rectangular

    M = diag(λ + ε)^(−1/2) Uᵀ    (k × F).

Of N pictures C has rank N − 1 at most, and all of its null space, of F − N + 1 dimensions, has the same
eigenvalue, 0. What part of it an eigenvalue routine returns is its own choice; here the choice is random, by
key: uniformly distributed as the semi-orthogonal W is, but for that part's being this location's own. So
where N ≤ F − k, "lower" is k random directions in which no fitted picture differs from another.
"""

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float, Key
from jaxsode.algebra.embedding import gaussian


def of_covariance(
    C: Float[Array, "F F"],
    count: float | Float[Array, ""],
    k: int,
    epsilon: float | Float[Array, ""],
    *,
    largest: bool,
    key: Key[Array, ""] | int,
) -> Float[Array, "k F"]:
    """M from the covariance, by its eigenvalues: O(F³).

    Args:
        C: (F, F), divided by N.
        count: N, may be traced. If F − N + 1 is above 0, so many of the smallest eigenvalues are 0.
        k: 1 ≤ k ≤ F.
        epsilon: ε > 0.
        largest: the k largest eigenvalues ("higher") or the k smallest ("lower").
        key: a JAX random key, or a seed: of the directions chosen in the null space, if there is one.

    Returns:
        M, (k, F), by ascending λ; its rows are orthogonal. NaN where C is not finite.

    Raises:
        ArgumentError: k out of range.
    """
    F = C.shape[0]
    omega = gaussian(key, F, k).astype(C.dtype)
    values, vectors = jnp.linalg.eigh(C)
    null = jnp.arange(F, dtype=C.dtype) < F + 1 - jnp.maximum(jnp.asarray(count, C.dtype), 1)
    # A random part of the null space's eigenvectors: the Q of a Gaussian matrix that is zero elsewhere. Its
    # first columns, as many as the null space has dimensions, are zero there too; the others are not used.
    random = jnp.matmul(vectors, _q(jnp.where(null[:, None], omega, 0)), precision="highest")
    chosen = slice(F - k, F) if largest else slice(0, k)
    U = jnp.where(null[chosen][None, :], random, vectors[:, chosen])
    return _scaled(U, jnp.where(null, 0, values)[chosen], epsilon)


def of_pictures(
    Y: Float[Array, "N F"],
    k: int,
    epsilon: float | Float[Array, ""],
    *,
    largest: bool,
    key: Key[Array, ""] | int,
) -> Float[Array, "k F"]:
    """M from the pictures, N ≤ F of them, with no matrix of F × F: O(F(N + k)²).

    Args:
        Y: (N, F) the N pictures' feature vectors at this location less their mean. Where N > F it is
            `of_covariance` that is called.
        k: 1 ≤ k ≤ F.
        epsilon: ε > 0.
        largest: the k largest eigenvalues ("higher") or the k smallest ("lower").
        key: a JAX random key, or a seed: of the directions chosen in the null space, if any are.

    Returns:
        M, (k, F), by ascending λ; its rows are orthogonal. NaN where Y is not finite.

    Raises:
        ArgumentError: k out of range.
    """
    N, F = Y.shape
    if N > F:
        C = jnp.einsum("ni,nj->ij", Y, Y, precision=jax.lax.Precision.HIGHEST) / N
        return of_covariance(C, float(N), k, epsilon, largest=largest, key=key)
    omega = gaussian(key, F, k).astype(Y.dtype)
    rank = max(N - 1, 0)
    others = min(k, rank) if largest else max(0, k - (F - rank))  # how many λ are not taken to be 0
    # Y is centred, so N − 1 of its rows span them all. Householder's Q is orthonormal to rounding however
    # nearly dependent they are, and what it adds for Ω is orthogonal to them.
    Q = _q(jnp.concatenate([Y[:rank].T, omega[:, : k - others]], axis=1))
    span, U = Q[:, :rank], Q[:, rank:]
    values = jnp.zeros(k - others, Y.dtype)
    if others:
        B = jnp.matmul(Y, span, precision="highest")
        inner, rotation = jnp.linalg.eigh(jnp.matmul(B.T, B, precision="highest") / N)
        chosen = slice(rank - others, rank) if largest else slice(0, others)
        U = jnp.concatenate([U, jnp.matmul(span, rotation[:, chosen], precision="highest")], axis=1)
        values = jnp.concatenate([values, inner[chosen]])
    # Not all of Y need have gone into it: its last row never does alone.
    return _scaled(jnp.where(jnp.all(jnp.isfinite(Y)), U, jnp.nan), values, epsilon)


def _q(A: Float[Array, "F m"]) -> Float[Array, "F m"]:
    """The Q of A = QR with a positive diagonal of R: of a Gaussian A, Haar-distributed (Mezzadri, 2007)."""
    Q, R = jnp.linalg.qr(A)
    return jnp.where(jnp.diagonal(R) < 0, -Q, Q)


def _scaled(
    U: Float[Array, "F k"], values: Float[Array, " k"], epsilon: float | Float[Array, ""]
) -> Float[Array, "k F"]:
    # Rounding makes small eigenvalues negative; those of a covariance are not. NaN stays NaN.
    return U.T / jnp.sqrt(jnp.maximum(values, 0) + epsilon)[:, None]
