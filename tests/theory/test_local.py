"""Why each location has a covariance of its own (sections 2.1 and 4)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from matrices import covariance, quick, seeds

from jaxsode.algebra import moments, pooled, precision

LOCATIONS, K = 5, 4


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@quick
@given(seed=seeds)
def test_local_foretells_better_than_global(seed):
    """One covariance for all locations is never as probable of the pictures as each location's own.

    True of the fitted pictures; equal only where all locations' covariances are. log det is concave: its
    mean over locations is at most that of the mean covariance, and the mean of d² is k either way. Of unseen
    pictures it takes enough fitted ones: see the precision `shrunk`.
    """
    Cs = np.array([covariance(seed + i, K)[2] for i in range(LOCATIONS)])
    local, shared = np.linalg.slogdet(Cs)[1].mean(), np.linalg.slogdet(Cs.mean(0))[1]
    assert local < shared - 1e-3
    assert np.mean([np.trace(np.linalg.solve(Cs.mean(0), C)) for C in Cs]) == pytest.approx(K)
    same = np.array([Cs[0]] * LOCATIONS)
    assert np.linalg.slogdet(same)[1].mean() == pytest.approx(np.linalg.slogdet(same.mean(0))[1])


def test_global_overlooks_what_is_quiet_here_and_lively_there():
    """Two locations, each lively where the other is quiet: global sees a seventh of what local sees. True."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((400, 1, 2, 2)) * np.array([[1, 0.1], [0.1, 1]])
    each = jax.vmap(jax.vmap(moments.of_batch, in_axes=1), in_axes=1)(z)
    local = jax.jit(precision.local)(jax.tree.map(lambda leaf: leaf[0, 0], each), 1e-9)
    state = jax.jit(pooled.update)(pooled.init(2, grid=(1, 2), dtype=float), np.moveaxis(z, 0, 2))
    shared = precision.of_pooled(state, 1e-9)
    defect, zero = jnp.array([0.0, 1.0]), jnp.zeros(2)  # ten deviations of the one, one of the other
    assert float(local.distance(defect, zero)) == pytest.approx(10, rel=0.1)
    assert float(shared.distance(defect, zero)) == pytest.approx(np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("apart", [1.0, 3.0])
def test_local_has_one_mode_where_all_locations_together_have_two(apart):
    """Two locations, each a Gaussian: together not one. True if their means are over 2 deviations apart.

    Nearer than that the mixture has one mode too (section 2.1).
    """
    x = np.linspace(-6, 6 + apart, 10_001)

    def modes(density):
        return int(np.sum((density[1:-1] > density[:-2]) & (density[1:-1] > density[2:])))

    here, there = np.exp(-(x**2) / 2), np.exp(-((x - apart) ** 2) / 2)
    assert modes(here) == modes(there) == 1
    assert modes(here + there) == (2 if apart > 2 else 1)
