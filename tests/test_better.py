"""Pooling, shares, choices, scales, shrunk covariances, weights: by whatever way of fitting, the same."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from tiny import Tiny, pictures

from jaxsode import Detector, Method
from jaxsode.blocks import fit_and_score, score, state_bytes
from jaxsode.choice import SHARES, Choice
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.fitting import embed, extract
from jaxsode.scoring import anomaly_maps
from jaxsode.share import Share

BACKBONE = Tiny.make()
TRAIN, TEST = pictures(40), pictures(4, seed=9)
AUTO = Method(k=6, seed=1, pooling=3, epsilon="auto")
ALL = Method(
    k=6,
    seed=1,
    pooling=(3, 1),
    align="bilinear",
    scale="layer",
    precision="shrunk",
    epsilon="auto",
    variance_weight=0.2,
)


def _fit(train=TRAIN, method=AUTO, *, step=8, **options):
    return Detector.fit(
        [train[i : i + step] for i in range(0, len(train), step)], BACKBONE, method, **options
    )


def _same(a, b, most=1e-5):
    maps, expected = (np.asarray(x.anomaly_map(TEST) if isinstance(x, Detector) else x) for x in (a, b))
    assert np.linalg.norm(maps - expected) <= most * np.linalg.norm(expected)


def _batches(array, step=8):
    def make():
        for i in range(0, len(array), step):
            yield extract(BACKBONE, array[i : i + step]), len(array[i : i + step])

    return make


def _plainly(train, test, method, *, epsilon=None, shrinkage=None):
    """Distances (N, H, W), float64; and ε and C̄."""
    detector = _fit(train, method)
    W, options = detector.W, {"pooling": method.pooling, "align": method.align}
    z, t = (np.asarray(embed(W, extract(BACKBONE, x), **options), np.float64) for x in (train, test))
    mean = z.mean(0)
    C = np.einsum("nhwi,nhwj->hwij", z - mean, z - mean) / len(z)
    variance = np.trace(C, axis1=2, axis2=3) / C.shape[-1]
    alpha = shrinkage or 0.0
    A = (1 - alpha) * C + alpha * C.mean((0, 1)) + epsilon * variance.mean() * np.eye(C.shape[-1])
    d2 = np.einsum("nhwi,hwij,nhwj->nhw", t - mean, np.linalg.inv(A), t - mean)
    return detector, np.sqrt(d2) * np.maximum(variance / variance.mean(), 1e-3) ** method.variance_weight


def test_is_what_its_equations_say():
    method = replace(ALL, epsilon="5%", shrinkage=0.3, sigma=0.0)
    detector, distance = _plainly(TRAIN, TEST, method, epsilon=0.05, shrinkage=0.3)
    _same(detector, anomaly_maps(jnp.asarray(distance, jnp.float32), (32, 24), 0.0), 1e-4)
    assert detector.choice is None
    assert detector.method.epsilon == Share(5.0)


def test_a_share_is_of_the_mean_variance_and_updates_keep_it():
    whole = _fit(method=replace(AUTO, epsilon="5%"))
    z = np.asarray(embed(whole.W, extract(BACKBONE, TRAIN), pooling=3), np.float64)
    np.testing.assert_allclose(whole.epsilon, 0.05 * z.var(0).mean(), rtol=1e-5)
    first, second = (_fit(part, whole.method) for part in (TRAIN[:10], TRAIN[10:]))
    assert abs(first.epsilon / whole.epsilon - 1) > 1e-3
    for same in (
        first.update([TRAIN[10:]]),
        Detector.merge(second, first),
        whole.update([TEST]).remove([TEST]),
    ):
        assert str(same.method.epsilon) == "5%"
        np.testing.assert_allclose(same.epsilon, whole.epsilon, rtol=1e-5)
        _same(same, whole)
    _same(_fit(method=replace(AUTO, epsilon=0.1)).with_epsilon("5%"), whole)
    # Of any other scale it is the same: features a thousand times larger make distances as large.
    large = Detector.fit([TRAIN], BACKBONE, replace(whole.method, embedding=whole.W * 1000, seed=None))
    _same(large, whole, 1e-4)


@pytest.mark.parametrize("method", [AUTO, ALL], ids=["auto", "all"])
def test_however_it_is_fitted_it_chooses_alike(method, tmp_path):
    whole = _fit(method=method)
    chosen = whole.method
    assert not chosen.automatic
    assert isinstance(chosen.epsilon, Share)
    size = {"size": (32, 24), "pictures": 40}
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("pictures", "locations"))
    sharded = _fit(method=method, mesh=mesh)
    _same(sharded, whole)
    assert sharded.method == chosen
    _same(_fit(method=method, step=5), whole)
    for keep in (True, False):
        maps = fit_and_score(_batches(TRAIN), _batches(TEST, 2), BACKBONE, method, rows=3, keep=keep, **size)
        _same(np.concatenate([m for m, _ in maps]), whole)
    list(fit_and_score(_batches(TRAIN), None, BACKBONE, method, rows=3, path=tmp_path / "blocks", **size))
    whole.save(tmp_path / "whole")
    _fit(method=method, keep_moments=False).save(tmp_path / "light")
    for name in ("blocks", "whole", "light"):
        loaded = Detector.load(tmp_path / name, backbone=BACKBONE)
        _same(loaded, whole, 1e-5 if name == "blocks" else 0)
        assert loaded.method == chosen
        np.testing.assert_allclose(loaded.epsilon, whole.epsilon, rtol=1e-5)
        assert str(loaded.choice) == str(whole.choice)
        memory = state_bytes((2, 6), chosen, 24, 40)
        maps = score(tmp_path / name, _batches(TEST, 2), memory=memory, backbone=BACKBONE)
        _same(np.concatenate([m for m, _ in maps]), whole)
    more = Detector.load(tmp_path / "blocks", backbone=BACKBONE).update([TEST])
    assert more.method == chosen  # it chooses again only when asked
    _same(more, whole.update([TEST]))


@pytest.mark.parametrize("method", [AUTO, ALL], ids=["auto", "all"])
def test_leave_one_out_is_a_refit_without_the_picture(method):
    """With C̄, v, the scale and what was chosen as they were; C̄ counts for α of it."""
    train = TRAIN[:20]
    detector = _fit(train, replace(method, sigma=0.0))
    maps = detector.leave_one_out([train])
    z = np.asarray(
        embed(detector.W, extract(BACKBONE, train), pooling=method.pooling, align=method.align), np.float64
    )
    C_of = np.einsum("nhwi,nhwj->hwij", z - z.mean(0), z - z.mean(0)) / len(z)
    variance = np.trace(C_of, axis1=2, axis2=3) / 6
    alpha = detector.method.shrinkage or 0.0
    others = np.delete(z, 7, axis=0)
    delta, y = z[7] - others.mean(0), others - others.mean(0)
    A = (1 - alpha) * np.einsum("nhwi,nhwj->hwij", y, y) / 19 + alpha * C_of.mean((0, 1))
    A = A + detector.epsilon * np.eye(6)
    d = np.sqrt(np.einsum("hwi,hwij,hwj->hw", delta, np.linalg.inv(A), delta))
    d *= np.maximum(variance / variance.mean(), 1e-3) ** method.variance_weight
    expected = np.asarray(anomaly_maps(jnp.asarray(d[None], jnp.float32), (32, 24), 0.0))[0]
    assert np.linalg.norm(maps[7] - expected) <= 1e-3 * np.linalg.norm(expected)


def test_the_choice_is_the_likelihood_s():
    """Against every share tried, by refits without each picture, in float64."""
    train = TRAIN[:12]
    detector = _fit(train, replace(AUTO, epsilon="auto"))
    z = np.asarray(embed(detector.W, extract(BACKBONE, train), pooling=3), np.float64)
    variance = z.var(0).mean()
    found = np.zeros(len(SHARES))
    for left in range(12):
        y = np.delete(z, left, axis=0)
        delta, y = z[left] - y.mean(0), y - y.mean(0)
        C = np.einsum("nhwi,nhwj->hwij", y, y) / 11
        for i, share in enumerate(SHARES):
            A = C + share / 100 * variance * np.eye(6)
            d2 = np.einsum("hwi,hwij,hwj->hw", delta, np.linalg.inv(A), delta)
            found[i] -= (d2 + np.linalg.slogdet(2 * np.pi * A)[1]).mean() / 2 / 6 / 12
    choice = detector.choice
    assert choice.likelihood.shape == (1, len(SHARES))
    np.testing.assert_allclose(choice.likelihood[0], found, rtol=1e-3, atol=1e-3)
    assert choice.share == pytest.approx(SHARES[found.argmax()])
    assert detector.method.epsilon.percent == pytest.approx(choice.share)


def test_for_few_pictures_it_shrinks_and_for_many_it_does_not():
    """Of locations that vary each in its own colours."""
    rng = np.random.default_rng(0)
    colours = rng.standard_normal((8, 6, 3, 3)).repeat(4, 0).repeat(4, 1)
    noise = np.einsum("hwab,nhwb->nhwa", colours, rng.standard_normal((300, 32, 24, 3)))
    train = (1 / (1 + np.exp(-noise))).astype(np.float32)
    method = Method(k=12, seed=1, precision="shrunk", epsilon="0.5%")
    few, many = (_fit(train[:n], method, step=n).method.shrinkage for n in (6, 300))
    assert few > many
    given = _fit(method=Method(k=6, precision="shrunk", shrinkage=1.0, epsilon="5%"))
    assert given.choice is None
    assert np.ptp(np.asarray(given.whitener).reshape(-1, 36), axis=0).max() < 1e-5  # one C̄ for all


def test_a_curve_that_ends_too_soon_is_said_so():
    shares = np.array([1.0, 2.0, 4.0], np.float32)

    def made(curve, taken):
        curve = np.array([curve], np.float32)
        return Choice(shares, np.zeros(1, np.float32), curve, curve, np.array(taken, np.int32))

    assert made([1, 2, 1], [0, 1]).note is None
    assert "still rising at the largest ε tried, 4%" in str(made([1, 2, 3], [0, 2]))
    assert "still rising at the smallest ε tried, 1%" in made([3, 2, 1], [0, 0]).note
    nothing = made([np.nan] * 3, [-1, -1])
    assert (nothing.share, "5% was taken" in nothing.note) == (5.0, True)
    again = Choice.of_page(json.loads(json.dumps(nothing.page())))
    assert str(again) == str(nothing)


def test_what_does_not_vary_has_no_share():
    for method in (AUTO, replace(AUTO, epsilon="5%"), replace(AUTO, precision="shrunk")):
        with pytest.raises(NumericalError, match="features don't vary at all"):
            _fit(TRAIN[:1], method)
    with pytest.raises(DataError, match="give at least two"):
        _fit(TRAIN[:1], Method(k=6, scale="layer"))
    with pytest.raises(NumericalError, match="mean variance of feature map 1 is 0"):
        _fit(np.repeat(TRAIN[:1] * 0, 3, axis=0), Method(k=6, scale="layer"))
    bad = TRAIN[:4].astype(np.float32) / 255
    bad[0, 3, 3] = np.nan
    with pytest.raises(NumericalError, match="mean variance is nan"):
        _fit(bad, replace(AUTO, epsilon="5%"))


def test_what_can_not_be():
    with pytest.raises(ArgumentError, match="pooling 3,1,1 for 2 feature maps"):
        _fit(method=Method(k=6, pooling=(3, 1, 1)))
    detector = _fit(method=replace(AUTO, epsilon="5%"))
    with pytest.raises(ArgumentError, match="'auto' is chosen from the pictures"):
        detector.with_epsilon("auto")
    for other in (
        replace(AUTO, epsilon="6%"),
        replace(AUTO, epsilon="5%", pooling=1),
        replace(AUTO, epsilon="5%", variance_weight=0.1),
    ):
        with pytest.raises(ArgumentError, match="the detectors differ in"):
            Detector.merge(detector, _fit(TRAIN[:4], other))


def test_they_stack_and_share_a_compilation():
    one, other = (_fit(TRAIN[:n]) for n in (20, 30))
    compiled = jax.jit(lambda detector, x: detector.anomaly_map(x))
    alone = [np.asarray(compiled(d, jnp.asarray(TEST))) for d in (one, other)]
    assert compiled._cache_size() == 1
    both = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), one, other)
    stacked = jax.vmap(lambda detector: detector.anomaly_map(jnp.asarray(TEST)))(both)
    np.testing.assert_allclose(stacked, np.stack(alone), rtol=1e-5)
