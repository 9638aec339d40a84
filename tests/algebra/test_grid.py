"""`over_grid` maps H and W wherever they stand, and nothing else."""

import functools

import numpy as np
import pytest

from jaxsode.algebra import over_grid
from jaxsode.errors import ArgumentError


def _total(z):
    assert z.shape == (2, 5)  # N and k of one location
    return z.sum(1)


@pytest.mark.parametrize("axis", [1, -3])
def test_from_the_front_and_from_the_end(axis):
    z = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    for out_axis, where in ((0, (0, 1, 2)), (1, (1, 2, 0)), (-2, (1, 2, 0)), (-3, (0, 1, 2))):
        mapped = over_grid(_total, in_axes=axis, out_axes=out_axis)(z)
        # out of place `where` stand H, W and N
        np.testing.assert_allclose(np.transpose(mapped, where), z.sum(3).transpose(1, 2, 0), rtol=1e-5)


def test_several_arguments_and_one_that_is_not_mapped():
    z = np.ones((2, 3, 4, 5), np.float32)
    mean = np.full((3, 4, 5), 2, np.float32)
    mapped = over_grid(lambda z, mean, scale: (z - mean[None]).sum() * scale, in_axes=(-3, 0, None))
    np.testing.assert_array_equal(mapped(z, mean, np.float32(3)), np.full((3, 4), -30))


def test_what_can_not_be_mapped_is_refused():
    with pytest.raises(ArgumentError, match="H can't be the last axis"):
        over_grid(_total, in_axes=-1)
    with pytest.raises(ArgumentError, match=r"no keyword \(scale\)"):
        over_grid(lambda z, scale: z * scale)(np.ones((3, 4)), scale=2.0)
    bound = over_grid(functools.partial(lambda z, scale: z * scale, scale=2.0))
    np.testing.assert_array_equal(bound(np.ones((3, 4), np.float32)), np.full((3, 4), 2))
