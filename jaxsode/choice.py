"""ε, and α, chosen from good pictures alone: by leave-one-out likelihood on a sample of locations.

The sample is what a fit embeds at some locations, at the most 256, of at the most 1,024 pictures, drawn by
the method's seed and kept in host memory while the fit goes by: 4·256·N·k bytes, 20 MB of 200 pictures with
k = 100, and 105 MB at the most. Its moments are its own, so that the choice doesn't depend on how the fit is
dealt out over devices or cut into blocks.

All pictures have a part in the choice, a left-out one too: of thousands of numbers, one or two.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxsode.algebra import likelihood
from jaxsode.algebra.moments import covariance, of_batch
from jaxsode.meshes import rows_of
from jaxsode.method import AUTO, Method
from jaxsode.overall import Overall, checked
from jaxsode.share import Share

LOCATIONS, PICTURES = 256, 1024
"""Of the sample, at the most."""

SHARES = tuple(0.25 * 2 ** (i / 2) for i in range(17))
"""Of the mean embedded variance that are tried, in percent: from 0.25 to 64 by √2."""

SHRINKAGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Values of α that are tried."""

_INSTEAD = (0.5, 5.0)  # α and share, where no likelihood is finite

Embedded = Iterable[tuple[Any, int]]


class Sample:
    """Some locations' embedded features of some pictures, as a fit goes by.

    Args:
        seed: of the draw.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._draw = np.random.default_rng(seed)
        self._places: tuple[np.ndarray, np.ndarray] | None = None
        self._waiting: tuple[Any, int] | None = None
        self._kept: list[np.ndarray] = []
        self._seen = 0

    def watched(self, embedded: Embedded) -> Iterator[tuple[Any, int]]:
        """The same batches, and the sample is drawn from them on the way.

        Args:
            embedded: pairs of (B, H, W, k) and how many of the first rows count.
        """
        for z, valid in embedded:
            self._take(z, valid)
            yield z, valid

    def pictures(self) -> np.ndarray:
        """What was drawn: (locations, pictures, k)."""
        self._keep()
        return np.stack(self._kept, axis=1)

    def _take(self, z: Any, valid: int) -> None:
        if self._places is None:
            H, W = z.shape[1:3]
            number = min(LOCATIONS, H * W)
            chosen = np.sort(np.random.default_rng(self._seed).choice(H * W, number, replace=False))
            self._places = (chosen // W, chosen % W)
        # The batch before is ready by now; this one need not be waited for.
        self._keep()
        self._waiting = (_at(z, *self._places), valid)

    def _keep(self) -> None:
        if self._waiting is None:
            return
        z, valid = np.asarray(self._waiting[0]), self._waiting[1]
        self._waiting = None
        for picture in z[:valid]:
            if self._seen < PICTURES:
                self._kept.append(picture.copy())
            elif (place := int(self._draw.integers(self._seen + 1))) < PICTURES:
                self._kept[place] = picture.copy()
            self._seen += 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Choice:
    """What was tried, how well it foretold the pictures, and what was taken.

    Attributes:
        shares: (G,) ε in percent of the mean embedded variance.
        shrinkages: (A,) α; of the precision "local", 0 alone.
        likelihood: (A, G) mean leave-one-out log-likelihood a dimension; NaN where there is none.
        squared: (A, G) mean squared leave-one-out distance over k.
        taken: (2,) int32, the indices of α and of the share; −1 and −1 where there was no likelihood at all.
    """

    shares: Any
    shrinkages: Any
    likelihood: Any
    squared: Any
    taken: Any

    @property
    def share(self) -> float:
        """What was taken, in percent."""
        g = int(self.taken[1])
        return float(self.shares[g]) if g >= 0 or len(self.shares) == 1 else _INSTEAD[1]

    @property
    def shrinkage(self) -> float:
        """The α that was taken."""
        a = int(self.taken[0])
        return float(self.shrinkages[a]) if a >= 0 or len(self.shrinkages) == 1 else _INSTEAD[0]

    @property
    def note(self) -> str | None:
        """What should be known of the choice, in a line; None where the likelihood has its top inside."""
        a, g = (int(index) for index in self.taken)
        if g < 0:
            return (
                "no ε has a finite leave-one-out likelihood, too few pictures or too far off: "
                f"{self.share:g}% was taken"
            )
        if len(self.shares) > 1 and g in (0, len(self.shares) - 1):
            which = "smallest" if g == 0 else "largest"
            return f"the likelihood was still rising at the {which} ε tried, {self.share:g}%: it was taken"
        if len(self.shrinkages) > 1 and a == len(self.shrinkages) - 1:
            return f"the likelihood was still rising at the largest α tried, {self.shrinkage:g}: it was taken"
        return None

    def __str__(self) -> str:
        """Of each share its best α, the likelihood and the squared distance; the one taken starred."""
        filled = np.where(np.isfinite(self.likelihood), self.likelihood, -np.inf)
        lines = [" ε of variance      α  log-likelihood/k  squared distance/k"]
        for g, share in enumerate(np.asarray(self.shares)):
            a = int(filled[:, g].argmax())
            star = "*" if g == int(self.taken[1]) else " "
            found, d2 = float(self.likelihood[a, g]), float(self.squared[a, g])
            lines.append(f"{star}{share:12.4g}% {float(self.shrinkages[a]):6.2f}  {found:16.4f}  {d2:18.4f}")
        return "\n".join([*lines, *([] if self.note is None else [self.note])])

    def page(self) -> dict[str, Any]:
        """As JSON holds it, NaN as null; see `of_page`."""
        return {name: _listed(value) for name, value in vars(self).items()}

    @classmethod
    def of_page(cls, page: dict[str, Any]) -> Self:
        """The choice that `page` wrote down.

        Args:
            page: by `page`.
        """
        numbers = {name: np.array(page[name], np.float32) for name in page if name != "taken"}
        return cls(**numbers, taken=np.array(page["taken"], np.int32))


def choose(sample: Sample, method: Method) -> tuple[Method, Choice]:
    """The method with numbers for what it leaves to the likelihood.

    Args:
        sample: drawn from the embedded features.
        method: whose ε or shrinkage is "auto".

    Returns:
        The method, its ε a share if it was "auto"; and the choice.

    Raises:
        NumericalError: the features don't vary, or are not finite.
    """
    z = jnp.asarray(sample.pictures())
    deviation, C = _centred(z)
    variance = checked(Overall(jnp.trace(jnp.mean(C, axis=0)) / C.shape[-1])).variance
    if method.epsilon == AUTO:
        shares = np.array(SHARES)
    elif isinstance(method.epsilon, Share):
        shares = np.array([float(method.epsilon.percent)])
    else:
        shares = np.array([100 * float(method.epsilon) / float(variance)])
    alphas = [0.0 if method.shrinkage is None else method.shrinkage]
    shrinkages = np.array(SHRINKAGES if alphas == [AUTO] else alphas, np.float32)
    shares = shares.astype(np.float32)
    found, squared = (np.asarray(x) for x in _curve(deviation, C, shares * variance / 100, shrinkages))
    eligible = np.where(np.isfinite(found) & np.isfinite(squared), found, -np.inf)
    taken = np.array(np.unravel_index(eligible.argmax(), eligible.shape), np.int32)
    if not np.isfinite(eligible).any():
        taken = np.array([-1, -1], np.int32)
    choice = Choice(shares, shrinkages, found, squared, taken)
    chosen: dict[str, Any] = {}
    if method.epsilon == AUTO:
        chosen["epsilon"] = Share.of(choice.share)
    if method.shrinkage == AUTO:
        chosen["shrinkage"] = choice.shrinkage
    return replace(method, **chosen), choice


def _at(z: Any, rows: np.ndarray, columns: np.ndarray) -> Any:
    """(B, H, W, k) → (B, locations, k), on every host."""
    if isinstance(z, np.ndarray):
        return z[:, rows, columns]
    sharding = rows_of(z)
    return _gathered(
        z, rows, columns, None if sharding is None else NamedSharding(sharding.mesh, PartitionSpec())
    )


@partial(jax.jit, static_argnums=3)
def _gathered(
    z: jax.Array, rows: jax.Array, columns: jax.Array, everywhere: NamedSharding | None
) -> jax.Array:
    taken = z[:, rows, columns]
    return taken if everywhere is None else jax.lax.with_sharding_constraint(taken, everywhere)


@jax.jit
def _centred(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    state = jax.vmap(of_batch)(z)
    return z - state.mean[:, None, :], jax.vmap(covariance)(state)


@jax.jit
def _curve(
    deviation: jax.Array, C: jax.Array, epsilons: jax.Array, shrinkages: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean log-likelihood and squared distance (A, G) over the locations."""
    shared = jnp.mean(C, axis=0)

    def at(setting: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        alpha, epsilon = setting
        of_one = partial(likelihood.of_pictures, epsilon=epsilon, shrinkage=alpha, shared=shared)
        found, squared = jax.vmap(of_one)(deviation, C)
        return jnp.mean(found), jnp.mean(squared)

    alphas, epsilons_ = jnp.meshgrid(shrinkages, epsilons, indexing="ij")
    found, squared = jax.lax.map(at, (alphas.ravel(), epsilons_.ravel()))
    return found.reshape(alphas.shape), squared.reshape(alphas.shape)


def _listed(values: Any) -> Any:
    """Nested lists, NaN as None."""
    array = np.asarray(values)
    if array.ndim == 0:
        number = array.item()
        return number if np.isfinite(number) else None
    return [_listed(one) for one in array]
