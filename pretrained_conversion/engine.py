"""Tensors under a publisher's names → the leaves of a backbone, with nothing missing and nothing left over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from jaxsode.errors import WeightsError
from pretrained_conversion.fold import fold_batch_norm, source_shapes, to_kernel
from pretrained_conversion.name_map import NameMap, Source

Shapes = Mapping[str, tuple[int, ...]]

_STATISTICS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Account:
    """How tensors differ from what a backbone needs; each entry names a tensor or a leaf."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def problems(self) -> int:
        """How many entries there are; 0 if everything fits."""
        return len(self.missing) + len(self.unexpected) + len(self.wrong)

    def __str__(self) -> str:
        parts = {"missing": self.missing, "unexpected": self.unexpected, "wrong": self.wrong}
        return "; ".join(f"{label} {_shortened(names)}" for label, names in parts.items() if names)


def convert(
    tensors: Mapping[str, np.ndarray],
    *,
    name_maps: Iterable[NameMap],
    leaves: Shapes,
    whole: Shapes | None = None,
    label: str = "the weights",
) -> dict[str, np.ndarray]:
    """Parameters of a backbone out of a checkpoint, by the first name map that accounts for everything.

    Args:
        tensors: the checkpoint, output channels first (OIHW), any floating dtype.
        name_maps: layouts to try, in order.
        leaves: shape of each parameter wanted, `PATH.kernel` (HWIO or C × C') and `PATH.bias`.
        whole: the same for the backbone with all its stages: what the checkpoint may hold beyond `leaves`.
        label: what messages call the checkpoint.

    Returns:
        float32 arrays, batch norm folded, under the very names of `leaves`.

    Raises:
        WeightsError: no map fits; lists what is missing, unexpected or of the wrong shape by the closest one.
    """
    whole = {**(whole or {}), **leaves}
    accounts = []
    for name_map in name_maps:
        account = _account(tensors, name_map, leaves, whole)
        if not account.problems:
            return _convert(tensors, name_map, leaves, label)
        accounts.append((account.problems, name_map.name, account))
    if not accounts:
        raise WeightsError(f"{label}: there is no name map for this backbone")
    _, name, account = min(accounts)
    raise WeightsError(f"{label} (read as {name}): {account}")


def check(tensors: Mapping[str, np.ndarray], *, leaves: Shapes, whole: Shapes) -> Account:
    """The account of tensors that already bear our names and layout."""
    return Account(
        missing=tuple(name for name in leaves if name not in tensors),
        unexpected=tuple(name for name in tensors if name not in whole and name not in leaves),
        wrong=tuple(
            f"{name} {tensors[name].shape} for {shape}"
            for name, shape in leaves.items()
            if name in tensors and tensors[name].shape != shape
        ),
    )


def _account(tensors: Mapping[str, np.ndarray], name_map: NameMap, leaves: Shapes, whole: Shapes) -> Account:
    missing, wrong = [], []
    known = set()
    for module, shapes in _modules(whole).items():
        source = name_map.source(module)
        wanted = f"{module}.kernel" in leaves
        if source is None:
            missing += [f"{module}.kernel"] if wanted else []
            continue
        needed = _needed(source, shapes)
        known |= needed.keys() | {f"{source.conv}.bias"}
        if not wanted:
            continue
        for name, allowed in needed.items():
            if name not in tensors:
                missing.append(name)
            elif tensors[name].shape not in allowed:
                wrong.append(f"{name} {tensors[name].shape} for {min(allowed, key=len)}")
            elif not _is_floating(tensors[name].dtype):
                wrong.append(f"{name} of dtype {tensors[name].dtype}")
    unexpected = [name for name in tensors if name not in known and not name_map.is_unused(name)]
    return Account(tuple(missing), tuple(unexpected), tuple(wrong))
