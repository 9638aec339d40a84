"""Every source tensor and every leaf is accounted for, or the error says which is not."""

import ml_dtypes
import numpy as np
import pytest

from jaxsode.errors import WeightsError
from pretrained_conversion.engine import check, convert
from pretrained_conversion.name_map import NameMap, Rule
from pretrained_conversion.name_maps.folded import FOLDED

PUBLISHED = NameMap(
    name="their layout",
    rules=(
        Rule(r"stem", "conv0", "bn0"),
        Rule(r"stage(\d)\.(\d)", r"features.\1.\2.conv", r"features.\1.\2.bn"),
        Rule(r"gate", "se.fc"),
    ),
    unused=(r"classifier\.(weight|bias)", r".*\.num_batches_tracked"),
    epsilon=1e-3,
)
LEAVES = {
    "stem.kernel": (3, 3, 3, 4),
    "stem.bias": (4,),
    "stage1.0.kernel": (1, 1, 4, 6),
    "stage1.0.bias": (6,),
    "gate.kernel": (6, 6),
    "gate.bias": (6,),
}
WHOLE = LEAVES | {"stage2.0.kernel": (1, 1, 6, 8), "stage2.0.bias": (8,)}
ROWS = {"conv0": "bn0", "features.1.0.conv": "features.1.0.bn", "features.2.0.conv": "features.2.0.bn"}


def checkpoint() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"conv0": (4, 3, 3, 3), "features.1.0.conv": (6, 4, 1, 1), "features.2.0.conv": (8, 6, 1, 1)}
    tensors = {"classifier.weight": rng.standard_normal((10, 8)), "classifier.bias": np.zeros(10)}
    for conv, shape in shapes.items():
        tensors[f"{conv}.weight"] = rng.standard_normal(shape)
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{ROWS[conv]}.{name}"] = rng.uniform(0.1, 2, shape[0])
        tensors[f"{ROWS[conv]}.num_batches_tracked"] = np.array(7)
    tensors["se.fc.weight"] = rng.standard_normal((6, 6))
    tensors["se.fc.bias"] = rng.standard_normal(6)
    return {name: array.astype(np.float32) if array.ndim else array for name, array in tensors.items()}


def converted(tensors: dict[str, np.ndarray], **options) -> dict[str, np.ndarray]:
    maps = options.pop("name_maps", (PUBLISHED,))
    return convert(tensors, name_maps=maps, leaves=LEAVES, whole=WHOLE, label="net.pth", **options)


def message(tensors: dict[str, np.ndarray], **options) -> str:
    with pytest.raises(WeightsError) as error:
        converted(tensors, **options)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("net.pth")
    return str(error.value)


def test_all_leaves_come_out_folded_in_our_layout():
    tensors = checkpoint()
    found = converted(tensors)
    assert {name: array.shape for name, array in found.items()} == LEAVES
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    assert all(array.flags.c_contiguous for array in found.values())
    for module, conv in {"stem": "conv0", "stage1.0": "features.1.0.conv"}.items():
        norm = {name.rpartition(".")[2]: array.astype(np.float64) for name, array in tensors.items()
                if name.startswith(ROWS[conv])}  # fmt: skip
        scale = norm["weight"] / np.sqrt(norm["running_var"] + 1e-3)
        expected = np.einsum("oihw,o->hwio", tensors[f"{conv}.weight"], scale)
        np.testing.assert_allclose(found[f"{module}.kernel"], expected, rtol=1e-6)
        bias = norm["bias"] - norm["running_mean"] * scale
        np.testing.assert_allclose(found[f"{module}.bias"], bias, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(found["gate.kernel"], tensors["se.fc.weight"].T)
    np.testing.assert_array_equal(found["gate.bias"], tensors["se.fc.bias"])


def test_a_bias_before_a_batch_norm_counts():
    tensors = checkpoint()
    plain = converted(tensors)["stem.bias"]
    tensors["conv0.bias"] = np.ones(4, np.float32)
    scale = tensors["bn0.weight"] / np.sqrt(tensors["bn0.running_var"] + np.float32(1e-3))
    np.testing.assert_allclose(converted(tensors)["stem.bias"], plain + scale, rtol=1e-5)
    tensors["conv0.bias"] = np.ones(5, np.float32)
    assert "1 wrong: conv0.bias (5,) for (4,)" in message(tensors)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_floating_dtypes_come_out_as_float32(dtype):
    tensors = {name: a.astype(dtype) if a.ndim else a for name, a in checkpoint().items()}
    found = converted(tensors)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found["gate.bias"], tensors["se.fc.bias"].astype(np.float32))


