"""Machine code against sums in float64: any size and window, with every vector that this machine has."""

import ctypes
import dataclasses
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from typing import Any
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny import Tiny

from jaxsode import Detector, Method, fitting, kernels, scoring
from jaxsode.algebra import moments
from jaxsode.algebra.packing import panels_of
from jaxsode.algebra.precision import Triangle, Whitener
from jaxsode.backbones import packing
from jaxsode.backbones.layers import Conv
from jaxsode.backbones.packing import Network
from jaxsode.backbones.registry import create
from jaxsode.blocks import fit_and_score
from jaxsode.fitting import extract, extract_
from jaxsode.kernels import native, switch
from jaxsode.kernels.native import code as code_module
from jaxsode.kernels.native import convolution
from jaxsode.statistics import MOMENTS

pytest.importorskip("llvmlite")
from jaxsode.kernels.native import build, target

HERE = target.here()
if HERE is None:
    pytest.skip("not written for this machine", allow_module_level=True)
VECTORS = {"these": HERE}
if HERE.lanes == 16:
    VECTORS["shorter"] = dataclasses.replace(HERE, lanes=8, vectors=2, pixels=6)


PICTURES = np.random.default_rng(0).integers(0, 256, (2, 32, 24, 3), np.uint8)


@cache
def _code_for(vectors):
    """Once: XLA keeps what is registered under a name."""
    return code_module.ready() if vectors == "these" else build.Code(VECTORS[vectors], None)


@pytest.fixture(params=VECTORS, scope="module")
def code(request):
    made = _code_for(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code_module, "_code", made)
        yield made


def _referee(x, kernel, bias, shortcut, stride, padding, relu):
    """The definition, window by window."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    rows, columns = kernel.shape[:2]
    height, width = (
        (size - window) // stride + 1 for size, window in zip(x.shape[1:3], (rows, columns), strict=True)
    )
    y = np.empty((len(x), height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            window = x[:, stride * i : stride * i + rows, stride * j : stride * j + columns]
            y[:, i, j] = np.einsum("nijc,ijcd->nd", window, kernel)
    y += np.asarray(bias, np.float64)
    y = y if shortcut is None else y + shortcut
    return np.maximum(y, 0) if relu else y


def _drawn(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(
    ("shape", "window", "stride", "around"),
    [
        ((1, 9, 7, 3), 7, 2, 3),
        ((2, 20, 33, 5), 3, 2, 1),
        ((1, 1, 1, 16), 3, 1, 1),
        ((3, 8, 8, 16), 3, 1, 1),
        ((2, 5, 31, 32), 3, 1, 1),
        ((1, 13, 2, 48), 3, 1, 1),
        ((1, 6, 5, 17), 3, 1, 1),
        ((2, 7, 29, 8), 1, 1, 0),
        ((2, 7, 29, 8), 1, 2, 0),
        ((1, 10, 12, 4), 5, 3, 0),
    ],
)
def test_agrees_with_the_definition(code, shape, window, stride, around, added, relu):
    rng = np.random.default_rng(sum(shape))
    panel = code.target.panel
    x, kernel, bias = (
        _drawn(rng, *shape),
        _drawn(rng, window, window, shape[3], 2 * panel),
        _drawn(rng, 2 * panel),
    )
    padding = ((around, around),) * 2
    wanted = _referee(x, kernel, bias, None, stride, padding, relu=False)
    shortcut = _drawn(rng, *wanted.shape) if added else None
    packed = native.pack(kernel, stride=stride, padding=padding, groups=1)
    assert packed.winograd == (window == 3 and stride == 1 and shape[3] % code.target.lanes == 0)
    options = {"stride": stride, "padding": padding, "relu": relu}
    got = jax.jit(lambda *operands: native.conv2d(*operands, **options))(x, packed, bias, shortcut)
    wanted = _referee(x, kernel, bias, shortcut, stride, padding, relu)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("shape", [(1, 3, 5, 16), (1, 16, 16, 80), (1, 27, 43, 144)])
def test_large_kernels_are_transformed_as_they_are_needed(code, shape, added, monkeypatch):
    """In parts of their channels, for blocks of tiles that don't divide, each tile summed once."""
    monkeypatch.setattr(convolution, "TRANSFORMED", 0)
    rng = np.random.default_rng(0)
    channels = 2 * code.target.panel
    x, kernel, bias = _drawn(rng, *shape), _drawn(rng, 3, 3, shape[3], channels), _drawn(rng, channels)
    shortcut = _drawn(rng, *shape[:3], channels) if added else None
    options = {"stride": 1, "padding": ((1, 1), (1, 1))}
    packed = native.pack(kernel, groups=1, **options)
    assert packed.winograd
    assert packed.panels.size == kernel.size
    got = jax.jit(lambda *operands: native.conv2d(*operands, relu=True, **options))(x, packed, bias, shortcut)
    wanted = _referee(x, kernel, bias, shortcut, 1, options["padding"], relu=True)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (2, 17, 30, 3), (1, 40, 9, 4)])
