"""Each primitive's form in ONNX gives what JAX gives, whatever the layout and the batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from jax import lax

from jaxsode.errors import ArgumentError
from jaxsode.export import check
from jaxsode.export import onnx_model as to_onnx
from jaxsode.export.primitives import LOWERINGS


class Made(NamedTuple):
    one: jax.Array
    other: jax.Array | None = None


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _exported(path, function, constants, batch, **options):
    picture = jax.ShapeDtypeStruct(batch.shape[1:], batch.dtype)
    to_onnx.write(path, function, constants, picture, **options)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"pictures": batch}), strict=True))


def _conv(x, kernel, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, **options)


def _pooled(x, window, strides, padding):
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, padding)


X = _normal(2, 6, 5, 4)
K = _normal(3, 3, 4, 7, seed=1)
M = _normal(6, 5, 3, 4, seed=2)

CASES = {
    "unary": lambda x, c: jnp.sin(x) + jnp.cos(x) + jnp.exp(-jnp.abs(x)) + jnp.tanh(x) * jnp.sign(x),
    "rounding": lambda x, c: jnp.floor(3 * x) + jnp.ceil(2 * x),
    "roots": lambda x, c: jnp.sqrt(jnp.abs(x)) + lax.rsqrt(jnp.abs(x) + 1) + jnp.log(jnp.abs(x) + 1),
    "logistic": lambda x, c: jax.nn.sigmoid(x) * jax.nn.hard_swish(x) + lax.erf(x),
    "powers": lambda x, c: x**3 + jnp.square(x) + jnp.power(jnp.abs(x) + 1, 1.5) + lax.integer_pow(x, 4),
    "clamp": lambda x, c: jnp.clip(x, -0.5, 0.5) + jax.nn.relu6(4 * x) + lax.clamp(-1.0, x, 1.0),
    "min and max": lambda x, c: jnp.minimum(x, c) * jnp.maximum(x, -c),
    "max with 0": lambda x, c: jnp.maximum(0.0, x) + jnp.maximum(x - c, jnp.zeros((6, 5, 4))[None]),
    "signs": lambda x, c: jnp.where(x < 0, -x, x - c) * jnp.where(~(x < c), 1.0, 2.0),
    "squeeze": lambda x, c: jnp.squeeze(lax.slice_in_dim(x, 2, 3, axis=1), 1) - 1,
    "logic": lambda x, c: jnp.where((x > 0) & ~(c < 0) | (x != c), x, c) + jnp.where(x == c, 1.0, 0.0),
    "comparisons": lambda x, c: jnp.where(x >= c, 1.0, 2.0) + jnp.where(x <= 0, 3.0, x),
    "casts": lambda x, c: (x > c).astype(jnp.int32).astype(jnp.float32) + (x > 0).astype(jnp.float32),
    "sum over nothing": lambda x, c: jnp.sum(x, axis=()),
    "sums": lambda x, c: jnp.sum(x, (1, 2)) + jnp.mean(x, 1).max(1) + x.min((1, 2)),
    "sum of what is broadcast": lambda x, c: jnp.sum(
        jnp.broadcast_to(lax.slice_in_dim(x, 0, 1, axis=1), x.shape), 1
    ),
    "transpose": lambda x, c: jnp.transpose(x, (0, 3, 1, 2)) * jnp.transpose(c, (0, 3, 1, 2)),
    "reshape": lambda x, c: lax.slice(
        x.reshape(x.shape[0], 30, 4), (0, 3, 1), (x.shape[0], 20, 4), (1, 2, 1)
    ).reshape(x.shape[0], -1),
    "reshape of the batch": lambda x, c: x.reshape(-1, 4) @ K[0, 0],
    "new axes": lambda x, c: (x[:, :, None] + x[:, None]).sum(2)[:, None, :, :, None],
    "repeat": lambda x, c: jnp.repeat(jnp.repeat(x, 2, axis=1), 3, axis=2),
    "repeat in channels first": lambda x, c: jnp.repeat(
        _conv(x, K, window_strides=(1, 1), padding="SAME"), 2, 1
    ),
    "take": lambda x, c: jnp.take(x, np.array([4, 0, 0, 2]), axis=2),
    "take in channels first": lambda x, c: jnp.take(
        _conv(x, K, window_strides=(1, 1), padding="SAME"), np.array([3, 1]), axis=1
    ),
    "concatenate": lambda x, c: jnp.concatenate(
        [
            x,
            2 * lax.slice_in_dim(x, 0, 1, axis=1),
            jnp.transpose(jnp.transpose(x, (0, 3, 2, 1)), (0, 3, 2, 1)),
        ],
        1,
    ),
    "pad": lambda x, c: jnp.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)), constant_values=-7.0),
    "cut by a negative pad": lambda x, c: lax.pad(x, 0.0, [(0, 0, 0), (-1, 2, 0), (0, 0, 0), (0, 0, 0)]),
    "convolution": lambda x, c: _conv(x, K, window_strides=(2, 1), padding=((0, 1), (2, 0))),
    "dilated convolution": lambda x, c: _conv(
        x, K, window_strides=(1, 1), padding="SAME", rhs_dilation=(2, 2)
    ),
    "grouped convolution": lambda x, c: _conv(
        x, K[:, :, :1, :4], window_strides=(1, 1), padding="SAME", feature_group_count=4
    ),
    "convolution, then a sum with what is not": lambda x, c: (
        _conv(x, K[..., :4], window_strides=(1, 1), padding="SAME") + x * c
    ),
    "pooling": lambda x, c: _pooled(x, (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 1), (0, 0))),
    "product over channels": lambda x, c: jnp.einsum("bijc,ck->bijk", x, K[0, 0]),
    "product from the left": lambda x, c: jnp.einsum("hi,bijc,wj->bhwc", _normal(9, 6), x, _normal(8, 5)),
    "batched product": lambda x, c: jnp.einsum("ijmk,bijk->bijm", M, x),
    "product of two axes": lambda x, c: jnp.einsum("bijc,ijm->bcm", x, _normal(6, 5, 3)),
    "outer product": lambda x, c: jnp.einsum("bi,bj->bij", x.sum((2, 3)), x.sum((1, 3))),
    "product of many free axes": lambda x, c: jnp.einsum("bijc,cmn->bijmn", x, _normal(4, 3, 2)),
    "inner product": lambda x, c: jnp.einsum("bijc,bijc->b", x, x)[:, None],
    "vector": lambda x, c: jnp.einsum("bijc,c->bij", x, _normal(4)),
}


@pytest.mark.parametrize("what", CASES)
def test_it_gives_what_jax_gives(what, tmp_path):
    c = _normal(1, 6, 5, 4, seed=3)
    c[0, 0] = X[1, 0]  # ties

    def function(constants, x):
        return Made(CASES[what](x, constants))

    for batch in (X, X[:1]):
        got = _exported(tmp_path / "m.onnx", function, jnp.asarray(c), batch)["one"]
        expected = np.asarray(CASES[what](jnp.asarray(batch), jnp.asarray(c)))
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_results_keep_their_names_and_none_is_left_out(tmp_path):
    got = _exported(tmp_path / "m.onnx", lambda c, x: Made(x, x + c), jnp.float32(1), X)
    assert list(got) == ["one", "other"]
    np.testing.assert_array_equal(got["one"], X)
    assert list(_exported(tmp_path / "n.onnx", lambda c, x: Made(x * c), jnp.float32(1), X)) == ["one"]


def test_large_arrays_lie_beside_the_file(tmp_path):
    path = tmp_path / "m.onnx"
    expected = _exported(path, lambda c, x: Made(x @ c), jnp.asarray(_normal(4, 90)), X)["one"]
    assert not (tmp_path / "m.onnx.data").exists()
    got = _exported(path, lambda c, x: Made(x @ c), jnp.asarray(_normal(4, 90)), X, inline=16)["one"]
    np.testing.assert_array_equal(got, expected)
    assert (tmp_path / "m.onnx.data").stat().st_size >= 4 * 4 * 90
    assert path.stat().st_size < 2000


def test_what_depends_on_no_picture_is_computed_once(tmp_path):
    def function(c, x):
        return Made(x * jnp.linalg.inv(c).sum())

    _exported(tmp_path / "m.onnx", function, jnp.eye(3) * 2, X)
    kinds = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert kinds == ["Mul", "Identity"]


def test_convolutions_need_one_transposition_in_and_one_out(tmp_path):
    def function(c, x):
        for _ in range(3):
            x = jax.nn.relu(_conv(x, c, window_strides=(1, 1), padding="SAME") + x)
        return Made(x)

    _exported(tmp_path / "m.onnx", function, jnp.asarray(K[..., :4]), X)
    kinds = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    # The residual is added in the layout of its first operand, the convolution's; the rest stays in it.
    assert kinds.count("Transpose") <= 3


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda c, x: Made(jnp.cumsum(x, 1)), "cumsum"),
        (lambda c, x: Made(jnp.sort(x, 1)), "sort"),
        (lambda c, x: Made(lax.pad(x, 0.0, [(0, 0, 0), (0, 0, 1), (0, 0, 0), (0, 0, 0)])), "between"),
        (
            lambda c, x: Made(x + jnp.broadcast_to(c, x.shape).reshape(x.shape[0], 4, 5, 6).reshape(x.shape)),
            "repeats",
        ),
        (lambda c, x: Made(((x > 0).astype(jnp.int32) & 3).astype(jnp.float32)), "bits"),
        (lambda c, x: Made(x.astype(jnp.int32).astype(jnp.float32)), "real numbers to whole ones"),
        (lambda c, x: Made(((x > 0) < (x > 1)).astype(jnp.float32)), "truth values"),
        (lambda c, x: Made(jnp.maximum(x > 0, x > 1).astype(jnp.float32)), "truth values"),
        (lambda c, x: Made(x / x.shape[0]), "dim_as_value"),
        (lambda c, x: Made(_conv(x, K, window_strides=(1, 1), padding=((-1, 0), (0, 0)))), "cuts"),
        (
            lambda c, x: Made(_pooled(x, (1, 2, 2, 1), (1, 1, 1, 1), ((0, 0), (-1, 0), (0, 0), (0, 0)))),
            "cuts",
        ),
        (lambda c, x: Made(jnp.matmul(x, K[0, 0], preferred_element_type=jnp.bfloat16)), "of bfloat16"),
    ],
    ids=[
        "cumsum",
        "sort",
        "interior padding",
        "a constant repeated",
        "bits",
        "casts to integers",
        "less",
        "max",
        "length of the batch",
        "negative padding",
        "pooling that cuts",
        "another type of sums",
    ],
)
def test_what_has_no_form_is_refused_by_name(function, says, tmp_path):
    with pytest.raises(ArgumentError, match=says):
        _exported(tmp_path / "m.onnx", function, jnp.ones((1, 1, 1, 1)), X)
    assert not (tmp_path / "m.onnx").exists()


def test_what_the_runtime_refuses_is_told_in_a_line(tmp_path):
    picture = jax.ShapeDtypeStruct(X.shape[1:], X.dtype)

    def write(name, function):
        to_onnx.write(
            tmp_path / name, lambda c, x: Made(function(x.astype(jnp.bfloat16))), jnp.ones(1), picture
        )

    write("product", lambda x: x @ K[0, 0].astype(jnp.bfloat16))
    with pytest.raises(ArgumentError, match="ONNX Runtime can't run it: export StableHLO"):
        check.of_onnx(tmp_path / "product")
    with pytest.raises(ArgumentError, match="has no form in ONNX here: export StableHLO"):
        write(
            "convolution", lambda x: _conv(x, K.astype(jnp.bfloat16), window_strides=(1, 1), padding="SAME")
        )
    assert not (tmp_path / "convolution").exists()


def test_every_lowering_is_reached_by_a_case(tmp_path):
    seen = set()
    for name, lowering in list(LOWERINGS.items()):
        assert callable(lowering), name

    def spied(name):
        real = LOWERINGS[name]

        def lower(*given):
            seen.add(name)
            return real(*given)

        return lower

    original = dict(LOWERINGS)
    try:
        LOWERINGS.update({name: spied(name) for name in original})
        for what in CASES:
            to_onnx.write(
                tmp_path / "m.onnx",
                lambda c, x, what=what: Made(CASES[what](x, c)),
                jnp.asarray(_normal(1, 6, 5, 4)),
                jax.ShapeDtypeStruct(X.shape[1:], X.dtype),
            )
    finally:
        LOWERINGS.update(original)
    left = set(LOWERINGS) - seen
    assert left <= {"add_any", "copy", "copy_p", "stop_gradient", "optimization_barrier", "expand_dims"}, left
