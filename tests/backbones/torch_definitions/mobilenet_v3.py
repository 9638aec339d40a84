"""MobileNetV3 in PyTorch, whole, thrice: with the parameter names of torchvision, timm and d-li14."""

from torch import nn
from torch.nn import functional as F

# the paper's Tables 1 and 2: kernel, expanded, out, squeeze-excite, hard-swish, stride; a list per stage
LARGE = (
    [(3, 16, 16, 0, 0, 1)],
    [(3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1)],
    [(5, 72, 40, 1, 0, 2), (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1)],
    [(3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1)],
    [(3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1)],
    [(5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1)],
)
SMALL = (
    [(3, 16, 16, 1, 0, 2)],
    [(3, 72, 24, 0, 0, 2), (3, 88, 24, 0, 0, 1)],
    [(5, 96, 40, 1, 1, 2), (5, 240, 40, 1, 1, 1), (5, 240, 40, 1, 1, 1)],
    [(5, 120, 48, 1, 1, 1), (5, 144, 48, 1, 1, 1)],
    [(5, 288, 96, 1, 1, 2), (5, 576, 96, 1, 1, 1), (5, 576, 96, 1, 1, 1)],
)
# width of the last convolution, of the classifier's hidden layer, and what is returned from `features`
HEADS = {"large": (960, 1280, (3, 6, 12)), "small": (576, 1024, (1, 3, 8))}
# a quarter of the expanded channels, as both publishers round it to eights
SQUEEZED = {16: 8, 72: 24, 96: 24, 120: 32, 144: 40, 240: 64, 288: 72, 480: 120, 576: 144, 672: 168, 960: 240}


def _rows(size):
    return [row for stage in {"large": LARGE, "small": SMALL}[size] for row in stage]


def _conv(channels, out_channels, size, stride=1, groups=1):
    return nn.Conv2d(channels, out_channels, size, stride, size // 2, groups=groups, bias=False)


def _activation(hard_swish):
    return nn.Hardswish() if hard_swish else nn.ReLU()


class TorchvisionExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, SQUEEZED[channels], 1)
        self.fc2 = nn.Conv2d(SQUEEZED[channels], channels, 1)

    def forward(self, x):
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


def _torchvision_unit(channels, out_channels, size, stride=1, groups=1, activation=None):
    conv = _conv(channels, out_channels, size, stride, groups)
    norm = nn.BatchNorm2d(out_channels, eps=0.001)
    return nn.Sequential(conv, norm, *([] if activation is None else [activation]))


class TorchvisionBlock(nn.Module):
    def __init__(self, channels, size, inner, out_channels, excite, hard_swish, stride):
        super().__init__()
        self.residual = stride == 1 and channels == out_channels
        parts = []
        if inner != channels:
            parts.append(_torchvision_unit(channels, inner, 1, activation=_activation(hard_swish)))
        parts.append(_torchvision_unit(inner, inner, size, stride, inner, _activation(hard_swish)))
        if excite:
            parts.append(TorchvisionExcite(inner))
        parts.append(_torchvision_unit(inner, out_channels, 1))
        self.block = nn.Sequential(*parts)

    def forward(self, x):
        return x + self.block(x) if self.residual else self.block(x)


class Torchvision(nn.Module):
    def __init__(self, size):
        super().__init__()
        last, hidden, self.returned = HEADS[size]
        features = [_torchvision_unit(3, 16, 3, stride=2, activation=nn.Hardswish())]
        channels = 16
        for row in _rows(size):
            features.append(TorchvisionBlock(channels, *row))
            channels = row[2]
        features.append(_torchvision_unit(channels, last, 1, activation=nn.Hardswish()))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, 1000)
        )

    def forward(self, x):
        """Normalised pictures (N, 3, height, width) → the paper's three outputs, and the logits."""
        maps = {}
        for i, module in enumerate(self.features):
            x = module(x)
            if i in self.returned:
                maps[len(maps) + 1] = x
        return maps, self.classifier(x.mean(dim=(2, 3)))


class DLi14Excite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        squeezed = SQUEEZED[channels]
        self.fc = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(), nn.Linear(squeezed, channels), nn.Hardsigmoid()
        )

    def forward(self, x):
        return x * self.fc(x.mean(dim=(2, 3)))[:, :, None, None]


class DLi14Block(nn.Module):
    def __init__(self, channels, size, inner, out_channels, excite, hard_swish, stride):
        super().__init__()
        self.residual = stride == 1 and channels == out_channels
        gate = DLi14Excite(inner) if excite else nn.Identity()
        depthwise = [_conv(inner, inner, size, stride, inner), nn.BatchNorm2d(inner)]
        project = [_conv(inner, out_channels, 1), nn.BatchNorm2d(out_channels)]
        if inner == channels:
            parts = [*depthwise, _activation(hard_swish), gate, *project]
        else:
            expand = [_conv(channels, inner, 1), nn.BatchNorm2d(inner), _activation(hard_swish)]
            parts = [*expand, *depthwise, gate, _activation(hard_swish), *project]
        self.conv = nn.Sequential(*parts)

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


