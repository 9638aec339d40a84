"""Which published layouts each backbone's weights come in."""

from pretrained_conversion.name_map import NameMap
from pretrained_conversion.name_maps import efficientnet_lite, mobilenet_v3, resnet

NAME_MAPS: dict[str, tuple[NameMap, ...]] = {
    "resnet18": (resnet.RESNET,),
    "resnet34": (resnet.RESNET,),
    "resnet50": (resnet.RESNET,),
    "resnet101": (resnet.RESNET,),
    "wide_resnet50_2": (resnet.RESNET,),
    "mobilenet_v3_small": (mobilenet_v3.TORCHVISION_SMALL, mobilenet_v3.TIMM_SMALL),
    "mobilenet_v3_large": (mobilenet_v3.TORCHVISION_LARGE, mobilenet_v3.TIMM_LARGE),
    "mobilenet_v3_small_d_li14": (mobilenet_v3.D_LI14_SMALL,),
    "mobilenet_v3_large_d_li14": (mobilenet_v3.D_LI14_LARGE,),
    "efficientnet_lite0": (efficientnet_lite.EFFICIENTNET_LITE0,),
}
