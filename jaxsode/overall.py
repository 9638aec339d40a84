"""What the locations of a grid have in common: the mean variance, which ε may be a share of, and the mean C.

Both are of all locations, so neither a device that holds some rows of the grid nor a block of them knows it
alone. The paper's method wants nothing of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.algebra import pooled
from jaxsode.algebra.moments import Moments
from jaxsode.algebra.packing import diagonal_of, unpack_symmetric
from jaxsode.algebra.pooled import Pooled
from jaxsode.errors import NumericalError
from jaxsode.method import Method
from jaxsode.share import Share
from jaxsode.statistics import Packed, Pictures


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Overall:
    """Of all locations.

    Attributes:
        variance: () v̄, the mean over locations and dimensions of the diagonal of C.
        covariance: (k, k) C̄, the mean of all locations' C; None where the precision wants none.
    """

    variance: jax.Array
    covariance: jax.Array | None = None


def is_wanted(method: Method) -> bool:
    """Whether a method's precision is made with anything of this page.

    Args:
        method: with what is "auto" chosen, or not yet.
    """
    return (
        method.automatic
        or isinstance(method.epsilon, Share)
        or method.precision == "shrunk"
        or bool(method.variance_weight)
    )


def of_state(state: Any, method: Method) -> Overall | None:
    """What a method wants to know of gathered statistics.

    Args:
        state: of `jaxsode.statistics`, packed or not, sharded over rows or not; it stays as it is.
        method: whose precision will be made.

    Returns:
        It, or None where the method wants nothing.

    Raises:
        NumericalError: the features don't vary, or are not finite.
    """
    if not is_wanted(method):
        return None
    return checked(_of_state(state, method.precision == "shrunk"))


def of_embedded(batches: Iterable[tuple[np.ndarray, int]], method: Method) -> Overall | None:
    """The same of embedded features before they are gathered: for a state that never exists as a whole.

    It takes one pass, and 8·H·W·k bytes.

    Args:
        batches: pairs of (B, H, W, k) and how many of the first rows count.
        method: whose precision will be made.

    Returns:
        See `of_state`; None of no pictures.

    Raises:
        NumericalError: see `of_state`.
    """
    if not is_wanted(method):
        return None
    state = None
    for z, valid in batches:
        state = pooled.init(z.shape[-1], grid=z.shape[1:3]) if state is None else state
        state = _update(state, z, np.arange(len(z)) < valid)
    return None if state is None else checked(_of_state(state, method.precision == "shrunk"))


def epsilon_of(method: Method, overall: Overall | None) -> Any:
    """ε as a number.

    Args:
        method: whose ε is a number or a share.
        overall: what the share is of; None where it is a number.
    """
    if not isinstance(method.epsilon, Share):
        return method.epsilon
    assert overall is not None
    return overall.variance * (method.epsilon.percent / 100)


def checked(overall: Overall) -> Overall:
    """As it is, if a share of it can be added to a covariance.

    Args:
        overall: of any method.

    Raises:
        NumericalError: the mean variance is 0, or not finite.
    """
    variance = float(overall.variance)
    if variance > 0 and np.isfinite(variance):
        return overall
    if variance == 0:
        raise NumericalError(
            "the good pictures' features don't vary at all, and a share of nothing is no epsilon: give more "
            "than one picture, or epsilon as a number"
        )
    raise NumericalError(
        f"the features' mean variance is {variance}: they are not finite or far out of scale, or pictures "
        "were removed that were never in; check the pictures and weights"
    )


@jax.jit
def variances(state: Moments | Packed) -> jax.Array:
    """v of each location, the mean of the diagonal of its C.

    Args:
        state: moments on the grid, packed or not, or one set.

    Returns:
        (H, W); of one set ().
    """
    if isinstance(state, Packed):
        diagonal = diagonal_of(state.scatter)
    else:
        diagonal = jnp.diagonal(state.scatter, axis1=-2, axis2=-1)
    return jnp.mean(diagonal, axis=-1) / state.count.astype(diagonal.dtype)


@partial(jax.jit, static_argnums=1)
def _of_state(state: Any, whole: bool) -> Overall:
    if isinstance(state, Pooled):
        C = pooled.covariance(state)
        return Overall(jnp.trace(C) / C.shape[-1], C if whole else None)
    if isinstance(state, Pictures):
        return Overall(jnp.mean(jnp.var(state.z, axis=2)))
    C = None
    if whole:
        C = jnp.mean(state.scatter / state.count[..., None, None].astype(state.scatter.dtype), axis=(0, 1))
        C = unpack_symmetric(C) if isinstance(state, Packed) else C
    return Overall(jnp.mean(variances(state)), C)


@partial(jax.jit, donate_argnums=0)
def _update(state: Pooled, z: jax.Array, where: jax.Array) -> Pooled:
    return pooled.update(state, jnp.moveaxis(z, 0, 2), where)