class DLi14(nn.Module):
    def __init__(self, size):
        super().__init__()
        last, hidden, self.returned = HEADS[size]
        features = [nn.Sequential(_conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.Hardswish())]
        channels = 16
        for row in _rows(size):
            features.append(DLi14Block(channels, *row))
            channels = row[2]
        self.features = nn.Sequential(*features)
        self.conv = nn.Sequential(_conv(channels, last, 1), nn.BatchNorm2d(last), nn.Hardswish())
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(hidden, 1000)
        )

    def forward(self, x):
        """Normalised pictures (N, 3, height, width) → the paper's three outputs, and the logits."""
        maps = {}
        for i, module in enumerate(self.features):
            x = module(x)
            if i in self.returned:
                maps[len(maps) + 1] = x
        return maps, self.classifier(self.conv(x).mean(dim=(2, 3)))


class TimmExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, SQUEEZED[channels], 1)
        self.conv_expand = nn.Conv2d(SQUEEZED[channels], channels, 1)

    def forward(self, x):
        gate = F.relu(self.conv_reduce(x.mean(dim=(2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.conv_expand(gate))


class TimmFirstBlock(nn.Module):
    def __init__(self, channels, size, inner, out_channels, excite, hard_swish, stride):
        super().__init__()
        self.residual = stride == 1 and channels == out_channels
        self.activation = _activation(hard_swish)
        self.conv_dw = _conv(channels, channels, size, stride, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.se = TimmExcite(channels) if excite else nn.Identity()
        self.conv_pw = _conv(channels, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        y = self.se(self.activation(self.bn1(self.conv_dw(x))))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.residual else y


class TimmBlock(nn.Module):
    def __init__(self, channels, size, inner, out_channels, excite, hard_swish, stride):
        super().__init__()
        self.residual = stride == 1 and channels == out_channels
        self.activation = _activation(hard_swish)
        self.conv_pw = _conv(channels, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv_dw = _conv(inner, inner, size, stride, inner)
        self.bn2 = nn.BatchNorm2d(inner)
        self.se = TimmExcite(inner) if excite else nn.Identity()
        self.conv_pwl = _conv(inner, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        y = self.activation(self.bn1(self.conv_pw(x)))
        y = self.se(self.activation(self.bn2(self.conv_dw(y))))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.residual else y


class TimmLast(nn.Module):
    def __init__(self, channels, out_channels):
        super().__init__()
        self.conv = _conv(channels, out_channels, 1)
        self.bn1 = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        return F.hardswish(self.bn1(self.conv(x)))


class Timm(nn.Module):
    def __init__(self, size):
        super().__init__()
        last, hidden, self.returned = HEADS[size]
        self.conv_stem = _conv(3, 16, 3, 2)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        self.blocks = nn.Sequential()
        for i, stage in enumerate({"large": LARGE, "small": SMALL}[size]):
            blocks = []
            for row in stage:
                blocks.append((TimmFirstBlock if i == 0 else TimmBlock)(channels, *row))
                channels = row[2]
            self.blocks.append(nn.Sequential(*blocks))
        self.blocks.append(nn.Sequential(TimmLast(channels, last)))
        self.conv_head = nn.Conv2d(last, hidden, 1)
        self.classifier = nn.Linear(hidden, 1000)

    def forward(self, x):
        """Normalised pictures (N, 3, height, width) → the paper's three outputs, and the logits."""
        x = F.hardswish(self.bn1(self.conv_stem(x)))
        maps = {}
        for i, block in enumerate((block for stage in self.blocks for block in stage), start=1):
            x = block(x)
            if i in self.returned:
                maps[len(maps) + 1] = x
        x = F.hardswish(self.conv_head(x.mean(dim=(2, 3), keepdim=True)))
        return maps, self.classifier(x.flatten(1))


DEFINITIONS = {
    "mobilenet_v3_small": lambda: Torchvision("small"),
    "mobilenet_v3_large": lambda: Torchvision("large"),
    "mobilenet_v3_small_d_li14": lambda: DLi14("small"),
    "mobilenet_v3_large_d_li14": lambda: DLi14("large"),
}
TIMM_DEFINITIONS = {
    "mobilenet_v3_small": lambda: Timm("small"),
    "mobilenet_v3_large": lambda: Timm("large"),
}
