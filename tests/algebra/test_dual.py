"""The dual form against float64 and against the Cholesky factor; what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsode import datasets, load_backbone
from jaxsode.algebra import over_grid
from jaxsode.algebra.dual import Dual, cheaper, factorise
from jaxsode.algebra.moments import covariance, of_batch
from jaxsode.algebra.precision import whitener
from jaxsode.algebra.pyramid import align
from jaxsode.fitting import extract


def _referee(x, z, epsilon):
    x, z = x.astype(np.float64), z.astype(np.float64)
    y = x - x.mean(0)
    C = y.T @ y / len(x) + epsilon * np.eye(x.shape[1])
    delta = z - x.mean(0)
    return np.sqrt(np.sum(delta * np.linalg.solve(C, delta.T).T, axis=1))


def _dual(x, z, epsilon):
    mean = np.mean(x, 0, dtype=np.float64)
    dual = jax.jit(factorise)(jnp.asarray(x - mean, jnp.float32), epsilon)
    return jax.jit(jax.vmap(Dual.distance, (None, 0, None)))(dual, z, jnp.asarray(mean, jnp.float32))


def _cholesky(x, z, epsilon):
    moments = of_batch(jnp.asarray(x))
    M = whitener(covariance(moments), epsilon)
    delta = jnp.asarray(z) - moments.mean[None]
    return jnp.linalg.norm(jnp.matmul(delta, M.T, precision="highest"), axis=1)


def _pictures(n, F, *, more=0, seed=0):
    """A spectrum such as features have: variances from 10 down to 1e-6, and means that are not 0."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((F, F)))[0]
    x = rng.standard_normal((n + more, F)) * np.sqrt(np.geomspace(10, 1e-6, F)) @ rotation
    x = (x + rng.gamma(1, 1, F)).astype(np.float32)
    return x[:n], x[n:]


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
@pytest.mark.parametrize(("n", "F"), [(1, 5), (2, 3), (60, 448), (230, 448), (20, 20), (30, 10)])
def test_agrees_with_the_cholesky_factor_and_with_float64(n, F, epsilon):
    x, unseen = _pictures(n, F, more=16)
    for z in (x[:16], unseen):
        d = _dual(x, z, epsilon)
        assert d.dtype == jnp.float32
        true = _referee(x, z, epsilon)
        # to the rounding of the mean, which is all that there is where a picture is its own mean
        atol = 1e-5 if n == 1 else 0
        np.testing.assert_allclose(d, true, rtol=1e-5, atol=atol)
        np.testing.assert_allclose(d, _cholesky(x, z, epsilon), rtol=1e-3, atol=atol)


def test_pictures_that_repeat_and_features_that_never_change():
    """A rank far below N: a decomposition of YYᵀ alone would fail."""
    x, unseen = _pictures(12, 30, more=4)
    x = np.concatenate([x, x, x])
    x[:, :10] = 0.5
    for z in (x[:4], unseen):
        np.testing.assert_allclose(_dual(x, z, 0.01), _referee(x, z, 0.01), rtol=1e-5)
    constant = np.ones((5, 4), np.float32)
    np.testing.assert_allclose(_dual(constant, constant[:1] + 1, 0.01), [np.sqrt(4 / 0.01)], rtol=1e-6)


def test_keeps_its_digits_where_the_subtracting_form_does_not():
    x, _ = _pictures(60, 448)
    true = _referee(x, x, 1e-4)
    y = jnp.asarray(x - x.mean(0, dtype=np.float64), jnp.float32)
    A = y / jnp.sqrt(60.0)
    a = jnp.matmul(y, A.T, precision="highest")
    inner = jnp.linalg.solve(jnp.matmul(A, A.T, precision="highest") + 1e-4 * jnp.eye(60), a.T).T
    subtracting = jnp.sqrt((jnp.sum(y * y, axis=1) - jnp.sum(a * inner, axis=1)) / 1e-4)
    assert not np.allclose(subtracting, true, rtol=1e-2)
    # Over seeds, rounding leaves up to 1.4e-4, by a library's factorisation too.
    np.testing.assert_allclose(_dual(x, x, 1e-4), true, rtol=2e-4)