def test_deeper_stages_may_be_there_or_not():
    tensors = {name: array for name, array in checkpoint().items() if not name.startswith("features.2")}
    assert converted(tensors).keys() == LEAVES.keys()


def test_one_tensor_missing():
    tensors = checkpoint()
    del tensors["features.1.0.bn.running_var"]
    assert "(read as their layout): 1 missing: features.1.0.bn.running_var; give" in message(tensors)


@pytest.mark.parametrize("extra", ["features.1.1.conv.weight", "features.3.0.conv.weight", "se.fc2.weight"])
def test_one_tensor_extra_even_where_a_rule_would_know_it(extra):
    tensors = checkpoint() | {extra: np.zeros((6, 6, 1, 1), np.float32)}
    assert f": 1 unexpected: {extra}; give" in message(tensors)


def test_one_tensor_of_the_wrong_shape():
    tensors = checkpoint()
    tensors["conv0.weight"] = np.zeros((4, 3, 5, 5), np.float32)
    assert ": 1 wrong: conv0.weight (4, 3, 5, 5) for (4, 3, 3, 3); give" in message(tensors)
    tensors = checkpoint() | {"bn0.bias": np.zeros((4, 1), np.float32)}
    assert ": 1 wrong: bn0.bias (4, 1) for (4,); give" in message(tensors)


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex64])
def test_weights_that_are_no_floating_numbers(dtype):
    tensors = checkpoint() | {"se.fc.bias": np.zeros(6, dtype)}
    assert f"1 wrong: se.fc.bias of dtype {np.dtype(dtype)}" in message(tensors)


@pytest.mark.parametrize(
    ("name", "value"), [("bn0.running_var", -1.0), ("conv0.weight", np.nan), ("se.fc.bias", np.inf)]
)
def test_what_is_not_finite_is_damage(name, value):
    tensors = checkpoint()
    tensors[name] = np.full_like(tensors[name], value)
    assert "not a finite number in" in message(tensors)


def test_a_long_list_is_shortened_to_one_line():
    found = message({"x": np.zeros(3, np.float32)})
    assert (
        "12 missing: conv0.weight, bn0.weight, bn0.bias, bn0.running_mean and 8 more; 1 unexpected: x"
        in found
    )


def test_the_map_that_fits_is_found_and_else_the_closest_is_told():
    strange = NameMap(name="strange", rules=(Rule("(.*)", r"strange.\1"),))
    assert converted(checkpoint(), name_maps=(strange, PUBLISHED)).keys() == LEAVES.keys()
    tensors = checkpoint()
    del tensors["se.fc.bias"]
    assert "read as their layout" in message(tensors, name_maps=(strange, PUBLISHED, FOLDED))
    assert "no name map" in message(tensors, name_maps=())


def prefixed(prefix: str) -> dict[str, np.ndarray]:
    return {f"{prefix}{name}": array for name, array in checkpoint().items()}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.backbone.", "_orig_mod.module.net."])
def test_a_prefix_of_all_names_is_none_of_them(prefix):
    found = converted(prefixed(prefix))
    for name, array in converted(checkpoint()).items():
        np.testing.assert_array_equal(found[name], array)


