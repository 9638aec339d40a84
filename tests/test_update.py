"""A detector that keeps its moments: more pictures, fewer, two in one, another ε, and each left out."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny import Tiny, pictures

from jaxsode import Detector, Method
from jaxsode.algebra import over_grid
from jaxsode.algebra.moments import covariance
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.fitting import accumulate, collect, embed, extract
from jaxsode.pictures import batches
from jaxsode.scoring import anomaly_maps
from jaxsode.statistics import MOMENTS, ONE_SET, POOLED, Packed, Pictures, pack, unpack

BACKBONE = Tiny.make()
METHOD = Method(k=6, seed=1)
TEST = pictures(3, seed=9)


def _fit(train, method=METHOD, *, backbone=BACKBONE, **options):
    batches = [train[i : i + 8] for i in range(0, len(train), 8)]
    return Detector.fit(batches, backbone, method, **options)


def _apart(a, b):
    """The largest relative difference, in norm, of mean, covariance and maps."""
    pairs = [(a.mean, b.mean), (a.anomaly_map(TEST), b.anomaly_map(TEST))]
    if isinstance(a.statistics, Packed) and isinstance(b.statistics, Packed):
        pairs.append(tuple(over_grid(covariance)(unpack(d.statistics)) for d in (a, b)))
    return [np.linalg.norm(np.asarray(x) - np.asarray(y)) / np.linalg.norm(np.asarray(y)) for x, y in pairs]


@pytest.mark.parametrize("precision", ["local", "global", "global-one-mean"])
def test_any_split_in_any_order_is_one_fit(precision):
    method = replace(METHOD, precision=precision)
    train = pictures(45)
    whole = _fit(train, method)
    first, second, third = (_fit(part, method) for part in np.split(train[::-1], [3, 20]))
    for same in (
        first.update([train[:25]]).update([train[25:42]]),
        _fit(train[:1], method).update([train[1:9], train[9:]][::-1]),
        Detector.merge(Detector.merge(third, first), second),
        Detector.merge(first, second).update([train[:25]]),
    ):
        assert int(same.count) == 45
        mean, maps, *rest = _apart(same, whole)
        assert max([mean, *rest]) <= 1e-6
        assert maps <= 1e-5


def _features(train):
    return (embed(METHOD.matrix(24), extract(BACKBONE, train)), len(train))


def test_what_a_detector_keeps_is_its_own():
    """Who gathers on gives the memory of what was gathered away; a detector made of it before stays."""
    train = pictures(20)
    for statistic, precision in ((MOMENTS, "local"), (POOLED, "global"), (ONE_SET, "global-one-mean")):
        state = accumulate([_features(train[:12])], statistic=statistic)
        method = replace(METHOD, precision=precision)
        used_up = jax.tree.map(jnp.copy, state)
        detector = Detector.of_statistics(used_up, BACKBONE, METHOD.matrix(24), method, size=(32, 24))
        if precision != "local":  # of which the whitener takes the memory
            accumulate([_features(train[12:])], statistic=statistic, state=used_up)
        assert max(_apart(detector.update([train[12:]]), _fit(train, method))) <= 1e-5
    state = accumulate([_features(train)])
    packed = pack(state)
    accumulate([_features(train)], state=state)
    again = Detector.of_statistics(packed, BACKBONE, METHOD.matrix(24), METHOD, size=(32, 24))
    assert max(_apart(again, _fit(train))) <= 1e-5
    assert int(packed.count[0, 0]) == 20  # and it is still there


@pytest.mark.parametrize("precision", ["eigenvectors-lower", "eigenvectors-higher", "full-rank"])
def test_one_kept_its_pictures_and_the_other_its_moments(precision):
    k = None if precision == "full-rank" else 5
    method = Method(k=k, embedding="identity", precision=precision)
    train = pictures(70)
    many = _fit(train[:60], method, pictures=60)  # more than F = 24: cheaper from the moments
    few = _fit(train[60:], method, pictures=10)
    assert (type(many.statistics), type(few.statistics)) == (Packed, Pictures)
    whole = _fit(train, method, pictures=70)
    for merged in (Detector.merge(many, few), Detector.merge(few, many)):
        assert int(merged.count) == 70
        assert max(_apart(merged, whole)) <= 1e-4


@pytest.mark.parametrize("precision", ["local", "global", "global-one-mean"])
def test_a_precision_of_another_kind_is_refused(precision):
    needs = {"local": MOMENTS, "global": POOLED, "global-one-mean": ONE_SET}
    for other, statistic in needs.items():
        if other == precision:
            continue
        state = accumulate([_features(pictures(8))], statistic=statistic)
        with pytest.raises(ArgumentError, match=f"precision '{precision}' isn't made from"):
            Detector.of_statistics(
                state,
                BACKBONE,
                METHOD.matrix(24),
                replace(METHOD, precision=precision),
                size=(32, 24),
            )


def test_statistics_of_another_k_are_refused():
    state = accumulate([_features(pictures(8))])
    with pytest.raises(ArgumentError, match="k = 6, W is 24 × 7"):
        Detector.of_statistics(state, BACKBONE, jnp.ones((24, 7)), METHOD, size=(32, 24))
    with pytest.raises(ArgumentError, match="the method of k = 5"):
        Detector.of_statistics(state, BACKBONE, METHOD.matrix(24), Method(k=5), size=(32, 24))


def test_full_rank_of_what_was_gathered():
    method = Method(embedding="identity", precision="full-rank")
    z = [(embed(jnp.eye(24), extract(BACKBONE, pictures(9))), 9)]
    made = [
        Detector.of_statistics(state, BACKBONE, jnp.eye(24), method, size=(32, 24))
        for state in (accumulate(z), collect(z))
    ]
    assert [detector.method.precision for detector in made] == ["local", "dual"]
    assert _apart(*made)[1] <= 1e-4


@pytest.mark.parametrize("precision", ["local", "global", "global-one-mean"])
def test_removed_is_as_if_never_in(precision):
    method = replace(METHOD, precision=precision)
    train = pictures(45)
    for left, gone in ((train[1:], [train[:1]]), (train[10:], [train[:8], train[8:10]])):
        removed = _fit(train, method).remove(gone)
        assert int(removed.count) == len(left)
        assert max(_apart(removed, _fit(left, method))) <= 1e-5


def test_what_can_not_be_removed():
    detector = _fit(pictures(12))
    foreign = np.zeros((1, 32, 24, 3), np.uint8)
    with pytest.raises(NumericalError, match="removed that were never in"):
        detector.remove([foreign])
    with pytest.raises(ArgumentError, match="12 pictures can't be removed from 12"):
        detector.remove([pictures(12)])
    with pytest.raises(DataError, match="no pictures"):
        detector.remove([])


def test_removed_that_stood_too_far_out():
    """Of a network whose features know no bounds: float32 has no digits left of the others."""

    @dataclass(frozen=True)
    class Unbounded(Tiny):
        def __call__(self, pictures, /):
            return tuple(
                x * jnp.exp(20 * jnp.mean(pictures, (1, 2, 3), keepdims=True))
                for x in super().__call__(pictures)
            )

    jax.tree_util.register_dataclass(Unbounded)
    backbone, train = Unbounded(BACKBONE.kernel), pictures(12) // 8
    far, farther = (np.full((1, 32, 24, 3), value, np.uint8) + train[:1] // 4 for value in (20, 80))
    for precision in ("local", "global", "global-one-mean"):
        method = replace(METHOD, precision=precision)
        without = _fit(train, method, backbone=backbone)
        removed = _fit(np.concatenate([train, far]), method, backbone=backbone).remove([far])
        maps, expected = (np.asarray(d.anomaly_map(TEST // 8)) for d in (removed, without))
        assert np.linalg.norm(maps - expected) <= 1e-3 * np.linalg.norm(expected)
        with pytest.raises(NumericalError, match="fit again without them"):
            _fit(np.concatenate([train, farther]), method, backbone=backbone).remove([farther])


def test_another_epsilon():
    train = pictures(20)
    other = _fit(train).with_epsilon(0.3)
    assert float(other.method.epsilon) == 0.3
    assert max(_apart(other, _fit(train, replace(METHOD, epsilon=0.3)))) <= 1e-6
    with pytest.raises(ArgumentError, match="epsilon = 0"):
        other.with_epsilon(0.0)


def test_the_one_updated_stays_as_it_was():
    detector = _fit(pictures(12))
    before = np.asarray(detector.anomaly_map(TEST))
    detector.update([pictures(5, seed=3)])
    detector.with_epsilon(1.0)
    detector.remove([pictures(12)[:2]])
    np.testing.assert_array_equal(detector.anomaly_map(TEST), before)
    assert max(_apart(detector.update([pictures(5, seed=3)]).remove([pictures(5, seed=3)]), detector)) <= 1e-5


def test_for_scoring_alone():
    detector = _fit(pictures(12), keep_moments=False)
    np.testing.assert_array_equal(detector.anomaly_map(TEST), _fit(pictures(12)).anomaly_map(TEST))
    for call in (
        lambda: detector.update([TEST]),
        lambda: detector.remove([TEST]),
        lambda: detector.with_epsilon(0.1),
        lambda: detector.leave_one_out([TEST]),
        lambda: Detector.merge(detector, detector),
    ):
        with pytest.raises(ArgumentError, match="needs the moments, which this detector was fitted"):
            call()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (_fit(pictures(4), Method(k=6, seed=2)), "differ in W:"),
        (_fit(pictures(4), Method(k=5, seed=1)), "differ in k, W:"),
        (_fit(pictures(4), replace(METHOD, epsilon=0.1)), "differ in epsilon:"),
        (_fit(pictures(4, size=(24, 32))), "differ in size:"),
        (
            Detector.fit([pictures(4)], replace(BACKBONE, kernel=BACKBONE.kernel * 2), METHOD),
            "differ in backbone:",
        ),
    ],
)
def test_unlike_detectors_do_not_merge(other, words):
    with pytest.raises(ArgumentError, match=words):
        Detector.merge(_fit(pictures(4)), other)


def test_the_same_epsilon_however_it_was_written():
    one, other = (_fit(pictures(4), replace(METHOD, epsilon=e)) for e in (0.01, np.float32(0.01)))
    assert int(Detector.merge(one, jax.jit(lambda d: d)(other)).count) == 8


def test_ten_and_twelve_pictures_stack_and_share_a_compilation():
    ten, twelve = (
        _fit(pictures(10), replace(METHOD, seed=2**31 + 5)),
        _fit(pictures(12), replace(METHOD, epsilon=0.1)),
    )
    score = jax.jit(lambda detector, x: detector.anomaly_map(x))
    alone = [np.asarray(score(detector, jnp.asarray(TEST))) for detector in (ten, twelve)]
    assert score._cache_size() == 1
    both = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), ten, twelve)
    assert both.count.tolist() == [10, 12]
    stacked = jax.vmap(lambda detector: detector.anomaly_map(jnp.asarray(TEST)))(both)
    np.testing.assert_allclose(stacked, np.stack(alone), rtol=1e-5)
    np.testing.assert_allclose(alone[0], ten.anomaly_map(TEST), rtol=1e-5)


def _left_out_plainly(train, method, left):
    """The distances (H, W) of one picture to the float64 model of the others."""
    z = np.asarray(embed(method.matrix(24), extract(BACKBONE, train)), np.float64)
    others = np.delete(z, left, axis=0)
    mean = others.mean(0)
    deviation = others - mean
    C = np.einsum("nhwi,nhwj->hwij", deviation, deviation) / len(others)
    P = np.linalg.inv(C + method.epsilon * np.eye(C.shape[-1]))
    d = z[left] - mean
    return np.sqrt(np.einsum("hwi,hwij,hwj->hw", d, P, d))


def test_leave_one_out_is_a_refit_without_the_picture():
    train = pictures(30)
    maps = _fit(train).leave_one_out([train[:8], train[8:16], train[16:24], train[24:]])
    assert maps.shape == (30, 32, 24)
    for left in (0, 13, 29):
        refitted = _fit(np.delete(train, left, axis=0)).anomaly_map(train[left : left + 1])[0]
        assert np.linalg.norm(maps[left] - refitted) <= 1e-3 * np.linalg.norm(refitted)
    sharp = _fit(train, replace(METHOD, sigma=0.0)).leave_one_out([train])
    plain = _left_out_plainly(train, METHOD, 13)
    expected = np.asarray(anomaly_maps(plain[None].astype(np.float32), (32, 24), 0.0))[0]
    assert np.linalg.norm(sharp[13] - expected) <= 1e-3 * np.linalg.norm(expected)


def test_leave_one_out_of_what_was_not_in():
    train = pictures(10)
    detector = _fit(train)
    with pytest.raises(NumericalError, match="picture 8 has no leave-one-out distance at location"):
        detector.leave_one_out([train[:8], np.full((1, 32, 24, 3), 255, np.uint8)])
    with pytest.raises(DataError, match="there are no pictures"):
        detector.leave_one_out([])
    with pytest.raises(ArgumentError, match="a single picture leaves nothing"):
        _fit(train[:1]).leave_one_out([train[:1]])
    # As many directions as pictures: each has one for itself.
    with pytest.raises(NumericalError, match="a smaller k"):
        _fit(train, Method(k=20, epsilon=1e-6)).leave_one_out([train])
    with pytest.raises(ArgumentError, match="of the precision 'local' or 'shrunk', not 'global'"):
        _fit(train, Method(k=4, precision="global")).leave_one_out([train])


def test_how_files_became_pictures_stays_with_the_detector(tmp_path):
    for i, picture in enumerate(pictures(6, size=(32, 24))):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    files = batches(tmp_path, range=4095)
    method = Method(k=4)
    fitted = Detector.fit(files, BACKBONE, method)
    assert fitted.preparation == files.preparation
    assert fitted.preparation.range == 4095
    plain = Detector.fit([pictures(5, seed=3)], BACKBONE, method)
    assert plain.preparation is None
    fitted.save(tmp_path / "saved")
    loaded = Detector.load(tmp_path / "saved", backbone=BACKBONE)
    bare = Detector.load(tmp_path / "saved", backbone=BACKBONE, keep_moments=False)
    merged = Detector.merge(plain, fitted)
    others = (loaded, bare, fitted.update([pictures(2)]), fitted.with_epsilon(0.1), merged)
    for one in (*others, jax.jit(lambda d: d)(fitted)):
        assert one.preparation == files.preparation
    other = Detector.fit(batches(tmp_path, range=1023), BACKBONE, method)
    with pytest.raises(ArgumentError, match=r"^the detectors differ in preparation"):
        Detector.merge(fitted, other)
