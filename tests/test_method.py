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
from jaxsode.share import Share


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
        ({"epsilon": "0.01"}, "epsilon = '0.01' is neither a number nor a share: give 0.01, 5% or auto"),
        ({"epsilon": "-5%"}, "neither a number nor a share"),
        ({"epsilon": "0%"}, "is no share: choose one above 0 %"),
        ({"epsilon": Share(-1.0)}, "is no share"),
        ({"epsilon": "auto", "precision": "global"}, "give a number, or a share such as 5%"),
        ({"pooling": 2}, "pooling = 2 has no location in its middle"),
        ({"pooling": 0}, "pooling = 0 is no window"),
        ({"pooling": (3, 1.5)}, r"pooling = 1\.5 is no window"),
        ({"pooling": ()}, "pooling has no window"),
        ({"align": "cubic"}, "align 'cubic' is unknown: choose one of nearest, bilinear"),
        ({"scale": "channel"}, "scale 'channel' is unknown: choose one of none, layer"),
        ({"shrinkage": 0.5}, "shrinkage = 0.5 with the precision 'local': it is of 'shrunk'"),
        ({"shrinkage": 1.5, "precision": "shrunk"}, "shrinkage = 1.5 is not from 0 to 1"),
        ({"variance_weight": -0.1}, "variance_weight = -0.1 is not from 0 to 1"),
        ({"variance_weight": 0.1, "precision": "global"}, "it is of local and shrunk"),
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


BETTER = [
    {"pooling": 3},
    {"pooling": (3, 1, 1)},
    {"align": "bilinear"},
    {"scale": "layer"},
    {"epsilon": "5%"},
    {"epsilon": "auto"},
    {"epsilon": 0.3},
    {"variance_weight": 0.2},
    {"precision": "shrunk"},
    {"precision": "shrunk", "shrinkage": 0.3},
]


def test_whatever_is_not_the_papers_is_named_and_written_down():
    methods = [Method(**changes) for changes in BETTER]
    assert len({str(method) for method in [Method(), *methods]}) == 1 + len(BETTER)
    assert str(Method()) == "semi-orthogonal-k100-seed0"
    assert str(Method(pooling=(3, 1, 1), epsilon="5 %")) == "semi-orthogonal-k100-seed0-pool3.1.1-eps5%"
    for method in methods:
        page = json.loads(json.dumps(method.page()))
        assert Method(**page) == method
        assert hash(Method(**page)) == hash(method)
        through = jax.jit(lambda m: m)(method)
        assert (str(through), through.automatic) == (str(method), method.automatic)
        assert Method(**through.page()).page() == through.page()
    assert methods[4].page()["epsilon"] == "5%"
    assert Method(pooling=[3, 1, 1]) == Method(pooling=(3, 1, 1))
    assert Method(precision="shrunk").shrinkage == "auto"
    shapes = {jax.tree.structure(Method(epsilon=f"{n}%")) for n in (5, 10)}
    assert len(shapes) == 1


def test_a_page_from_before_there_was_more_than_the_paper():
    older = ("embedding", "k", "seed", "precision", "epsilon", "sigma", "layers")
    page = {name: value for name, value in Method().page().items() if name in older}
    assert Method(**page) == Method()