def test_the_counter_of_a_moving_average_has_no_prefix():
    assert converted(prefixed("module.") | {"n_averaged": np.array(7)}).keys() == LEAVES.keys()
    assert "1 unexpected: n_averaged" in message(checkpoint() | {"n_averaged": np.array(7)})


@pytest.mark.parametrize("prefix", ["backbone.", "model.encoder."])
def test_a_prefix_of_some_names_is_said_to_be_the_trouble(prefix):
    found = message(prefixed(prefix) | {"head.weight": np.zeros(3), "head.bias": np.zeros(3)})
    assert f"a prefix is the trouble, '{prefix}' before {len(checkpoint())} names" in found
    assert "but not before head.bias, head.weight; save the state_dict() of that part alone" in found


@pytest.mark.parametrize("bare", [("conv0.weight",), ("classifier.weight", "bn0.bias", "se.fc.bias")])
def test_a_prefix_of_some_needed_names_is_said_to_be_the_trouble(bare):
    mixed = {name if name in bare else f"module.{name}": array for name, array in checkpoint().items()}
    found = message(mixed)
    assert found.startswith("net.pth: a prefix is the trouble, 'module.' before module.")
    assert found.endswith(
        f" but not before {', '.join(n for n in mixed if n in bare)}; take it off all names"
    )


def test_names_that_a_prefix_alone_keeps_apart_are_no_trouble_of_a_prefix():
    assert "unexpected: module.conv0.weight" in message(
        checkpoint() | {"module.conv0.weight": np.zeros((4, 3, 3, 3))}
    )


def test_a_prefix_is_not_the_trouble_where_something_else_is():
    tensors = prefixed("backbone.") | {"head.weight": np.zeros(3)}
    del tensors["backbone.bn0.bias"]
    assert "a prefix" not in message(tensors)


def test_a_module_without_a_rule_is_missing():
    poor = NameMap(name="poor", rules=PUBLISHED.rules[:2], unused=PUBLISHED.unused)
    assert "1 missing: gate.kernel; 2 unexpected: se.fc.bias, se.fc.weight" in message(
        checkpoint(), name_maps=(poor,)
    )


def test_the_first_rule_that_matches_holds():
    rules = (Rule("stem", "conv0", "bn0"), Rule("st.*", "never"))
    found = NameMap(name="", rules=rules).source("stem")
    assert found is not None
    assert (found.conv, found.norm) == ("conv0", "bn0")
    assert NameMap(name="", rules=rules).source("my stem") is None


def test_folded_checkpoints_bear_our_own_paths():
    tensors = {
        "stem.weight": np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32),
        "stem.bias": np.ones(4, np.float32),
    }
    leaves = {name: LEAVES[name] for name in ("stem.kernel", "stem.bias")}
    found = convert(tensors, name_maps=(FOLDED,), leaves=leaves)
    np.testing.assert_array_equal(found["stem.kernel"], tensors["stem.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(found["stem.bias"], tensors["stem.bias"])


def test_parameters_that_are_no_kernel_with_bias_are_a_mistake_of_the_programmer():
    with pytest.raises(ValueError, match=r"stem\.bias"):
        convert({}, name_maps=(PUBLISHED,), leaves={"stem.kernel": (3, 3, 3, 4)})
    with pytest.raises(ValueError, match=r"stem\.scale"):
        convert({}, name_maps=(PUBLISHED,), leaves=LEAVES | {"stem.scale": (4,)})


def test_check_of_tensors_in_our_own_layout():
    tensors = {name: np.zeros(shape, np.float32) for name, shape in WHOLE.items()}
    assert check(tensors, leaves=LEAVES, whole=WHOLE).problems == 0
    tensors["more"] = tensors.pop("stem.bias")
    tensors["gate.bias"] = np.zeros(5, np.float32)
    account = check(tensors, leaves=LEAVES, whole=WHOLE)
    assert account.problems == 3
    assert str(account) == "1 missing: stem.bias; 1 unexpected: more; 1 wrong: gate.bias (5,) for (6,)"
