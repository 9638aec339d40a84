"""MobileNetV3: torchvision's `.pth`, timm's safetensors of the same network, and d-li14's `.pth`.

In all three `features.1`, the first block, does not expand and is laid out by itself.
"""

from pretrained_conversion.name_map import NameMap, Rule

# torchvision counts the parts that a block has: expand 0, depthwise 1, squeeze-excite 2, project 3 …
_TORCHVISION = (
    Rule(r"features\.0", "features.0.0", "features.0.1"),
    Rule(r"features\.1\.depthwise", "features.1.block.0.0", "features.1.block.0.1"),
    Rule(r"features\.(\d+)\.expand", r"features.\1.block.0.0", r"features.\1.block.0.1"),
    Rule(r"features\.(\d+)\.depthwise", r"features.\1.block.1.0", r"features.\1.block.1.1"),
    Rule(r"features\.(\d+)\.squeeze_excite\.reduce", r"features.\1.block.2.fc1"),
    Rule(r"features\.(\d+)\.squeeze_excite\.expand", r"features.\1.block.2.fc2"),
    Rule(r"features\.(\d+)\.project", r"features.\1.block.3.0", r"features.\1.block.3.1"),
)

TORCHVISION_SMALL = NameMap(
    name="torchvision mobilenet_v3_small",
    rules=(
        Rule(r"features\.1\.squeeze_excite\.reduce", "features.1.block.1.fc1"),
        Rule(r"features\.1\.squeeze_excite\.expand", "features.1.block.1.fc2"),
        # … so without squeeze-excite, as without an expansion, the projection is number 2
        Rule(r"features\.(1|2|3)\.project", r"features.\1.block.2.0", r"features.\1.block.2.1"),
        *_TORCHVISION,
    ),
    unused=(
        r"features\.(9|10|11|12)\..*",  # stride 32
        r"classifier\..*",
        r".*\.num_batches_tracked",
    ),
    epsilon=1e-3,
)

TORCHVISION_LARGE = NameMap(
    name="torchvision mobilenet_v3_large",
    rules=(
        Rule(r"features\.1\.project", r"features.1.block.1.0", r"features.1.block.1.1"),
        Rule(r"features\.(2|3|7|8|9|10)\.project", r"features.\1.block.2.0", r"features.\1.block.2.1"),
        *_TORCHVISION,
    ),
    unused=(
        r"features\.(13|14|15|16)\..*",  # stride 32
        r"classifier\..*",
        r".*\.num_batches_tracked",
    ),
    epsilon=1e-3,
)

# timm numbers blocks within stages; features.N → blocks.STAGE.BLOCK
_TIMM_SMALL = ("0.0", "1.0", "1.1", "2.0", "2.1", "2.2", "3.0", "3.1")
_TIMM_LARGE = ("0.0", "1.0", "1.1", "2.0", "2.1", "2.2", "3.0", "3.1", "3.2", "3.3", "4.0", "4.1")


def _timm(blocks: tuple[str, ...]) -> tuple[Rule, ...]:
    rules = [
        Rule(r"features\.0", "conv_stem", "bn1"),
        Rule(r"features\.1\.depthwise", "blocks.0.0.conv_dw", "blocks.0.0.bn1"),
        Rule(r"features\.1\.project", "blocks.0.0.conv_pw", "blocks.0.0.bn2"),
    ]
    for i, block in enumerate(blocks, start=1):
        rules += [
            Rule(rf"features\.{i}\.expand", f"blocks.{block}.conv_pw", f"blocks.{block}.bn1"),
            Rule(rf"features\.{i}\.depthwise", f"blocks.{block}.conv_dw", f"blocks.{block}.bn2"),
            Rule(rf"features\.{i}\.squeeze_excite\.reduce", f"blocks.{block}.se.conv_reduce"),
            Rule(rf"features\.{i}\.squeeze_excite\.expand", f"blocks.{block}.se.conv_expand"),
            Rule(rf"features\.{i}\.project", f"blocks.{block}.conv_pwl", f"blocks.{block}.bn3"),
        ]
    return tuple(rules)


TIMM_SMALL = NameMap(
    name="timm mobilenetv3_small_100",
    rules=_timm(_TIMM_SMALL),
    unused=(r"blocks\.(4|5)\..*", r"(conv_head|classifier)\..*", r".*\.num_batches_tracked"),
    epsilon=1e-5,
)

TIMM_LARGE = NameMap(
    name="timm mobilenetv3_large_100",
    rules=_timm(_TIMM_LARGE),
    unused=(r"blocks\.(5|6)\..*", r"(conv_head|classifier)\..*", r".*\.num_batches_tracked"),
    epsilon=1e-5,
)

_D_LI14 = (
    Rule(r"features\.0", "features.0.0", "features.0.1"),
    Rule(r"features\.1\.depthwise", "features.1.conv.0", "features.1.conv.1"),
    Rule(r"features\.1\.squeeze_excite\.reduce", "features.1.conv.3.fc.0"),
    Rule(r"features\.1\.squeeze_excite\.expand", "features.1.conv.3.fc.2"),
    Rule(r"features\.1\.project", "features.1.conv.4", "features.1.conv.5"),
    Rule(r"features\.(\d+)\.expand", r"features.\1.conv.0", r"features.\1.conv.1"),
    Rule(r"features\.(\d+)\.depthwise", r"features.\1.conv.3", r"features.\1.conv.4"),
    Rule(r"features\.(\d+)\.squeeze_excite\.reduce", r"features.\1.conv.5.fc.0"),
    Rule(r"features\.(\d+)\.squeeze_excite\.expand", r"features.\1.conv.5.fc.2"),
    Rule(r"features\.(\d+)\.project", r"features.\1.conv.7", r"features.\1.conv.8"),
)

D_LI14_SMALL = NameMap(
    name="d-li14 mobilenetv3-small",
    rules=_D_LI14,
    unused=(r"features\.(9|10|11)\..*", r"(conv|classifier)\..*", r".*\.num_batches_tracked"),
    epsilon=1e-5,
)

D_LI14_LARGE = NameMap(
    name="d-li14 mobilenetv3-large",
    rules=_D_LI14,
    unused=(r"features\.(13|14|15)\..*", r"(conv|classifier)\..*", r".*\.num_batches_tracked"),
    epsilon=1e-5,
)
