"""What a name map is: where each module of a backbone finds its tensors in a published checkpoint.

Maps are data. A new checkpoint layout is a new table in `name_maps/`, and no new code.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """Where a convolution, with the batch norm behind it, comes from.

    Attributes:
        module: regular expression that must match the whole path of a module in our model, without
            `.kernel` or `.bias`, e.g. r"layer(\\d)\\.(\\d+)\\.conv(\\d)". The first rule that matches holds.
        conv: the path of the convolution (or linear layer) in the checkpoint, expanded with the groups of
            that match: r"layer\\1.\\2.conv\\3". Its `.weight` is needed; with `norm`, a `.bias` may be there.
        norm: the path of the batch norm in the checkpoint, expanded likewise; its `.weight`, `.bias`,
            `.running_mean` and `.running_var` are folded into the convolution. None: the convolution has its
            own `.weight` and `.bias` and nothing is folded.
    """

    module: str
    conv: str
    norm: str | None = None

    def match(self, module: str) -> "Source | None":
        """The paths in the checkpoint for a module of ours, or None if this rule is not about it."""
        found = re.fullmatch(self.module, module)
        if found is None:
            return None
        return Source(found.expand(self.conv), None if self.norm is None else found.expand(self.norm))


@dataclass(frozen=True)
class Source:
    """The paths of one convolution and of its batch norm in a checkpoint."""

    conv: str
    norm: str | None


@dataclass(frozen=True)
class NameMap:
    """One published layout of one backbone family.

    Attributes:
        name: whose layout it is, for messages: "torchvision resnet".
        rules: tried in order for each module of ours.
        unused: regular expressions, each matching the whole name of a source tensor that no feature map
            needs: classifiers, counters. Stages that the model does not build need no entry; they are known
            from the whole backbone.
        epsilon: of the batch norm, added to the variance. It differs between publishers and is not in the
            checkpoint, which is why it belongs to the map.
    """

    name: str
    rules: tuple[Rule, ...]
    unused: tuple[str, ...] = ()
    epsilon: float = 1e-5

    def source(self, module: str) -> Source | None:
        """The checkpoint's paths for a module of ours by the first rule that matches, or None."""
        return next((found for rule in self.rules if (found := rule.match(module))), None)

    def is_unused(self, tensor: str) -> bool:
        """Whether a source tensor is declared as one that no feature map needs."""
        return any(re.fullmatch(pattern, tensor) for pattern in self.unused)
