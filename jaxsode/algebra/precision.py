"""C + εI → a precision: a small pytree that knows one thing, the distance of a vector from the mean.

The precision P = (C + εI)⁻¹ is never formed: with C + εI = LLᵀ and M = L⁻¹, (z−μ)ᵀP(z−μ) = ‖M(z−μ)‖². M is
half the numbers of P, and the distance can't come out imaginary. Factor once, apply many.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float
from jaxsode.algebra import dual, eigenvectors, pooled
from jaxsode.algebra import moments as moments_
from jaxsode.algebra.cholesky import inverse_cholesky
from jaxsode.algebra.distance import mahalanobis, root
from jaxsode.algebra.moments import Moments
from jaxsode.algebra.packing import of_panels, panels_of

_LEAST = 1e-3  # of the mean variance


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Whitener:
    """A matrix M that turns z − μ into a vector whose length is the distance; made by `of`.

    Attributes:
        transposed: (k, m) Mᵀ, of C + εI with m = k, or of some of C's eigenvectors. So that a vector runs
            along its rows: a processor adds whole rows faster than along one, and one picture's distances
            then take as long as it takes to read the matrices.
    """

    transposed: Float[Array, "... k m"]

    @classmethod
    def of(cls, matrix: Float[Array, "... m k"]) -> "Whitener":
        """From M itself.

        Args:
            matrix: (m, k), or of a whole grid.
        """
        return cls(transposed=jnp.swapaxes(matrix, -1, -2))

    @property
    def matrix(self) -> Float[Array, "... m k"]:
        """(m, k) M."""
        return jnp.swapaxes(self.transposed, -1, -2)

    def distance(self, z: Float[Array, " k"], mean: Float[Array, " k"]) -> Float[Array, ""]:
        """‖M(z − μ)‖, see `jaxsode.algebra.distance.mahalanobis`.

        Args:
            z: (k,) the embedded feature vector.
            mean: (k,) μ.

        Returns:
            () d ≥ 0.
        """
        return mahalanobis(z, mean, self.matrix)

    def distances(self, z: Float[Array, "N k"], mean: Float[Array, " k"]) -> Float[Array, " N"]:
        """`distance` of N vectors at once.

        Args:
            z: (N, k) the embedded feature vectors.
            mean: (k,) μ.

        Returns:
            (N,) d ≥ 0.
        """
        return root(self.squared_distances(z, mean))

    def squared_distances(self, z: Float[Array, "N k"], mean: Float[Array, " k"]) -> Float[Array, " N"]:
        """d² of N vectors at once, see `distances`."""
        return _squared_lengths(z - mean[None, :], self.transposed)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Triangle:
    """A `Whitener` whose M is lower triangular, in about half of the memory; made by `of`.

    Attributes:
        panels: some columns of Mᵀ each, see `jaxsode.algebra.packing.panels_of`. A few pictures' distances
            take as long as it takes to read them.
    """

    panels: tuple[Array, ...]

    @classmethod
    def of(cls, matrix: Float[Array, "... k k"]) -> "Triangle":
        """From M itself.

        Args:
            matrix: (k, k), or of a whole grid, lower triangular: what is above the diagonal is not looked at.
        """
        return cls(panels=panels_of(jnp.swapaxes(matrix, -1, -2)))

    @property
    def matrix(self) -> Float[Array, "... k k"]:
        """(k, k) M. Of a whole grid it takes copies: `jaxsode.statistics.matrices_of` doesn't."""
        return jnp.swapaxes(of_panels(self.panels), -1, -2)

    def distance(self, z: Float[Array, " k"], mean: Float[Array, " k"]) -> Float[Array, ""]:
        """See `Whitener.distance`."""
        return self.distances(z[None], mean)[0]

    def distances(self, z: Float[Array, "N k"], mean: Float[Array, " k"]) -> Float[Array, " N"]:
        """See `Whitener.distances`."""
        return root(self.squared_distances(z, mean))

    def squared_distances(self, z: Float[Array, "N k"], mean: Float[Array, " k"]) -> Float[Array, " N"]:
        """d² of N vectors at once, see `distances`."""
        y = z - mean[None, :]
        # By `lax`: of as many vectors as a program is yet to be told, y[:, :rows] is a gather.
        upto = (jax.lax.slice_in_dim(y, 0, panel.shape[-2], axis=1) for panel in self.panels)
        first, *rest = map(_squared_lengths, upto, self.panels)
        return sum(rest, first)


def _squared_lengths(y: Float[Array, "N k"], transposed: Float[Array, "k m"]) -> Float[Array, " N"]:
    """Of My, for each y."""
    if y.shape[0] == 1:
        # A product of matrices would pack M first, which takes longer than all else.
        white = jnp.sum(transposed * y[0][:, None], axis=0)[None]
    else:
        white = jnp.matmul(y, transposed, precision=jax.lax.Precision.HIGHEST)
    return jnp.sum(white * white, axis=1)


def local(moments: Moments, epsilon: float | Float[Array, ""]) -> Whitener:
    """The precision of one location's own covariance: the paper's method.

    Args:
        moments: of the location, of at least one picture.
        epsilon: ε > 0.

    Returns:
        The whitener, NaN where C + εI is not positive definite.
    """
    return Whitener.of(whitener(moments_.covariance(moments), epsilon))


