"""ResNet and Wide ResNet in PyTorch, whole, with torchvision's parameter names: the referee of ours."""

from torch import nn
from torch.nn import functional as F


def _conv_bn(module, i, channels, out_channels, size, stride=1):
    conv = nn.Conv2d(channels, out_channels, size, stride=stride, padding=size // 2, bias=False)
    module.add_module(f"conv{i}", conv)
    module.add_module(f"bn{i}", nn.BatchNorm2d(out_channels))


class Basic(nn.Module):
    def __init__(self, channels, planes, stride, inner):
        super().__init__()
        self.out_channels = planes
        _conv_bn(self, 1, channels, planes, 3, stride)
        _conv_bn(self, 2, planes, planes, 3)
        self.downsample = _downsample(channels, planes, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


class Bottleneck(nn.Module):
    def __init__(self, channels, planes, stride, inner):
        super().__init__()
        self.out_channels = 4 * planes
        _conv_bn(self, 1, channels, inner, 1)
        _conv_bn(self, 2, inner, inner, 3, stride)
        _conv_bn(self, 3, inner, 4 * planes, 1)
        self.downsample = _downsample(channels, 4 * planes, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (self.downsample(x) if self.downsample else x))


def _downsample(channels, out_channels, stride):
    if stride == 1 and channels == out_channels:
        return None
    conv = nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    def __init__(self, block, depths, width_factor=1):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels = 64
        for i, (planes, depth) in enumerate(zip((64, 128, 256, 512), depths, strict=True), start=1):
            blocks = []
            for j in range(depth):
                blocks.append(block(channels, planes, 2 if i > 1 and j == 0 else 1, planes * width_factor))
                channels = blocks[-1].out_channels
            self.add_module(f"layer{i}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x):
        """Normalised pictures (N, 3, height, width) → the four layers' outputs, and the logits."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        maps = {}
        for i in (1, 2, 3, 4):
            x = maps[i] = getattr(self, f"layer{i}")(x)
        return maps, self.fc(x.mean(dim=(2, 3)))


DEFINITIONS = {
    "resnet18": lambda: ResNet(Basic, (2, 2, 2, 2)),
    "resnet34": lambda: ResNet(Basic, (3, 4, 6, 3)),
    "resnet50": lambda: ResNet(Bottleneck, (3, 4, 6, 3)),
    "resnet101": lambda: ResNet(Bottleneck, (3, 4, 23, 3)),
    "wide_resnet50_2": lambda: ResNet(Bottleneck, (3, 4, 6, 3), width_factor=2),
}
