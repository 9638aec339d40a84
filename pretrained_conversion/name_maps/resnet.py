"""ResNets and Wide ResNets: torchvision's `.pth` and timm's safetensors, which name everything alike."""

from pretrained_conversion.name_map import NameMap, Rule

RESNET = NameMap(
    name="torchvision or timm resnet",
    rules=(
        Rule(r"conv1", "conv1", "bn1"),
        Rule(r"layer(\d)\.(\d+)\.conv(\d)", r"layer\1.\2.conv\3", r"layer\1.\2.bn\3"),
        Rule(r"layer(\d)\.(\d+)\.downsample", r"layer\1.\2.downsample.0", r"layer\1.\2.downsample.1"),
    ),
    unused=(r"fc\.(weight|bias)", r".*\.num_batches_tracked"),
    epsilon=1e-5,
)
