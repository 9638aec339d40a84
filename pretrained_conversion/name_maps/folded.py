"""Checkpoints whose batch norm is folded already: our own module paths, with PyTorch's layout.

Tried for every backbone, so it stands in no table of a family.
"""

from pretrained_conversion.name_map import NameMap, Rule

FOLDED = NameMap(name="folded batch norm", rules=(Rule(module="(.*)", conv=r"\1"),))
