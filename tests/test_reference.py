"""Parity with an independent PyTorch computation on real pictures and weights: fold 1, its W given.

The reference's moments are of features rounded to float16; against float64 without rounding it lies within
2e-5 (mean), 2e-4 (covariance) and 3e-5 (distance, map), relative in norm.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode import Detector, Method, datasets, load_backbone
from jaxsode.algebra import over_grid
from jaxsode.algebra.distance import mahalanobis
from jaxsode.algebra.moments import covariance
from jaxsode.algebra.pyramid import project_then_align
from jaxsode.fitting import accumulate, embed, extract
from jaxsode.metrics import evaluate

K, EPSILON = 100, 0.01


def _relative(ours, theirs):
    return np.linalg.norm(np.asarray(ours, np.float64) - theirs) / np.linalg.norm(theirs)


@pytest.fixture(scope="module")
def reference(real_data):
    return dict(np.load(real_data / "reference" / "fold1_k100.npz"))


@pytest.fixture(scope="module")
def dataset(real_data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSODE_HOME", str(tmp_path_factory.mktemp("prepared")))
        yield datasets.load("kolektor", data_dir=real_data / "data" / "KolektorSDD.zip")


@pytest.fixture(scope="module")
def backbone(real_data):
    weights = real_data / "weights" / "resnet18_imagenet1k_v1_layers1to3_bn_folded.npz"
    return load_backbone("resnet18", weights=weights)


def _batches(dataset, part):
    indices = getattr(dataset.split("1"), part)
    return datasets.batches(dataset, indices, batch_size=8, with_masks=part == "test")


@pytest.fixture(scope="module")
def fitted(dataset, backbone, reference):
    """The detector, and the covariances that its moments gave on the way."""
    W = jnp.asarray(reference["W"])
    batches = _batches(dataset, "train")
    moments = accumulate((embed(W, extract(backbone, batch.pictures)), batch.valid) for batch in batches)
    coarse = jax.tree.map(lambda x: x[::44, ::32], moments)
    C = np.asarray(over_grid(covariance)(coarse))
    method = Method(embedding=reference["W"], epsilon=EPSILON)
    detector = Detector.of_statistics(moments, backbone, W, method, size=dataset.size)
    assert int(detector.count) == 230
    return detector, C


@pytest.fixture(scope="module")
def three(dataset, reference):
    indices = [i for i, e in enumerate(dataset.examples) if e.name in set(reference["pictures"])]
    assert [dataset.examples[i].name for i in indices] == list(reference["pictures"])
    return np.stack([dataset.picture(i) for i in indices])


def test_picture_bit_for_bit(three, reference):
    np.testing.assert_array_equal(three[0, ..., 0], reference["resized"][0])


def test_features(three, backbone, reference):
    for layer, (ours, stride) in enumerate(zip(extract(backbone, three), (8, 4, 2), strict=True), start=1):
        theirs = reference[f"layer{layer}_stride{stride}"]
        assert _relative(ours[:, ::stride, ::stride], theirs) <= 1e-4


def test_mean_and_covariance(fitted, reference):
    detector, C = fitted
    assert _relative(detector.mean, reference["mean"]) <= 1e-4
    theirs = reference["covariance_stride44x32"]
    for place in np.ndindex(theirs.shape[:2]):
        assert _relative(C[place], theirs[place]) <= 5e-4


def test_distance_and_map(fitted, three, reference):
    detector, _ = fitted
    z = project_then_align(extract(detector.backbone, three), detector.W)
    per_picture = jax.jit(jax.vmap(over_grid(mahalanobis), in_axes=(0, None, None)))
    distance = per_picture(z, detector.mean, detector.whitener)
    maps = np.asarray(detector.anomaly_map(three))
    for picture in range(3):
        assert _relative(distance[picture], reference["distance"][picture]) <= 2e-4
        assert _relative(maps[picture, ::4, ::4], reference["anomaly_map_stride4"][picture]) <= 2e-4


def test_metrics(fitted, dataset, real_data):
    detector, _ = fitted
    expected = json.loads((real_data / "reference" / "expected.json").read_text())["runs"][0]
    assert (expected["embedding"], expected["k"], expected["seed"], expected["fold"]) == (
        "semi-orthogonal",
        K,
        0,
        1,
    )
    maps, masks = [], []
    for batch in _batches(dataset, "test"):
        assert batch.masks is not None
        maps.append(np.asarray(detector.anomaly_map(batch.pictures))[: batch.valid])
        masks.append(batch.masks[: batch.valid])
    defective = [dataset.examples[i].defective for i in dataset.split("1").test]
    ours = evaluate(np.concatenate(maps), np.concatenate(masks), defective, paper_full_mask=True)
    for name in ("pixel_auroc", "pro"):
        for average in ("pooled", "paper"):
            assert abs(ours[name][average] - expected[average][name]) <= 5e-4
    assert abs(ours["image_auroc"] - expected["image_auroc"]) <= 5e-4


def test_a_whitener_whitens_what_it_was_fitted_on(fitted, reference):
    """M(C + εI)Mᵀ = I at the places whose covariance the reference gives."""
    detector, _ = fitted
    M = np.asarray(detector.whitener[::44, ::32], np.float64)
    C = reference["covariance_stride44x32"].astype(np.float64) + EPSILON * np.eye(K)
    for place in np.ndindex(C.shape[:2]):
        np.testing.assert_allclose(M[place] @ C[place] @ M[place].T, np.eye(K), atol=5e-3)
    assert detector.W.shape == (sum(detector.backbone.channels), K)
    assert detector.method.embedding == "given"
