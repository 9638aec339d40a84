"""k > 32: whiteners of several panels. By every way to a map it is that of the definition, in float64."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from tiny import Tiny, pictures

from jaxsode import Detector, Method, kernels
from jaxsode.algebra.packing import panels_of
from jaxsode.blocks import fit_and_score, score, state_bytes
from jaxsode.fitting import embed, extract
from jaxsode.format1 import _panels
from jaxsode.scoring import anomaly_maps

SIZE, METHOD = (32, 24), Method(k=40, epsilon=0.05)
KERNEL = np.random.default_rng(0).standard_normal((3, 24), np.float32)
BACKBONE = replace(Tiny.make(), kernel=jnp.asarray(KERNEL), channels=(24, 24))
TRAIN, TEST = pictures(12), pictures(3, seed=1)
OPTIONS = {"size": SIZE, "rows": 3}


def _defined(train, test):
    W = METHOD.matrix(48)
    fitted, z = (np.asarray(embed(W, extract(BACKBONE, batch)), np.float64) for batch in (train, test))
    y, mean = fitted - fitted.mean(0), fitted.mean(0)
    C = np.einsum("nhwi,nhwj->hwij", y, y) / len(train)
    P = np.linalg.inv(C + METHOD.epsilon * np.eye(METHOD.k))
    d = np.sqrt(np.einsum("nhwi,hwij,nhwj->nhw", z - mean, P, z - mean))
    return np.asarray(anomaly_maps(jnp.asarray(d, jnp.float32), SIZE, METHOD.sigma))


def _batches(array):
    return lambda: ((extract(BACKBONE, array[i : i + 3]), 3) for i in range(0, len(array), 3))


def _stacked(maps):
    return np.concatenate([np.asarray(batch)[:valid] for batch, valid in maps])


def _fitted(**options):
    return Detector.fit([TRAIN[:6], TRAIN[6:]], BACKBONE, METHOD, **options)


@cache
def _whole():
    return _fitted()


def _saved(detector, folder):
    detector.save(folder)
    return Detector.load(folder, backbone=BACKBONE)


def _in_blocks_from_a_file(folder):
    assert not list(fit_and_score(_batches(TRAIN), None, BACKBONE, METHOD, path=folder, **OPTIONS))
    memory = state_bytes((2, 6), METHOD, 48, 12)
    return _stacked(score(folder, _batches(TEST), memory=memory, backbone=BACKBONE))


def _in_plain_words(folder):
    with kernels.plain():
        return _fitted().anomaly_map(TEST)


def _on_a_mesh():
    return _fitted(mesh=Mesh(np.array(jax.devices()[:4]), ("locations",)))


def _of_two(join):
    return join(*(Detector.fit([part], BACKBONE, METHOD) for part in (TRAIN[:5], TRAIN[5:])))


WAYS = {
    "a batch": lambda folder: _whole().anomaly_map(TEST),
    "one by one": lambda folder: np.concatenate([_whole().anomaly_map(x[None]) for x in TEST]),
    "plain": _in_plain_words,
    "saved": lambda folder: _saved(_whole(), folder).anomaly_map(TEST),
    "saved to score": lambda folder: _saved(_fitted(keep_moments=False), folder).anomaly_map(TEST),
    "saved from a mesh": lambda folder: _saved(_on_a_mesh(), folder).anomaly_map(TEST),
    "on a mesh": lambda folder: _on_a_mesh().anomaly_map(TEST),
    "in blocks": lambda folder: _stacked(
        fit_and_score(_batches(TRAIN), _batches(TEST), BACKBONE, METHOD, **OPTIONS)
    ),
    "in blocks, from a file": _in_blocks_from_a_file,
    "merged": lambda folder: _of_two(Detector.merge).anomaly_map(TEST),
    "updated": lambda folder: (
        Detector.fit([TRAIN[:5]], BACKBONE, METHOD).update([TRAIN[5:]]).anomaly_map(TEST)
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_the_definition(way, tmp_path):
    maps, expected = np.asarray(WAYS[way](tmp_path / "detector")), _defined(TRAIN, TEST)
    np.testing.assert_allclose(maps, expected, rtol=2e-4)


@pytest.mark.parametrize("groups", [None, [0, 0, *range(2, 12)]], ids=["alone", "together"])
def test_left_out(groups):
    out = 1 if groups is None else 2
    maps = np.concatenate(list(_whole().leave_one_out_maps([TRAIN[:6], TRAIN[6:]], groups=groups)))
    np.testing.assert_allclose(maps[:out], _defined(TRAIN[out:], TRAIN[:out]), rtol=2e-3)


def test_its_matrix_is_whole():
    M = np.asarray(_whole().whitener)
    assert M.shape == (8, 6, 40, 40)
    np.testing.assert_array_equal(M, np.tril(M))


@pytest.mark.parametrize("k", [5, 20, 40, 100])
def test_a_file_of_the_first_format_is_cut_alike(k):
    U = np.triu(np.random.default_rng(k).standard_normal((2, k, k), np.float32))
    for one, other in zip(_panels(U), panels_of(jnp.asarray(U)), strict=True):
        np.testing.assert_array_equal(one, other)
