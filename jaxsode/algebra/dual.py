"""Full rank through the pictures' side: N × N matrices in place of F × F ones, where N < F.

With the centred pictures Y (N × F), A = Y/√N and C = AᵀA, the squared distance is the least value of a ridge
regression of y = z − μ on the pictures,

    yᵀ(C + εI)⁻¹y = min_c ‖c‖² + ‖y − Aᵀc‖²/ε,    at c = (AAᵀ + εI)⁻¹Ay,

and it is computed as that: two terms that can't be negative. At a minimum an error of c counts by its square,
so float32 keeps nearly all digits. Nothing is decomposed but AAᵀ + εI, which ε makes safe whatever the rank.

Against float64 (variances from 10 down to 1e-6, ε = 0.01, N = 230, F = 448) d is off by 3e-7 at most, and by
3e-6 with the Cholesky factor of C + εI. Orthonormal bases of the pictures' span need as many numbers or a
third fewer, and more time: by QR of Yᵀ d is off by 1e-6 and factorising takes ten times as long, by its SVD
1e-6 and thirty times, by the eigenvectors of AAᵀ 1e-3 and six times. ‖y‖² − yᵀAᵀc, which subtracts, is
off by hundredths for a picture that was fitted on once ε is 1e-4.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.algebra.cholesky import inverse_cholesky
from jaxsode.algebra.distance import root

SECONDS = {"scatter": 5.5e-11, "factor": 3.5e-11, "score": 3e-11}
"""What a multiplication takes, measured on two cores of an AMD EPYC with F = 128, 448 and 1792, N from 32 to
1024, and scores of 16 pictures at once. Each is within a factor of 2.5; only their ratios count."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dual:
    """(C + εI)⁻¹ at one location (or, with leading axes H and W, on the grid). N·F + N² numbers.

    Attributes:
        pictures: (N, F) A, the centred pictures over √N.
        whitener: (N, N) S = L⁻¹ of AAᵀ + εI = LLᵀ, lower triangular.
        epsilon: () ε.
    """

    pictures: Float[Array, "... N F"]
    whitener: Float[Array, "... N N"]
    epsilon: Float[Array, "..."]

    def distance(self, z: Float[Array, " F"], mean: Float[Array, " F"]) -> Float[Array, ""]:
        """d = √((z − μ)ᵀ(C + εI)⁻¹(z − μ)), at one location.

        Args:
            z: (F,) the feature vector.
            mean: (F,) μ.

        Returns:
            () d ≥ 0; NaN where anything that it is made of is NaN. Its gradient at z = μ is 0.
        """
        y = z - mean
        white = _product("nm,m->n", self.whitener, _product("nf,f->n", self.pictures, y))
        c = _product("mn,m->n", self.whitener, white)
        rest = y - _product("nf,n->f", self.pictures, c)
        return root(jnp.sum(c * c) + jnp.sum(rest * rest) / self.epsilon)

    def distances(self, z: Float[Array, "N F"], mean: Float[Array, " F"]) -> Float[Array, " N"]:
        """`distance` of N vectors at once.

        Args:
            z: (N, F) the feature vectors.
            mean: (F,) μ.

        Returns:
            (N,) d ≥ 0.
        """
        return jax.vmap(self.distance, in_axes=(0, None))(z, mean)


def factorise(Y: Float[Array, "N F"], epsilon: float | Float[Array, ""]) -> Dual:
    """The dual form of (C + εI)⁻¹ with C = YᵀY/N.

    Args:
        Y: (N, F) the N pictures' feature vectors at this location less their mean. N < F is what it is for;
            it is right for any N.
        epsilon: ε > 0.

    Returns:
        Dual; NaN where Y is not finite or ε is not above 0.
    """
    N = Y.shape[0]
    epsilon = jnp.asarray(epsilon, Y.dtype)
    A = Y / jnp.sqrt(jnp.asarray(N, Y.dtype))
    gram = _product("nf,mf->nm", A, A)
    positive = jnp.where(epsilon > 0, epsilon, jnp.nan)
    return Dual(A, inverse_cholesky(gram + positive * jnp.eye(N, dtype=Y.dtype)), positive)


def cheaper(pictures: int, features: int, *, scored: int = 100) -> Literal["cholesky", "dual"]:
    """Which form of full rank takes less time a location, to be fitted and then to score, by a model of it.

    Multiplications times what one takes, see `SECONDS`: N·F² for the scatter, F³ for its factor and F² a
    score, against N²·F + N³ for the dual's factor and 2N(N + F) a score. In memory the dual's N·F + N²
    numbers are fewer than F² below N = 0.62 F.

    Args:
        pictures: N ≥ 1.
        features: F ≥ 1.
        scored: how many pictures will be scored, ≥ 0; a test set has about a hundred.

    Returns:
        "dual" or "cholesky"; the latter wherever N ≥ F.
    """
    N, F = pictures, features
    cholesky = SECONDS["scatter"] * N * F**2 + SECONDS["factor"] * F**3 + scored * SECONDS["score"] * F**2
    dual = SECONDS["factor"] * (N**2 * F + N**3) + scored * SECONDS["score"] * 2 * N * (N + F)
    return "dual" if N < F and dual < cholesky else "cholesky"


def _product(indices: str, a: Array, b: Array) -> Array:
    return jnp.einsum(indices, a, b, precision=jax.lax.Precision.HIGHEST)
