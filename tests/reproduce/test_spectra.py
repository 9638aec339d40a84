"""Figure 3's numbers against a location by location float64 loop."""

import numpy as np
import pytest

from jaxsode.algebra import embedding
from jaxsode.reproduce.spectra import smallest, spectra


def _maps(n, still=()):
    rng = np.random.default_rng(0)
    fine = rng.standard_normal((n, 6, 4, 5)).astype(np.float32)
    coarse = rng.standard_normal((n, 3, 2, 7)).astype(np.float32)
    fine[..., list(still)] = 0.25
    return [fine, coarse]


def _referee(maps, W, above):
    fine, coarse = maps
    spectrum, number, total = np.zeros(W.shape[1]), 0, 0
    for i in range(6):
        for j in range(4):
            x = np.concatenate([fine[:, i, j], coarse[:, i // 2, j // 2]], axis=1).astype(np.float64)
            values = np.linalg.eigvalsh(np.cov((x @ W).T, bias=True))[::-1]
            spectrum += values / 24
            number, total = number + int((values > above).sum()), total + len(values)
    return spectrum, number / total


@pytest.mark.parametrize("name", ["semi-orthogonal", "sampled", "gaussian"])
@pytest.mark.parametrize("n", [3, 30])
def test_against_a_loop(name, n):
    maps = _maps(n)
    W = np.asarray(embedding.named(name, 1, 12, 5), np.float64)
    (found,) = spectra(maps, [W], done=lambda rows: None)
    mean, above = _referee(maps, W, 1e-4)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9, atol=1e-12)
    assert found.above == above
    assert found.still == 0


def test_channels_that_never_vary_are_counted_where_they_are_chosen():
    maps = _maps(30, still=(1, 2))
    W = np.eye(12)[:, [0, 1, 2, 8]]
    sampled, mixed = spectra(maps, [W, np.linalg.qr(np.ones((12, 4)) + W)[0]], done=lambda rows: None)
    assert sampled.still == 0.5
    assert sampled.above == 0.5
    assert mixed.still == 0


def test_where_all_the_smallest_are_zero():
    """The rank of C is N − 1 at most."""
    maps = _maps(5)
    (all_of_them,) = spectra(maps, [np.eye(12)], done=lambda rows: None)
    assert np.all(all_of_them.mean[-8:] < 1e-12)
    assert all_of_them.mean[3] > 1e-6
    assert smallest(5, 12, 8)
    assert not smallest(5, 12, 9)
