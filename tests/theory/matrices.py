"""What the paper's statements are about: a covariance with a given spectrum, and the product's embeddings."""

import jax
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from jaxsode.algebra import bounds, embedding

SHAPES = [(6, 1), (9, 4), (7, 6)]
"""F and k: few, for each is compiled."""
NORMS = {"frobenius": "fro", "spectral": 2}

seeds = st.integers(0, 2**31 - 1)
shapes = st.sampled_from(SHAPES)
quick = settings(deadline=None, max_examples=12)

approximation_error = jax.jit(bounds.approximation_error, static_argnames="norm")
error_bounds = jax.jit(bounds.error_bounds, static_argnums=1, static_argnames="norm")
embedded_eigenvalues = jax.jit(bounds.embedded_eigenvalues)


def covariance(seed, F, decades=2.0):
    """Eigenvectors in columns, eigenvalues ascending over so many decades, and C."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((F, F)))[0]
    values = np.sort(10.0 ** rng.uniform(-decades / 2, decades / 2, F))
    return U, values, U @ np.diag(values) @ U.T


def semi_orthogonal(seed, F, k):
    """The product's W, orthonormal to float64's rounding: two of Newton's steps, which change it by 1e-7."""
    W = np.asarray(embedding.semi_orthogonal(seed, F, k), np.float64)
    for _ in range(2):
        W = W @ (3 * np.eye(k) - W.T @ W) / 2
    return W


def gaussian(seed, F, k):
    """The product's Ω."""
    return np.asarray(embedding.gaussian(seed, F, k), np.float64)


def low_rank(C, W, epsilon=0.0):
    """W(WᵀCW + εI)⁻¹Wᵀ, what the method has for a precision."""
    return W @ np.linalg.solve(W.T @ C @ W + epsilon * np.eye(W.shape[1]), W.T)


def squared(A, norm):
    """‖A‖² in the norm of that name."""
    return np.linalg.norm(A, NORMS[norm]) ** 2
