"""Under `kernels.plain()` no program chooses by platform, and the numbers are those of the fast forms."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from tiny import pictures

from jaxsode import Method, algebra, fitting, kernels, scoring
from jaxsode.algebra import over_grid
from jaxsode.algebra.precision import Triangle
from jaxsode.backbones.registry import BACKBONES, create
from jaxsode.detector import Detector, _score
from jaxsode.fitting import extract_
from jaxsode.kernels import native
from jaxsode.kernels.switch import choose
from jaxsode.meshes import over_rows
from jaxsode.statistics import MOMENTS


def _primitives(jaxpr):
    """The name of every primitive, in whatever is called from wherever."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        yield from (name for inner in jaxprs_in_params(equation.params) for name in _primitives(inner))


def _chooses(function, *operands):
    """Whether a program of `function` holds a choice by platform."""
    return "platform_index" in set(_primitives(jax.make_jaxpr(function)(*operands).jaxpr))


def _calls_code(function, *operands):
    """Whether a program of `function` calls code that JAX can't look into."""
    return "ffi_call" in set(_primitives(jax.make_jaxpr(function)(*operands).jaxpr))


def _array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def _apart(plain, fast):
    """The largest difference among the arrays of two trees, relative to the norm."""
    pairs = zip(jax.tree.leaves(plain), jax.tree.leaves(fast), strict=True)
    return max(float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) for a, b in pairs)


@pytest.mark.parametrize("name", BACKBONES)
def test_no_backbone_chooses(name):
    operands = create(name), jax.ShapeDtypeStruct((4, 96, 96, 3), jnp.uint8)
    assert _chooses(extract_, *operands)  # large enough for every fast form
    with kernels.plain():
        assert not _chooses(extract_, *operands)