@pytest.mark.parametrize("epsilon", [0.01, 0.3])
def test_real_features(real_data, epsilon):
    """ResNet-18's 448 features of good pictures, at locations far from each other."""
    dataset = datasets.load("kolektor", data_dir=real_data / "data" / "KolektorSDD.zip")
    backbone = load_backbone(
        "resnet18", weights=real_data / "weights" / "resnet18_imagenet1k_v1_layers1to3_bn_folded.npz"
    )
    good = list(dataset.split("1").train)[:24]
    rows = []
    for start in range(0, len(good), 8):
        maps = extract(backbone, np.stack([dataset.picture(i) for i in good[start : start + 8]]))
        grid = maps[0].shape[1:3]
        x = np.concatenate([np.asarray(align(m, grid)) for m in maps], axis=-1)
        rows.append(x[:, 11::60, 7::40].reshape(len(x), -1, x.shape[-1]))
    x = np.concatenate(rows)
    assert x.shape[2] == 448
    for location in range(x.shape[1]):
        fitted, unseen = x[:16, location], x[16:, location]
        for z in (fitted, unseen):
            true = _referee(fitted, z, epsilon)
            np.testing.assert_allclose(_dual(fitted, z, epsilon), true, rtol=1e-4)
            np.testing.assert_allclose(_cholesky(fitted, z, epsilon), true, rtol=1e-3)


def test_float64_is_kept():
    with jax.enable_x64(True):
        x, unseen = (a.astype(np.float64) for a in _pictures(20, 50, more=5))
        dual = factorise(jnp.asarray(x - x.mean(0)), 0.01)
        assert {leaf.dtype for leaf in jax.tree.leaves(dual)} == {jnp.dtype("float64")}
        d = jax.vmap(lambda z: dual.distance(z, jnp.asarray(x.mean(0))))(jnp.asarray(unseen))
        np.testing.assert_allclose(d, _referee(x, unseen, 0.01), rtol=1e-12)


def test_over_the_grid_every_location_is_on_its_own():
    x = np.stack([_pictures(6, 9, seed=i)[0] for i in range(6)]).reshape(2, 3, 6, 9)
    mean = x.mean(2)
    dual = jax.jit(over_grid(lambda y: factorise(y, 0.1)))(x - mean[:, :, None])
    assert dual.pictures.shape == (2, 3, 6, 9)
    d = jax.jit(over_grid(Dual.distance))(dual, x[:, :, 0] + 1, mean)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(d[i, j], _referee(x[i, j], x[i, j, :1] + 1, 0.1)[0], rtol=1e-5)


def test_zero_at_the_mean_with_a_finite_gradient():
    x, _ = _pictures(6, 9)
    mean = jnp.asarray(x.mean(0))
    dual = factorise(jnp.asarray(x) - mean[None], 0.01)
    value, gradient = jax.value_and_grad(dual.distance)(mean, mean)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(9))
    check_grads(
        lambda z: dual.distance(jnp.asarray(z), mean),
        (jnp.asarray(x[0] + 1),),
        order=1,
        atol=2e-2,
        rtol=2e-2,
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_a_small_distance(value):
    x, _ = _pictures(6, 9)
    mean = x.mean(0)
    bad = x[0].copy()
    bad[3] = value
    dual = factorise(jnp.asarray(x - mean), 0.01)
    assert not np.isfinite(dual.distance(jnp.asarray(bad), jnp.asarray(mean)))
    assert not np.isfinite(dual.distance(jnp.asarray(mean), jnp.asarray(bad)))
    for row in (0, 5):
        spoilt = x - mean
        spoilt[row, 2] = value
        d = factorise(jnp.asarray(spoilt), 0.01).distance(jnp.asarray(x[0]), jnp.asarray(mean))
        assert not np.isfinite(d)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, np.nan])
def test_epsilon_must_be_above_zero(epsilon):
    x, _ = _pictures(6, 9)
    assert np.isnan(factorise(jnp.asarray(x), epsilon).distance(jnp.ones(9), jnp.zeros(9)))


def test_the_cheaper_form():
    assert cheaper(1, 448) == "dual"
    assert cheaper(60, 448) == "dual"
    assert cheaper(230, 448) == "dual"
    assert cheaper(200, 1792) == "dual"
    for features in (1, 100, 1792):
        assert cheaper(features, features) == "cholesky"
        assert cheaper(10 * features, features, scored=0) == "cholesky"
    # a score by the dual reads N·F + N² numbers twice, which tells in the end
    assert cheaper(230, 448, scored=10**6) == "cholesky"
    assert cheaper(60, 448, scored=10**6) == "dual"


def test_once_cholesky_is_cheaper_it_stays_so_with_more_pictures():
    for features in (100, 448, 1792):
        choices = [cheaper(n, features) for n in range(1, features + 10, 3)]
        assert choices == sorted(choices, reverse=True)