def of_pooled(state: pooled.Pooled, epsilon: float | Float[Array, ""]) -> Whitener:
    """The precision of the mean of all locations' covariances.

    Args:
        state: on the grid, of at least one picture.
        epsilon: ε > 0.

    Returns:
        The whitener, one for all; NaN where C + εI is not positive definite.
    """
    return Whitener.of(whitener(pooled.covariance(state), epsilon))


def whitener(covariance: Float[Array, "k k"], epsilon: float | Float[Array, ""]) -> Float[Array, "k k"]:
    """M = L⁻¹ of C + εI = LLᵀ (§2.2): it turns z − μ into a vector of unit covariance.

    Args:
        covariance: (k, k), C.
        epsilon: ε > 0; the paper uses 0.01 (0.3 for mSTC).

    Returns:
        M, (k, k) lower triangular, with MᵀM = (C + εI)⁻¹. NaN where C + εI is not positive definite.
    """
    k = covariance.shape[-1]
    return inverse_cholesky(covariance + epsilon * jnp.eye(k, dtype=covariance.dtype))


def blended(
    covariance: Float[Array, "k k"], shared: Float[Array, "k k"], shrinkage: float | Float[Array, ""]
) -> Float[Array, "k k"]:
    """(1 − α)C + αC̄: for few pictures, of which a location's own covariance is nearly all noise.

    Args:
        covariance: (k, k), C of the location.
        shared: (k, k), C̄, the mean of all locations' covariances.
        shrinkage: α, from 0 to 1.

    Returns:
        (k, k), to be given to `whitener`.
    """
    return (1 - shrinkage) * covariance + shrinkage * shared


def weight(
    variance: Float[Array, ""], mean_variance: Float[Array, ""], exponent: float | Float[Array, ""]
) -> Float[Array, ""]:
    """(v/v̄)^γ, what a location's distances are multiplied by: with γ > 0 where little varies they count less.

    Args:
        variance: () v, the mean of the diagonal of the location's C; below a thousandth of v̄ it counts as
            that.
        mean_variance: () v̄ > 0, the mean of all locations' v.
        exponent: γ; 0, as in the paper, is 1 everywhere.

    Returns:
        () > 0.
    """
    return jnp.maximum(variance / mean_variance, _LEAST) ** exponent


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Shared:
    """One precision for all locations of a grid.

    Attributes:
        one: the precision, as of a single location.
    """

    one: Whitener


Needs = Literal["moments", "pooled", "one set", "pictures", "either"]
"""What a precision is made from: each location's moments; one scatter with each location's mean; all vectors
as one set; the pictures themselves; or moments or pictures, whichever is smaller."""


@dataclass(frozen=True)
class Spec:
    """How a precision is made.

    Attributes:
        needs: what from.
        draws: whether the key can change it.
        of_moments: (moments, ε, k, key) → precision, of one location (or of the one set); None where it takes
            more than the location's own.
        of_pictures: (Y, ε, k, key) → precision, Y (N, F) being the centred features of one location.
    """

    needs: Needs
    draws: bool = False
    of_moments: Callable[..., Any] | None = None
    of_pictures: Callable[..., Any] | None = None


def _eigenvectors(*, largest: bool) -> Spec:
    def of_moments(moments: Moments, epsilon: Any, k: int, key: Any) -> Whitener:
        C, N = moments_.covariance(moments), moments.count.astype(moments.scatter.dtype)
        return Whitener.of(eigenvectors.of_covariance(C, N, k, epsilon, largest=largest, key=key))

    def of_pictures(Y: Array, epsilon: Any, k: int, key: Any) -> Whitener:
        return Whitener.of(eigenvectors.of_pictures(Y, k, epsilon, largest=largest, key=key))

    return Spec("either", True, of_moments, of_pictures)


PRECISIONS: dict[str, Spec] = {
    "local": Spec("moments", of_moments=lambda moments, epsilon, k, key: local(moments, epsilon)),
    "shrunk": Spec("moments"),
    "global": Spec("pooled", of_moments=lambda state, epsilon, k, key: of_pooled(state, epsilon)),
    "global-one-mean": Spec("one set", of_moments=lambda moments, epsilon, k, key: local(moments, epsilon)),
    "eigenvectors-lower": _eigenvectors(largest=False),
    "eigenvectors-higher": _eigenvectors(largest=True),
    "dual": Spec("pictures", of_pictures=lambda Y, epsilon, k, key: dual.factorise(Y, epsilon)),
}
"""The precisions of the paper's Table 1 by name, and "shrunk". "local" is the method; "shrunk" blends each
location's covariance with the mean of all, see `blended`; "global" pools the scatters about each location's
own mean, "global-one-mean" takes all locations' vectors for one set; the eigenvectors are the k smallest or
largest of each location's C; "dual" is "local" from the pictures' side, cheaper where N < F."""

OF_MOMENTS = ("local", "shrunk")
"""Those that are a whitener of each location's own moments."""
EIGENVECTORS = ("eigenvectors-lower", "eigenvectors-higher")
FULL_RANK = "full-rank"
"""Of a `Method`: local or dual, whichever is cheaper for the number of pictures."""
