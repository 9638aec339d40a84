"""The detector against the whole method written plainly in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from tiny import Tiny, pictures

from jaxsode import Detector, Method, load_backbone
from jaxsode.algebra.distance import anomaly_map
from jaxsode.datasets import Batch
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.fitting import extract

BACKBONE = Tiny.make()


def _plain(train, test, W, *, epsilon=0.01, sigma=4.0):
    """Concatenate, project, invert, upsample, filter: float64, one location at a time."""

    def features(x):
        fine, coarse = (np.asarray(m, np.float64) for m in extract(BACKBONE, x))
        return np.concatenate([fine, coarse.repeat(2, 1).repeat(2, 2)], -1) @ np.asarray(W, np.float64)

    z, t = features(train), features(test)
    distance = np.zeros(t.shape[:3])
    for i, j in np.ndindex(*t.shape[1:3]):
        mean = z[:, i, j].mean(0)
        C = (z[:, i, j] - mean).T @ (z[:, i, j] - mean) / len(z)
        P = np.linalg.inv(C + epsilon * np.eye(len(C)))
        d = t[:, i, j] - mean
        distance[:, i, j] = np.sqrt(np.einsum("ni,ij,nj->n", d, P, d))
    up = np.stack(
        [np.asarray(anomaly_map(jnp.asarray(d, jnp.float32), test.shape[1:3], sigma=0.0)) for d in distance]
    )
    return np.stack([ndimage.gaussian_filter(u, sigma, mode="reflect", truncate=4.0) for u in up])


@pytest.mark.parametrize("embedding", ["semi-orthogonal", "sampled", "gaussian", "identity"])
def test_agrees_with_the_plain_method(embedding):
    train, test = pictures(40), pictures(3, seed=1)
    detector = Detector.fit(
        [train[:16], train[16:32], train[32:]],
        BACKBONE,
        Method(k=None if embedding == "identity" else 9, embedding=embedding, seed=3),
    )
    expected = _plain(train, test, detector.W)
    got = np.asarray(detector.anomaly_map(test))
    assert np.linalg.norm(got - expected) <= 1e-4 * np.linalg.norm(expected)
    assert detector.W.shape == (24, 24 if embedding == "identity" else 9)


def test_any_batching_gives_the_same_detector():
    train = pictures(70)
    whole = Detector.fit([train], BACKBONE, Method(k=5))
    for step in (1, 7, 32, 33):
        parts = Detector.fit((train[i : i + step] for i in range(0, 70, step)), BACKBONE, Method(k=5))
        np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(parts.whitener, whole.whitener, rtol=1e-3, atol=1e-3)
        assert (parts.method, int(parts.count)) == (whole.method, 70)


def test_padding_of_a_batch_counts_for_nothing():
    train = pictures(10)
    padded = np.concatenate([train[8:], np.repeat(train[9:], 6, axis=0)])
    batches = [
        Batch(pictures=train[:8], valid=8, indices=tuple(range(8)), masks=None),
        Batch(pictures=padded, valid=2, indices=(8, 9), masks=None),
    ]
    a, b = Detector.fit(batches, BACKBONE, Method(k=4)), Detector.fit([train], BACKBONE, Method(k=4))
    np.testing.assert_allclose(a.whitener, b.whitener, rtol=1e-3, atol=1e-4)
    assert int(a.count) == 10


def test_bytes_floats_and_grey():
    train, test = pictures(12), pictures(2, seed=1)
    grey = test[..., :1]
    detector = Detector.fit([train], BACKBONE, Method(k=4))
    np.testing.assert_allclose(
        detector.anomaly_map(test), detector.anomaly_map(test.astype(np.float32) / 255), rtol=1e-5
    )
    np.testing.assert_allclose(
        detector.anomaly_map(grey), detector.anomaly_map(np.repeat(grey, 3, -1)), rtol=1e-6
    )


def _aligned(shape, dtype):
    """Memory that JAX aliases on a CPU, if it may: its address is a multiple of 64."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _through_one_buffer(batches):
    """Each batch in turn in the same memory, as a camera gives them; noise in it as soon as it was taken."""
    buffer = _aligned(batches[0].shape, batches[0].dtype)
    for batch in batches:
        buffer[...] = batch
        yield buffer
        buffer[...] = np.random.default_rng(9).integers(0, 2, buffer.shape).astype(buffer.dtype)


@pytest.mark.parametrize("scale", [1, 255])
def test_a_buffer_that_is_used_again(scale):
    train = pictures(64, size=(128, 96))
    batches = [
        train[i : i + 8] if scale == 1 else train[i : i + 8] / np.float32(scale) for i in range(0, 64, 8)
    ]
    expected = Detector.fit(batches, BACKBONE, Method(k=5))
    detector = Detector.fit(_through_one_buffer(batches), BACKBONE, Method(k=5))
    np.testing.assert_array_equal(detector.mean, expected.mean)
    np.testing.assert_array_equal(detector.whitener, expected.whitener)
    maps = [detector.anomaly_map(buffer) for buffer in _through_one_buffer(batches)]
    for one, batch in zip(maps, batches, strict=True):
        np.testing.assert_array_equal(one, expected.anomaly_map(batch))


