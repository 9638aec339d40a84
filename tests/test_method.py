"""A method checks itself, once; it is hashed, written down, and a pytree whose ε and seed are leaves."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode import Method
from jaxsode.algebra.embedding import EMBEDDINGS, semi_orthogonal
from jaxsode.algebra.precision import PRECISIONS
from jaxsode.errors import ArgumentError


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"embedding": "pca"}, "'pca' is unknown: choose one of semi-orthogonal"),
        ({"precision": "none"}, "'none' is unknown: choose one of local"),
        ({"precision": "eigenvectors-lower"}, "set embedding to identity"),
        ({"k": 0}, "k = 0 is below 1"),
        ({"k": 40.0}, "k = 40.0 is no whole number"),
        ({"k": True}, "k = True is no whole number"),
        ({"embedding": "identity", "k": 7}, "leave k out"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"seed": 2**32}, "seed 4294967296 is out of range"),
        ({"seed": 0.5}, "seed 0.5 is no integer"),
        ({"seed": True}, "seed True is no integer"),
        ({"layers": 3}, r"layers 3: give their numbers, such as \(1, 2, 3\)"),
        ({"layers": "12"}, "layers '12': give their numbers"),
        ({"layers": (1, 2.0)}, r"layers \(1, 2.0\): give their numbers"),
        ({"layers": (True, 2)}, r"layers \(True, 2\): give their numbers"),
        ({"epsilon": 0.0}, "epsilon = 0.0 is not above 0"),
        ({"epsilon": float("nan")}, "epsilon = nan"),
        ({"epsilon": 1e39}, r"epsilon = 1e\+39 is not above 0 and finite"),
        ({"epsilon": "0.01"}, "epsilon = '0.01' is no number"),
        ({"epsilon": jnp.float32(-1)}, "epsilon = -1.0 is not above 0"),
        ({"epsilon": jnp.array([0.1, jnp.nan])}, "epsilon = nan is not above 0"),
        ({"seed": jnp.float32(1)}, "seed 1.0 is no integer"),
        ({"seed": jnp.int32(-1)}, "seed -1 is out of range"),
        ({"sigma": -1.0}, "sigma = -1.0 is not at least 0"),
        ({"sigma": float("inf")}, "sigma = inf"),
        ({"layers": (2, 1)}, "ascending"),
        ({"layers": ()}, "at least one"),
        ({"embedding": np.ones(3)}, r"of shape \(3,\)"),
        ({"embedding": np.ones((24, 3)), "k": 7}, "k = 7 with a W of 3 columns"),
        ({"embedding": np.ones((24, 3)), "seed": 1}, "leave the seed out"),
    ],
)
def test_out_of_range(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        Method(**arguments)


def test_what_is_not_given():
    assert (Method().k, Method().seed, Method().precision) == (100, 0, "local")
    assert Method(embedding="identity").k is None
    assert Method(embedding="identity", precision="eigenvectors-lower").k == 100
    given = Method(embedding=np.ones((24, 3)))
    assert (given.k, given.seed) == (3, None)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_written_down_and_read_again(embedding, precision):
    if precision.startswith("eigenvectors") and embedding != "identity":
        pytest.skip("eigenvectors choose their directions themselves")
    method = Method(embedding=embedding, precision=precision, seed=np.int64(3), epsilon=np.float32(0.1))
    page = json.loads(json.dumps(method.page()))
    assert Method(**page) == method
    assert {Method(**page), method} == {method}
    assert str(replace(method, seed=4)) != str(method) or not method.random


def test_numbers_of_any_kind():
    with jax.enable_x64(True):
        method = Method(epsilon=np.float64(0.01), sigma=np.int64(2), k=np.int32(5), seed=np.uint8(1))
        assert [type(v) for v in (method.epsilon, method.sigma, method.k, method.seed)] == [
            float,
            float,
            int,
            int,
        ]
        W = method.matrix(24)
        assert W.dtype == jnp.float32
    np.testing.assert_allclose(W, semi_orthogonal(1, 24, 5), atol=1e-6)


def test_whether_the_seed_matters():
    assert Method(seed=1).random
    assert Method(embedding=lambda key, F, k: jnp.ones((F, k)), seed=1).random
    assert not Method(embedding=np.ones((24, 3))).random
    for precision in ("local", "global", "dual", "full-rank"):
        assert not Method(embedding="identity", precision=precision).random
    for precision in ("eigenvectors-lower", "eigenvectors-higher"):
        names = {str(Method(embedding="identity", precision=precision, seed=seed)) for seed in range(3)}
        assert len(names) == 3


def test_what_W_may_be():
    W = np.random.default_rng(0).standard_normal((24, 3))
    method = Method(embedding=W)
    expected = W.astype(np.float32)
    W[...] = 0  # ours by now
    np.testing.assert_array_equal(method.matrix(24), expected)
    assert method.recorded() == Method(embedding="given", k=3)
    with pytest.raises(ArgumentError, match="24 features want"):
        Method(embedding=W[:23]).matrix(24)
    with pytest.raises(ArgumentError, match="give W itself"):
        method.recorded().matrix(24)

    def ones(key, features, k):
        return jnp.ones((features, k + (features == 9)))

    assert Method(embedding=ones, k=4).matrix(24).shape == (24, 4)
    with pytest.raises(ArgumentError, match="9 features want"):
        Method(embedding=ones, k=4).matrix(9)
    with pytest.raises(ArgumentError, match="k = 25 exceeds the 24 features"):
        Method(k=25).matrix(24)


def test_a_pytree_of_its_seed_and_epsilon():
    a, b = Method(k=5, seed=2**32 - 1), Method(k=5, seed=1, epsilon=0.3)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.structure(a) != jax.tree.structure(Method(k=6))
    same = jax.jit(lambda m: m)(a)
    assert int(same.seed) == 2**32 - 1
    assert Method(**same.page()) == replace(a, epsilon=float(np.float32(a.epsilon)))