def test_pooled_is_the_largest_of_each_window(code, shape):
    rng = np.random.default_rng(0)
    x, kernel, bias = (
        _drawn(rng, *shape),
        _drawn(rng, 7, 7, shape[3], code.target.panel),
        _drawn(rng, code.target.panel),
    )
    padding = ((3, 3), (3, 3))
    packed = native.pack(kernel, stride=2, padding=padding, groups=1)
    got = jax.jit(lambda *operands: native.conv2d_max_pool3x3(*operands, stride=2, padding=padding))(
        x, packed, bias
    )
    y = _referee(x, kernel, bias, None, 2, padding, relu=True)
    height, width = y.shape[1:3]
    wanted = [
        [
            y[:, max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2].max((1, 2))
            for j in range(-(-width // 2))
        ]
        for i in range(-(-height // 2))
    ]
    wanted = np.moveaxis(np.array(wanted), 2, 0)
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("stride", [1, 2])
def test_nan_stays_where_it_was(code, stride):
    """What isn't a number never becomes one: neither by the ReLU nor by the maximum."""
    x = jnp.ones((1, 24, 24, 16)).at[0, 12, 12, 3].set(jnp.nan)
    kernel = np.ones((3, 3, 16, code.target.panel), np.float32)
    bias = jnp.zeros(code.target.panel)
    padding = ((1, 1), (1, 1))
    packed = native.pack(kernel, stride=stride, padding=padding, groups=1)
    y = np.asarray(native.conv2d(x, packed, bias, None, stride=stride, padding=padding, relu=True))
    direct = np.isnan(_referee(x, kernel, bias, None, stride, padding, relu=False))
    assert np.isnan(y)[direct].all()
    assert not np.isnan(y[0, 0]).any()
    if stride == 2:
        pooled = np.asarray(native.conv2d_max_pool3x3(x, packed, bias, stride=2, padding=padding))
        assert np.isnan(pooled[0, 3, 3]).all()
        assert not np.isnan(pooled[0, 0]).any()


def test_calls_from_many_threads_end(code):
    """More callers than XLA has threads, each waiting for its own work alone."""
    rng = np.random.default_rng(0)
    x, kernel, bias = (
        _drawn(rng, 2, 30, 30, 16),
        _drawn(rng, 3, 3, 16, code.target.panel),
        _drawn(rng, code.target.panel),
    )
    bias = jnp.asarray(bias)
    packed = native.pack(kernel, stride=1, padding=((1, 1), (1, 1)), groups=1)
    run = jax.jit(
        lambda x: native.conv2d(x, packed, bias, None, stride=1, padding=((1, 1), (1, 1)), relu=True)
    )
    wanted = np.asarray(run(x))
    with ThreadPoolExecutor(8) as threads:
        for got in threads.map(lambda _: np.asarray(run(x)), range(200)):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("k", [1, 2, 7, 16, 31, 32, 33, 50, 64, 100, 131])
def test_inverse_cholesky_is_the_definition(code, k):
    rng = np.random.default_rng(k)
    x = rng.standard_normal((19, 2 * k, k))
    A = np.einsum("bni,bnj->bij", x, x) / (2 * k) + 0.01 * np.eye(k)
    M = np.asarray(native.inverse_cholesky(jnp.asarray(A, jnp.float32)))
    np.testing.assert_array_equal(M, np.tril(M))
    wanted = np.linalg.inv(np.linalg.cholesky(A))
    error = np.linalg.norm(M - wanted, axis=(1, 2)) / np.linalg.norm(wanted, axis=(1, 2))
    assert error.max() < 2e-5


def test_what_is_not_positive_definite_is_nan_and_its_neighbours_are_not(code):
    k = 40
    A = np.tile(np.eye(k, dtype=np.float32), (5, 1, 1))
    A[1, 35, 35] = -1
    A[3, 2, 2] = 0
    A[4, 7, 7] = np.nan
    M = np.asarray(native.inverse_cholesky(jnp.asarray(A)))
    for one, first in ((1, 35), (3, 2), (4, 7)):
        assert np.isnan(np.diagonal(M[one])[first:]).all()
        np.testing.assert_array_equal(M[one, :first, :first], np.eye(first))
    np.testing.assert_array_equal(M[[0, 2]], A[[0, 2]])


@pytest.mark.parametrize(("shape", "k"), [((1, 1), 1), ((3, 2), 7), ((2, 5), 32), ((4, 6), 45)])
def test_moments_are_those_of_all_vectors_that_count(code, shape, k):
    """Batches of which some or none count, against sums in float64; symmetric to the bit."""
    rng = np.random.default_rng(k)
    state, counted = moments.init(k, grid=shape), []
    leaves = jax.tree.leaves
    update = jax.jit(lambda state, *batch: moments.Moments(*native.update_moments(leaves(state), *batch)))
    for share in (0.7, 0.0, 1.0, 0.5):
        z = 3 * rng.standard_normal((*shape, 9, k), dtype=np.float32) + 50
        where = rng.random(9) < share
        z[:, :, ~where] = np.nan
        state = update(state, jnp.asarray(z), jnp.asarray(where))
        counted.append(z[:, :, where].astype(np.float64))
    z = np.concatenate(counted, axis=2)
    deviation = z - z.mean(2, keepdims=True)
    np.testing.assert_array_equal(state.count, np.full(shape, z.shape[2]))
    np.testing.assert_allclose(state.mean, z.mean(2), rtol=1e-6)
    scatter = np.einsum("hwni,hwnj->hwij", deviation, deviation)
    np.testing.assert_allclose(state.scatter, scatter, rtol=0, atol=3e-6 * scatter.max())
    np.testing.assert_array_equal(state.scatter, jnp.swapaxes(state.scatter, -1, -2))


def test_what_is_traced_from_outside_is_not_evaluated():
    k = HERE.panel
    M = Triangle.of(jnp.broadcast_to(jnp.tril(jnp.ones((k, k))), (1, 2, k, k)))
    z, mean = jnp.ones((1, 1, 2, k)), jnp.zeros((1, 2, k))

    def measured(z):
        with kernels.evaluated(kernels.is_here(z, mean, M)):
            return scoring.distances(z, mean, M).sum()

    assert "ffi_call" not in str(jax.make_jaxpr(measured)(z))
    white = M.matrix[0, 0] @ np.ones(k)
    slope = jax.grad(measured)(z)[0, 0, 0]
    np.testing.assert_allclose(slope, M.matrix[0, 0].T @ white / np.linalg.norm(white), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(measured)(z[None]), [2 * np.linalg.norm(white)], rtol=1e-5)
    assert not switch.is_evaluated()


@pytest.mark.parametrize("transform", ["vmap", "grad"])
def test_a_backbone_may_take_derivatives_and_maps_of_a_detector(transform):
    k, pictures = HERE.panel, PICTURES.astype(np.float32) / 255
    kernel = jnp.asarray(np.random.default_rng(0).standard_normal((3, k), dtype=np.float32))
    wide = Tiny(kernel, channels=(k, k))
    inner = Detector.fit([PICTURES], wide, Method(k=k, epsilon=0.1))

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Outer(Tiny):
        inner: Any = None

        def __call__(self, pictures, /):
            if transform == "vmap":
                maps = jax.vmap(lambda one: self.inner.anomaly_map(one[None])[0])(pictures)
            else:
                maps = jax.grad(lambda x: self.inner.anomaly_map(x).sum())(pictures).sum(3)
            return tuple(one + jnp.mean(maps) for one in super().__call__(pictures))

    outer = Outer(**vars(wide), inner=inner)
    detector = Detector.fit([pictures], outer, Method(k=k, epsilon=0.1))
    assert np.isfinite(detector.anomaly_map(pictures)).all()


@pytest.mark.parametrize(
    ("k", "pictures"), [*product([17, 32, 33, 50, 64, 100, 520], [1, 2, 3, 33]), (1030, 3)]
)
def test_distances_are_the_definition(code, k, pictures):
    """On a grid that isn't made of whole tasks."""
    rng = np.random.default_rng(k)
    grid = (5, 7) if k < 1000 else (2, 3)
    z, mean = _drawn(rng, pictures, *grid, k), _drawn(rng, *grid, k)
    M = np.tril(_drawn(rng, *grid, k, k))
    z[-1, 1, 2, k // 2] = np.nan
    panels = panels_of(jnp.asarray(np.swapaxes(M, -1, -2)))
    given = jnp.asarray(z), jnp.asarray(mean), panels
    assert native.measures(given[0], panels)
    got = native.squared_distances(*given)
    white = np.einsum("hwij,nhwj->nhwi", M.astype(np.float64), z.astype(np.float64) - mean)
    assert np.isnan(np.asarray(got)).sum() == 1
    np.testing.assert_allclose(got, (white**2).sum(-1), rtol=1e-5)


def test_a_detector_scores_the_same_with_it(code):
    """Only where it is known to be triangular: eigenvectors may be as many as there are features."""
    k = 37
    train, test = (
        np.random.default_rng(i).integers(0, 256, (n, 32, 48, 3), np.uint8) for i, n in ((0, 6), (1, 2))
    )
    backbone = create("resnet18", layers=(1,))
    detector = Detector.fit([train], backbone, Method(k=k, epsilon=0.1))
    z = jnp.asarray(_drawn(np.random.default_rng(2), 2, *detector.mean.shape))

    def traced(precision):
        return str(jax.make_jaxpr(scoring.distances)(z, detector.mean, precision))

    assert "jaxsode_distances" not in traced(detector.precision)
    given = Whitener.of(detector.whitener)
    with kernels.evaluated(True):
        assert "jaxsode_distances" in traced(detector.precision)
        assert "jaxsode_distances" not in traced(given)

    def every():
        yield "distances", lambda: detector.anomaly_map(test)
        yield "distances", lambda: detector.anomaly_map_of_features(extract(backbone, test))
        yield "distances", lambda: detector.leave_one_out([train])
        yield "distances", lambda: _in_blocks(train, test, backbone, detector.method)
        yield "update_moments", lambda: detector.update([test]).mean

    for name, call in every():
        function = "squared_distances" if name == "distances" else name
        jax.clear_caches()  # so that it is traced here
        with pytest.MonkeyPatch.context() as patch:
            taken = Mock(wraps=getattr(native, function))
            patch.setattr(native, function, taken)
            got = call()
        assert taken.called
        with kernels.plain():
            wanted = call()
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * float(np.max(wanted)))


def _in_blocks(train, test, backbone, method):
    every = [lambda batch=batch: [(extract(backbone, batch), len(batch))] for batch in (train, test)]
    scored = fit_and_score(*every, backbone, method, size=(32, 48), rows=3)
    return np.concatenate([maps for maps, _ in scored])


def test_a_fit_takes_it(code):
    state, group, where = MOMENTS.init(40, (6, 5)), jnp.zeros((6, 5, 8, 40)), np.ones(8, bool)
    update = lambda *operands: fitting._update_by(MOMENTS, *operands, 0, None)  # noqa: E731
    with kernels.evaluated(True):
        jaxpr = jax.make_jaxpr(update)(state, group, where)
    assert "jaxsode_moments" in str(jaxpr)  # with whichever vectors it was traced first


@pytest.mark.parametrize("name", ["resnet18", "wide_resnet50_2"])
def test_a_backbone_computes_the_same_with_it(code, name):
    backbone = create(name)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 72, 40, 3), np.uint8)
    assert Network.of(backbone, pictures).kernels is not None
    fast = extract(backbone, pictures)
    with kernels.plain():
        plain = extract(backbone, pictures)
    for one, other in zip(fast, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * float(jnp.abs(other).max()))


def test_it_is_for_what_is_only_evaluated():
    """Not for what is traced from outside, so gradients and maps keep JAX's words; nor elsewhere."""
    backbone = create("resnet18", layers=(1,))
    pictures = jnp.asarray(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8))

    def calls(function, *operands):
        return "ffi_call" in str(jax.make_jaxpr(function)(*operands))

    assert not calls(extract_, backbone, pictures)
    assert not calls(lambda pictures: extract_(backbone, pictures), pictures)
    assert not calls(lambda one: extract_(backbone, pictures)[0] + one, 1.0)  # nothing of it is traced
    assert Network.of(backbone, pictures).kernels is not None  # and nothing traced was kept
    assert np.isfinite(extract(backbone, pictures)[0]).all()
    spread = jax.device_put(
        pictures, jax.NamedSharding(jax.make_mesh((len(jax.devices()),), ("d",)), jax.P())
    )
    assert (Network.of(backbone, spread).kernels is None) == (len(jax.devices()) > 1)


def test_moments_can_still_be_differentiated_and_mapped():
    z = jnp.asarray(np.random.default_rng(0).standard_normal((4, 2, 3, 5)), jnp.float32)

    def scatter(z):
        return fitting.accumulate([(z, 4)]).scatter

    slope = jax.grad(lambda z: jnp.sum(scatter(z)[..., 0, 0]))(z)
    np.testing.assert_allclose(slope[..., 0], 2 * np.asarray(z - z.mean(0, keepdims=True))[..., 0], atol=1e-5)
    np.testing.assert_allclose(jax.vmap(scatter)(z[None])[0], scatter(z), rtol=1e-4, atol=1e-5)


def test_counts_of_another_type_are_counts(code):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        state = jax.tree.map(jnp.asarray, MOMENTS.init(3, (1, 2)))
        state = dataclasses.replace(state, count=state.count.astype(jnp.int64))
        z = jnp.asarray(np.random.default_rng(0).standard_normal((1, 2, 4, 3)), jnp.float32)
        where = jnp.ones(4, bool)
        wanted = MOMENTS.update(state, z, where)
        with kernels.evaluated(True):
            got = kernels.update_moments(state, z, where, plain=MOMENTS.update)
    np.testing.assert_allclose(got.scatter, wanted.scatter, rtol=1e-5, atol=1e-6)


def test_a_shortcut_may_be_broadcast(code):
    rng = np.random.default_rng(0)
    x, kernel, bias = _drawn(rng, 1, 8, 8, 16), _drawn(rng, 3, 3, 16, 32), _drawn(rng, 32)
    options = {"stride": 1, "padding": ((1, 1), (1, 1)), "groups": 1}
    shortcut = _drawn(rng, 1, 1, 1, 32)
    operands = tuple(map(jnp.asarray, (x, kernel, bias, shortcut)))
    got = kernels.conv2d(*operands, packed=native.pack(kernel, **options), **options)
    wanted = _referee(x, kernel, bias, shortcut, 1, options["padding"], relu=False)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("shape", [(0, 8, 8, 16), (1, 5, 2, 16), (1, 2, 5, 16)])
def test_nothing_of_a_size_is_left_to_xla(code, shape):
    kernel = np.ones((3, 3, 16, 32), np.float32)
    options = {"stride": 1, "padding": ((0, 0), (0, 0)), "groups": 1}
    packed = native.pack(kernel, **options)
    got = kernels.conv2d(jnp.ones(shape), jnp.asarray(kernel), jnp.ones(32), packed=packed, **options)
    assert got.shape == (shape[0], shape[1] - 2, shape[2] - 2, 32)
    assert got.size == 0


def test_other_settings_and_what_is_no_array():
    backbone = create("resnet18", layers=(1,))
    assert Network.of(backbone).kernels is not None
    for _, node in nnx.iter_graph(backbone):
        if isinstance(node, Conv):
            node.dtype = jnp.dtype(jnp.bfloat16)
    assert Network.of(backbone).kernels is None

    class Scaled(nnx.Module):
        def __init__(self):
            self.factor = nnx.Param(2.0)

    assert Network.of(Scaled()).kernels is None


def test_what_stops_it_is_told(monkeypatch):
    def fails(*_):
        raise OSError("no LLVM today")

    monkeypatch.setattr(code_module, "_code", None)
    monkeypatch.setattr(build, "Code", fails)
    with pytest.warns(RuntimeWarning, match="no LLVM today"):
        assert native.ready() is None
    assert native.ready() is None  # once


def test_networks_of_different_classes_are_different_programs():
    """Even of dataclasses that have the same fields, which JAX's structures take for the same."""

    @jax.tree_util.register_dataclass
    @dataclasses.dataclass(frozen=True)
    class Twice(Tiny):
        def __call__(self, pictures, /):
            return tuple(2 * one for one in super().__call__(pictures))

    once = Tiny.make()
    twice = Twice(once.kernel)
    assert jax.tree.structure(once) == jax.tree.structure(twice)
    for one, other in zip(extract(once, PICTURES), extract(twice, PICTURES), strict=True):
        np.testing.assert_allclose(2 * one, other, rtol=1e-6)


def test_packed_once_and_anew_for_other_weights():
    backbone = create("resnet18", layers=(1,))
    first = Network.of(backbone).kernels
    assert Network.of(backbone).kernels is first
    assert Network.of(jax.tree.map(lambda array: array, backbone)).kernels is first
    backbone.conv1.kernel[...] = 2 * backbone.conv1.kernel[...]
    second = Network.of(backbone).kernels
    np.testing.assert_array_equal(second[0].panels, 2 * first[0].panels)
    held = len(packing._made)
    del backbone
    assert len(packing._made) < held


def test_what_has_no_code_is_not_packed():
    panel = HERE.panel
    options = {"stride": 1, "padding": ((1, 1), (1, 1)), "groups": 1}
    assert native.pack(np.ones((3, 3, 8, panel + 1), np.float32), **options) is None
    assert native.pack(np.ones((3, 3, 8, panel), np.float16), **options) is None
    assert native.pack(np.ones((3, 3, 1, panel), np.float32), **(options | {"groups": panel})) is None
    assert Network.of(create("resnet18", dtype=jnp.bfloat16)).kernels is None


def test_without_llvmlite_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(code_module, "_code", None)
    monkeypatch.setitem(__import__("sys").modules, "jaxsode.kernels.native.build", None)
    monkeypatch.delattr(native, "build")
    assert (
        native.pack(np.ones((1, 1, 1, HERE.panel), np.float32), stride=1, padding=((0, 0),) * 2, groups=1)
        is None
    )


def test_compiled_code_is_kept_and_a_damaged_file_replaced(tmp_path, monkeypatch):
    machine = build.machine_for(HERE)
    code = build.compiled(HERE, machine, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(build, "_optimised", None)  # reading needs no compiler
        assert build.compiled(HERE, machine, tmp_path) == code
    path.write_bytes(whole[:-100])
    assert build.compiled(HERE, machine, tmp_path) == code
    assert path.read_bytes() == whole
    assert build.compiled(HERE, machine, tmp_path / "absent") == code
    assert build._fingerprint(HERE) != build._fingerprint(dataclasses.replace(HERE, pixels=1))


@pytest.mark.skipif(native.cores() < 2 or sys.platform != "linux", reason="no other processor to move to")
def test_a_thread_that_was_woken_on_its_callers_processor_moves(code):
    """It is told that of itself here, with a task that has no location to measure."""
    processor = ctypes.CDLL(None).sched_getcpu
    numbers = {"tasks": 1, "workers": 1, "k": 32, "pictures": 1, "panels": 1, "width": 32}
    first = np.array([numbers.get(name, 0) for name in code.order("distances")], np.int32)
    helper = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code._engine.get_function_address("distances_helper"))

    def helped(tasks):
        """The processors before and after."""
        # counters, and two that hold it, so that it isn't given back; how many tasks; the caller's processor
        before = processor()
        shared = np.array([0, 0, 2, 0, tasks, before, first.ctypes.data, *[0] * 5], np.int64)
        helper(shared.ctypes.data)
        return before, processor()

    allowed = os.sched_getaffinity(0)
    moved = sum(after != before for before, after in (helped(1) for _ in range(20)))
    assert os.sched_getaffinity(0) == allowed
    assert moved >= 15  # the system may move it too
    assert sum(after != before for before, after in (helped(0) for _ in range(20))) <= 5
    os.sched_setaffinity(0, {processor()})
    try:
        before, after = helped(1)
        assert before == after
        assert os.sched_getaffinity(0) == {after}
    finally:
        os.sched_setaffinity(0, allowed)
