"""Every backbone by name: layers, shapes, seeds, dtypes, parameters, and life as a pytree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.backbones import registry
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import ArgumentError, WeightsError

NAMES = list(registry.BACKBONES)
SMALL = "mobilenet_v3_small"

# of the default layers: channels as published, Table 2 of the paper for the sums of its four
CHANNELS = {
    "resnet18": (64, 128, 256),
    "resnet34": (64, 128, 256),
    "resnet50": (256, 512, 1024),
    "resnet101": (256, 512, 1024),
    "wide_resnet50_2": (256, 512, 1024),
    "mobilenet_v3_small": (16, 24, 48),
    "mobilenet_v3_large": (24, 40, 112),
    "mobilenet_v3_small_d_li14": (16, 24, 48),
    "mobilenet_v3_large_d_li14": (24, 40, 112),
    "efficientnet_lite0": (24, 40, 112),
}


def pictures(height=64, width=48, count=2):
    return np.random.default_rng(7).random((count, height, width, 3), dtype=np.float32)


def apply(backbone, x):
    return backbone(x)


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_keeps_the_protocol(name):
    backbone = registry.create(name)

    assert isinstance(backbone, Backbone)
    assert backbone.name == name
    assert backbone.strides == (4, 8, 16)
    assert backbone.channels == CHANNELS[name]
    # an odd size, whose grids don't divide evenly: every stride-2 layer rounds up
    maps = jax.eval_shape(backbone, pictures(253, 201, 3))
    grids = [(64, 51), (32, 26), (16, 13)]
    assert [m.shape for m in maps] == [(3, *grid, c) for grid, c in zip(grids, CHANNELS[name], strict=True)]


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet101", "wide_resnet50_2", SMALL, "mobilenet_v3_large_d_li14", "efficientnet_lite0"],
)
def test_random_weights_give_features_of_ordinary_size(name):
    # ε of the covariance is absolute: features far from 1 would drown it, or drown in it
    backbone = registry.create(name, layers=registry.BACKBONES[name].layers)

    for features in jax.jit(apply)(backbone, pictures()):
        assert 0.02 < np.std(features) < 20


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", SMALL])
def test_layers_choose_maps_and_build_no_deeper(name):
    every = registry.BACKBONES[name].layers
    whole = registry.create(name, layers=every)
    maps = jax.jit(apply)(whole, pictures())
    for chosen in [(2,), (1, 3), every[-1:]]:
        backbone = registry.create(name, layers=chosen)
        indices = [every.index(i) for i in chosen]
        assert backbone.strides == tuple(whole.strides[i] for i in indices)
        assert backbone.channels == tuple(whole.channels[i] for i in indices)
        for ours, i in zip(jax.jit(apply)(backbone, pictures()), indices, strict=True):
            np.testing.assert_allclose(ours, maps[i], rtol=1e-4, atol=1e-4)

    count = [len(registry.parameters(registry.create(name, layers=(i,)))) for i in every]
    assert count == sorted(set(count))
    assert (
        registry.parameters(registry.create(name, layers=every[-1:])).keys()
        == registry.parameters(whole).keys()
    )


def test_the_seed_decides_the_weights_whatever_the_layers():
    first, again, other, shallow = (
        registry.parameters(registry.create("resnet18", layers=layers, seed=seed))
        for layers, seed in [((1, 2), 3), ((1, 2), 3), ((1, 2), 4), ((1,), 3)]
    )

    for name, leaf in first.items():
        np.testing.assert_array_equal(leaf, again[name])
        assert not np.array_equal(leaf, other[name])
    for name, leaf in shallow.items():
        np.testing.assert_array_equal(leaf, first[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_is_a_pytree_that_compiles_once(name):
    first, second = (registry.create(name, layers=(1,), seed=seed) for seed in (0, 1))
    leaves, structure = jax.tree.flatten(first)
    assert structure == jax.tree.structure(second)
    assert hash(structure) == hash(jax.tree.structure(second))
    assert structure != jax.tree.structure(registry.create(name, layers=(2,)))
    assert structure != jax.tree.structure(registry.create(name, layers=(1,), dtype=jnp.bfloat16))

    traces = []

    @jax.jit
    def run(backbone, x):
        traces.append(backbone.name)
        return backbone(x)[0]

    x = pictures()
    once = run(first, x)
    np.testing.assert_array_equal(run(jax.tree.unflatten(structure, leaves), x), once)
    assert not np.array_equal(run(second, x), once)
    assert traces == [name]


def test_gradients_reach_every_parameter():
    def loss(backbone, x):
        return sum(jnp.sum(m**2) for m in backbone(x))

    gradient = jax.jit(jax.grad(loss))(registry.create("resnet18", layers=(1, 2)), pictures())

    assert all(np.isfinite(g).all() and np.any(g != 0) for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", ["resnet18", SMALL, "efficientnet_lite0"])
def test_bfloat16_computes_in_bfloat16_and_keeps_parameters_and_maps_in_float32(name):
    exact, rounded = (registry.create(name, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))

    text = jax.jit(apply).lower(rounded, pictures()).as_text()
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions
    assert all(line.count("bf16") >= 3 for line in convolutions)
    assert {leaf.dtype for leaf in registry.parameters(rounded).values()} == {jnp.dtype(jnp.float32)}
    for theirs, ours in zip(
        jax.jit(apply)(exact, pictures()), jax.jit(apply)(rounded, pictures()), strict=True
    ):
        assert ours.dtype == jnp.float32
        error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        assert 1e-4 < error < 0.05


def test_a_backbone_exports_for_any_number_of_pictures():
    for name in ("resnet18", SMALL, "efficientnet_lite0"):
        backbone = registry.create(name)
        (count,) = jax.export.symbolic_shape("n")
        exported = jax.export.export(jax.jit(backbone))(jax.ShapeDtypeStruct((count, 64, 48, 3), jnp.float32))
        assert [str(m.shape[0]) for m in exported.out_avals] == ["n", "n", "n"]


def test_parameters_bear_module_paths_and_can_be_replaced():
    backbone = registry.create("resnet18", layers=(1, 2))
    named = registry.parameters(backbone)
    assert named["conv1.kernel"].shape == (7, 7, 3, 64)
    assert named["layer1.0.conv1.kernel"].shape == (3, 3, 64, 64)
    assert named["layer2.0.downsample.bias"].shape == (128,)
    assert all(name.rsplit(".")[-1] in ("kernel", "bias") for name in named)

    other = registry.create("resnet18", layers=(1, 2), seed=5)
    replaced = registry.with_parameters(backbone, registry.parameters(other))

    run = jax.jit(apply)
    for ours, theirs in zip(run(replaced, pictures()), run(other, pictures()), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # the one it was made from stays as it was
    for name, leaf in registry.parameters(backbone).items():
        np.testing.assert_array_equal(leaf, named[name])


def test_replaced_parameters_take_the_dtype_of_the_old():
    backbone = registry.create(SMALL, layers=(1,))
    halves = {name: np.asarray(leaf, np.float16) for name, leaf in registry.parameters(backbone).items()}

    replaced = registry.parameters(registry.with_parameters(backbone, halves))

    assert {leaf.dtype for leaf in replaced.values()} == {jnp.dtype(jnp.float32)}


def test_other_names_or_shapes_are_refused_with_the_list():
    backbone = registry.create(SMALL, layers=(1,))
    tensors = dict(registry.parameters(backbone))
    del tensors["features.0.bias"]
    tensors["layer1.0.conv1.kernel"] = jnp.zeros((3, 3, 64, 64))
    tensors["features.1.project.bias"] = jnp.zeros(17)

    with pytest.raises(WeightsError) as caught:
        registry.with_parameters(backbone, tensors)

    message = str(caught.value)
    assert "\n" not in message
    for part in ("mobilenet_v3_small", "features.0.bias", "layer1.0.conv1.kernel", "(17,)", "(16,)"):
        assert part in message


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("resnet19", {}, "resnet18"),
        ("resnet18", {"layers": (5,)}, "1, 2, 3, 4"),
        ("efficientnet_lite0", {"layers": (4,)}, "1, 2, 3"),
        ("resnet18", {"layers": ()}, "1, 2, 3, 4"),
        ("resnet18", {"layers": (2, 1)}, "ascending"),
        ("resnet18", {"layers": (1, 1)}, "once"),
        ("resnet18", {"dtype": jnp.float16}, "bfloat16"),
        ("resnet18", {"dtype": jnp.int32}, "float32"),
    ],
)
def test_what_a_backbone_does_not_have_is_refused_in_one_line(name, options, part):
    with pytest.raises(ArgumentError) as caught:
        registry.create(name, **options)

    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_lite0"])
def test_a_structure_is_that_of_a_backbone(name):
    made, structure = registry.create(name), registry.structure(name)
    assert jax.tree.structure(structure) == jax.tree.structure(made)
    for one, other in zip(jax.tree.leaves(structure), jax.tree.leaves(made), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    assert structure.channels == made.channels