def test_features_and_embeddings_from_a_buffer_that_is_used_again():
    train = pictures(64, size=(128, 96))
    features = [[np.asarray(m) for m in extract(BACKBONE, train[i : i + 8])] for i in range(0, 64, 8)]
    extracted = [extract(BACKBONE, buffer) for buffer in _through_one_buffer(np.split(train, 8))]
    for one, other in zip(extracted, features, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    W = _aligned((24, 4), np.float32)
    W[...] = np.eye(24, dtype=np.float32)[:, :4]
    method, size = Method(embedding=W), (128, 96)
    W[...] = np.nan
    expected = Detector.fit_features(((m, 8) for m in features), BACKBONE, method, size=size)
    buffers = zip(*[_through_one_buffer([m[i] for m in features]) for i in range(2)], strict=True)
    detector = Detector.fit_features(((m, 8) for m in buffers), BACKBONE, method, size=size)
    np.testing.assert_array_equal(detector.whitener, expected.whitener)
    np.testing.assert_array_equal(detector.W, np.eye(24, dtype=np.float32)[:, :4])


def test_is_a_pytree():
    detector = Detector.fit([pictures(12)], BACKBONE, Method(k=4))
    test = pictures(2, seed=1)
    through_jit = jax.jit(lambda d, x: d.anomaly_map(x))(detector, jnp.asarray(test))
    np.testing.assert_allclose(through_jit, detector.anomaly_map(test), rtol=1e-5)
    same = jax.tree.unflatten(jax.tree.structure(detector), jax.tree.leaves(detector))
    np.testing.assert_array_equal(same.anomaly_map(test), detector.anomaly_map(test))


def test_a_given_embedding():
    W = jnp.eye(24)[:, :3]
    detector = Detector.fit([pictures(12)], BACKBONE, Method(embedding=W))
    np.testing.assert_array_equal(detector.W, W)
    assert detector.method == Method(embedding="given", k=3)
    with pytest.raises(ArgumentError, match="24 features want"):
        Detector.fit([pictures(12)], BACKBONE, Method(embedding=jnp.ones((23, 3))))


def test_one_picture_and_constant_pictures():
    constant = np.full((5, 32, 24, 3), 127, np.uint8)
    for train in (pictures(1), constant):
        detector = Detector.fit([train], BACKBONE, Method(k=4))
        assert np.isfinite(detector.anomaly_map(pictures(2, seed=1))).all()
        # √ of float32 rounding of the mean over √ε
        assert np.asarray(detector.anomaly_map(train[:1])).max() < 1e-3


def test_k_beyond_the_features():
    with pytest.raises(ArgumentError, match="k = 25 exceeds the 24 features"):
        Detector.fit([pictures(4)], BACKBONE, Method(k=25))


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"method": 100}, r"the method is 100, which is none: give Method\(k=100\)"),
        ({"method": "local"}, r"the method is 'local', which is none: give Method\(…\)"),
        (
            {"backbone": "resnet18"},
            r"the backbone is a name, 'resnet18': give load_backbone\('resnet18'\)",
        ),
        (
            {"backbone": np.tanh},
            "the backbone is a ufunc without name, strides, channels, normalisation: give one of "
            "load_backbone, or one of your own as jaxsode.backbones.Backbone says",
        ),
        ({"pictures": "a"}, "pictures is 'a': give how many there are, or leave it out"),
        ({"pictures": True}, "pictures is True: .+"),
        ({"pictures": 0}, "pictures is 0: .+"),
        ({"mesh": "x"}, "the mesh is a str: give one that jax.make_mesh made, or none"),
    ],
)
def test_what_is_likely_given_by_mistake(given, line):
    given = {"backbone": BACKBONE, "method": Method(k=3)} | given
    with pytest.raises(ArgumentError, match=f"^{line}$"):
        Detector.fit([pictures(2)], **given)
    with pytest.raises(ArgumentError, match=f"^{line}$"):
        Detector.fit_features([], **given, size=(32, 24))


def test_mistakes_with_a_detector(tmp_path):
    detector = Detector.fit([pictures(4)], BACKBONE, Method(k=3))
    for mistake, line in {
        lambda: Detector.merge(detector, "x"): "^a str can't be merged: give two detectors$",
        lambda: detector.save(None): "^None is no path: give the path of a folder$",
        lambda: Detector.load(None): "^None is no path: give the path of a folder$",
        lambda: Detector.load(tmp_path, mesh="x"): "^the mesh is a str: give one",
        lambda: load_backbone("resnet18", layers=3, weights="random"): "^layers 3: give their numbers",
    }.items():
        with pytest.raises(ArgumentError, match=line):
            mistake()