H, W, K, N = 8, 6, 10, 4
MAPS = _array(N, H, W, 7), _array(N, H // 2, W // 2, 9)
MESH = jax.sharding.Mesh(np.array(jax.devices()), ("locations",))


@pytest.mark.parametrize("sharding", [None, over_rows(MESH)], ids=["alone", "sharded"])
def test_no_fit_chooses(sharding):
    def update(moments, group, weight, start):
        return fitting._update_by(MOMENTS, moments, group, weight, start, sharding)

    def factorise(scatter, count, epsilon):
        return fitting._factorise(scatter, count, (epsilon, None, None), sharding, False)

    moments, group = fitting._nothing(MOMENTS, None, (H, W), 40, K, sharding)
    updated = moments, group, _array(32, dtype=bool), _array(dtype=jnp.int32)
    factorised = _array(H, W, K, K), _array(H, W, dtype=jnp.int32), _array()
    assert _chooses(update, *updated)
    assert _chooses(factorise, *factorised)
    with kernels.plain():
        assert not _chooses(update, *updated)
        assert not _chooses(factorise, *factorised)
        assert not _chooses(fitting.embed, _array(16, K), MAPS)


def _wide():
    """Vectors that fill a panel of any machine's code."""
    whitener = Triangle.of(jnp.zeros((H, W, 64, 64)))
    return _array(N, H, W, 64), _array(H, W, 64), whitener


def test_no_score_chooses():
    with kernels.evaluated(True):
        assert _calls_code(scoring.distances, *_wide()) == (native.ready() is not None)
        assert not _chooses(scoring.distances, *_wide())  # nor traces what it wouldn't take
    with kernels.plain():
        mean, whitener = _array(H, W, K), Triangle.of(jnp.zeros((H, W, K, K)))
        assert not _chooses(scoring.distances, _array(N, H, W, K), mean, whitener)
        with kernels.evaluated(True):
            assert not _calls_code(scoring.distances, *_wide())
        assert not _chooses(lambda d: scoring.anomaly_maps(d, (32, 24), 4.0), _array(N, H, W))
        score = lambda *operands: _score(*operands, None, (32, 24), 4.0)  # noqa: E731
        assert not _chooses(score, _array(16, K), mean, whitener, MAPS)
        operands = create("resnet18"), _array(448, K), _array(N, 64, 48, 3, dtype=jnp.uint8)
        assert not _chooses(fitting.embedded, *operands)


@pytest.mark.parametrize("mapped", [jax.grad, jax.hessian, lambda f: jax.vmap(jax.vmap(jax.grad(f)))])
def test_no_derivative_chooses(mapped):
    leading = (2, 3) if mapped not in (jax.grad, jax.hessian) else ()

    def loss(A):
        return jnp.sum(algebra.cholesky.inverse_cholesky(A) ** 2)

    assert _chooses(mapped(loss), _array(*leading, 4, 4))
    with kernels.plain():
        assert not _chooses(mapped(loss), _array(*leading, 4, 4))


def test_the_maps_are_those_of_the_fast_forms():
    backbone = create("resnet18")
    train, test = (pictures(n, seed=seed, size=(96, 64)) for seed, n in enumerate((40, 4)))

    def fit_and_score():
        detector = Detector.fit(np.split(train, 5), backbone, Method(k=K))
        return detector.mean, detector.whitener, detector.anomaly_map(test)

    fast = fit_and_score()
    with kernels.plain():
        plain = fit_and_score()
    for a, b in zip(plain, fast, strict=True):
        assert 0 < _apart(a, b) <= 1e-5


def test_the_plain_sum_and_factor_are_near_the_fast_ones():
    rng = np.random.default_rng(0)
    d = jnp.asarray(rng.standard_normal((3, 40, 100)), jnp.float32)
    update = jax.jit(jax.vmap(kernels.sum_of_outer_products))
    factor = jax.jit(over_grid(algebra.cholesky.inverse_cholesky))
    fast = update(d)
    A = (fast / 40 + 0.1 * jnp.eye(100)[None])[None]
    fast = fast, factor(A)
    with kernels.plain():
        plain = update(d), factor(A)
    assert 0 < _apart(plain, fast) <= 1e-5


def test_what_is_evaluated_here_traces_one_form():
    traced = []

    def form(name):
        return lambda x: (traced.append(name), x + 1)[1]

    def chosen(x):
        return choose(x, plain=form("plain"), cpu=form("cpu"), elsewhere=form("elsewhere"))

    jax.make_jaxpr(chosen)(1.0)
    assert sorted(traced) == ["cpu", "elsewhere"]
    traced.clear()
    with kernels.evaluated(True):
        jax.make_jaxpr(chosen)(1.0)
        with kernels.plain():
            jax.make_jaxpr(chosen)(1.0)
    assert traced == ["cpu", "plain"]


@jax.jit
def _which(x):
    """1 where the plain form is taken, 2 on a CPU."""
    return choose(x, plain=lambda x: x + 1, cpu=lambda x: x + 2)


def test_what_was_traced_outside_is_traced_anew_inside_and_back():
    assert _which(0.0) == 2
    with kernels.plain():
        assert _which(0.0) == 1
    assert _which(0.0) == 2


def test_what_was_traced_inside_is_traced_anew_outside():
    which = jax.jit(lambda x: _which(x) + 0)
    with kernels.plain():
        assert which(jnp.zeros(3)).tolist() == [1, 1, 1]
    assert which(jnp.zeros(3)).tolist() == [2, 2, 2]
    with kernels.plain():
        assert which(jnp.zeros(3)).tolist() == [1, 1, 1]


def test_what_is_compiled_stays_what_it_is():
    compiled = _which.lower(0.0).compile()
    with kernels.plain():
        assert compiled(0.0) == 2
        assert choose(jnp.float32(0), plain=lambda x: x + 1, cpu=lambda x: x + 2) == 1  # without jit, too


def test_nested_and_after_an_error():
    with kernels.plain():
        with kernels.plain():
            assert _which(0.0) == 1
        assert _which(0.0) == 1
    with pytest.raises(ValueError, match="of the caller"), kernels.plain():
        raise ValueError("of the caller")
    assert _which(0.0) == 2


def test_holds_in_its_own_thread_alone():
    with ThreadPoolExecutor(1) as other, kernels.plain():
        assert other.submit(_which, 0.0).result() == 2
        assert _which(0.0) == 1


def test_an_exported_program_is_plain():
    def exported():
        (count,) = jax.export.symbolic_shape("n")
        x = jax.ShapeDtypeStruct((count, 96, 96, 3), jnp.uint8)
        extract = jax.jit(lambda x: extract_(backbone, x))
        # Of one platform: with several, JAX itself chooses among its lowerings of a convolution.
        return jax.export.export(extract, platforms=("cpu",))(x).mlir_module()

    backbone = create("mobilenet_v3_small")
    assert "stablehlo.convolution" in exported()
    fast = exported().count("stablehlo.convolution")
    with kernels.plain():
        assert "stablehlo.case" not in exported()
        assert exported().count("stablehlo.convolution") > fast  # the depthwise ones, too