def test_layers_must_be_the_backbones():
    backbone = load_backbone("resnet18", weights="random", layers=(1, 2))
    detector = Detector.fit([pictures(2)], backbone, Method(k=4, layers=(1, 2)))
    assert detector.method.layers == (1, 2)
    with pytest.raises(ArgumentError, match=r"layers \(1,\) and the backbone of \(1, 2\)"):
        Detector.fit([pictures(2)], backbone, Method(k=4, layers=(1,)))


def test_the_former_keywords_still_fit_for_one_release():
    W = np.eye(24, dtype=np.float32)[:, :3]
    for old, method in (({"k": 4, "seed": 3}, Method(k=4, seed=3)), ({"W": W}, Method(embedding=W))):
        with pytest.warns(DeprecationWarning, match="give them as Method"):
            detector = Detector.fit([pictures(12)], BACKBONE, **old)
        expected = Detector.fit([pictures(12)], BACKBONE, method)
        np.testing.assert_array_equal(detector.whitener, expected.whitener)
        with pytest.warns(DeprecationWarning, match="settings is now"):
            assert detector.settings.pictures == 12
    for old, words in (({"embedding": "none"}, "both W and"), ({"k": 7}, "k = 7 with a W of 3")):
        with pytest.raises(ArgumentError, match=words), pytest.warns(DeprecationWarning, match="W"):
            Detector.fit([pictures(4)], BACKBONE, W=W, **old)
    with pytest.raises(ArgumentError, match="epsilon beside a method"):
        Detector.fit([pictures(4)], BACKBONE, Method(), epsilon=0.1)
    with pytest.raises(TypeError, match="epsylon"):
        Detector.fit([pictures(4)], BACKBONE, epsylon=0.1)


@pytest.mark.parametrize(
    ("batches", "error", "words"),
    [
        ([], DataError, "no pictures to fit on"),
        ([pictures(4), pictures(4, size=(24, 32))], ArgumentError, "give pictures of one size"),
        ([pictures(2), pictures(4)], ArgumentError, "no larger than the first"),
        ([pictures(4)[0]], ArgumentError, "it must be"),
        ([pictures(4).astype(np.int64)], ArgumentError, "give uint8, or floats"),
    ],
)
def test_bad_pictures(batches, error, words):
    with pytest.raises(error, match=words):
        Detector.fit(batches, BACKBONE, Method(k=4))


def test_another_size_is_refused():
    detector = Detector.fit([pictures(4)], BACKBONE, Method(k=4))
    with pytest.raises(ArgumentError, match=r"pictures are 24 × 32 and the detector was fitted on 32 × 24"):
        detector.anomaly_map(pictures(1, size=(24, 32)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["tiny", "resnet18"])
def test_a_pixel_that_is_not_finite_does_not_score_as_clean(name, value):
    backbone = BACKBONE if name == "tiny" else load_backbone(name, weights="random", layers=(1, 2))
    detector = Detector.fit([pictures(6)], backbone, Method(k=4))
    test = pictures(2, seed=1).astype(np.float32) / 255
    clean = np.asarray(detector.anomaly_map(test))
    test[1, 10, 7] = value
    maps = np.asarray(detector.anomaly_map(test))
    np.testing.assert_allclose(maps[0], clean[0], rtol=1e-6)
    assert np.isnan(maps[1, 10, 7])
    test[1] = value
    assert np.isnan(detector.anomaly_map(test)[1]).all()


def test_a_later_batch_of_another_range_is_named_as_a_reason():
    """JAX's floats aren't waited for but in the first batch."""
    later = jnp.asarray(pictures(4, seed=1), jnp.float32)
    with pytest.raises(
        NumericalError, match=r"can't be factorised .* as of floats outside \[0, 1\]"
    ) as error:
        Detector.fit([jnp.asarray(pictures(4), jnp.float32) / 255, later], BACKBONE, Method(k=4))
    assert "\n" not in str(error.value)


def test_a_failed_factorisation_is_an_error_with_its_place():
    bad = pictures(4).astype(np.float32) / 255
    bad[:, 8:12, 4:8] = np.nan
    with pytest.raises(NumericalError, match=r"location \(2, 0\), nor at 3 others"):
        Detector.fit([bad], BACKBONE, Method(k=4))
    for precision in ("global", "global-one-mean"):  # which is nobody's place in particular
        with pytest.raises(NumericalError, match="can't be factorised: its features are not finite"):
            Detector.fit([bad], BACKBONE, Method(k=4, precision=precision))
