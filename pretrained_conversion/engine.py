"""Tensors under a publisher's names → the leaves of a backbone, nothing missing and nothing left over."""

from collections.abc import Iterable, Iterator, Mapping
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
        return "; ".join(
            f"{len(names)} {label}: {_shortened(names)}" for label, names in parts.items() if names
        )


def convert(
    tensors: Mapping[str, np.ndarray],
    *,
    name_maps: Iterable[NameMap],
    leaves: Shapes,
    whole: Shapes | None = None,
    label: str = "the weights",
) -> dict[str, np.ndarray]:
    """Parameters of a backbone out of a checkpoint, by the first name map that accounts for everything.

    A prefix that all names have in common is no part of them.

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
    name_maps = tuple(name_maps)
    if not name_maps:
        raise WeightsError(f"{label}: there is no name map for this backbone")
    accounts = []
    for inner in _prefixes_of_all(tensors):
        for name_map in name_maps:
            account = _account(inner, name_map, leaves, whole)
            if not account.problems:
                return _convert(inner, name_map, leaves, label)
            accounts.append((name_map.name, account))
    for name_map in name_maps:
        if prefix := _prefix_of_some(tensors, name_map, leaves, whole):
            count = sum(name.startswith(prefix) for name in tensors)
            others = _shortened(sorted(name for name in tensors if not name.startswith(prefix)))
            raise WeightsError(
                f"{label}: a prefix is the trouble, {prefix!r} before {count} names but not before {others}; "
                "save the state_dict() of that part alone"
            )
    if partial := _prefix_here_and_there(tensors, name_maps, leaves, whole):
        having = [name for name in tensors if name.startswith(partial)]
        others = _shortened(name for name in tensors if not name.startswith(partial))
        raise WeightsError(
            f"{label}: a prefix is the trouble, {partial!r} before {_shortened(having)} but not before "
            f"{others}; take it off all names"
        )
    name, account = min(accounts, key=lambda found: (len(found[1].unexpected), found[1].problems))
    raise WeightsError(f"{label} (read as {name}): {account}; give weights of this very model")


def check(tensors: Mapping[str, np.ndarray], *, leaves: Shapes, whole: Shapes) -> Account:
    """The account of tensors that already bear our names and layout."""
    return Account(
        missing=tuple(name for name in leaves if name not in tensors),
        unexpected=tuple(sorted(name for name in tensors if name not in whole and name not in leaves)),
        wrong=tuple(
            f"{name} {tensors[name].shape} for {shape}"
            for name, shape in leaves.items()
            if name in tensors and tensors[name].shape != shape
        ),
    )


def _prefixes_of_all(tensors: Mapping[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """The tensors as they are, then without what all names begin with, component by component.

    `module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` and `backbone.` of what a network was
    part of.
    """
    tensors = dict(tensors)
    others = tensors.keys() - {"n_averaged"}
    if others and all(name.startswith("module.") for name in others):
        tensors.pop("n_averaged", None)  # the counter of PyTorch's AveragedModel
    while True:
        yield tensors
        first, dot, _ = next(iter(tensors), "").partition(".")
        if not dot or not all(name.startswith(f"{first}.") for name in tensors):
            return
        tensors = {name.removeprefix(f"{first}."): tensor for name, tensor in tensors.items()}


def _prefix_of_some(
    tensors: Mapping[str, np.ndarray], name_map: NameMap, leaves: Shapes, whole: Shapes
) -> str | None:
    """What the names of the tensors that are needed begin with, all of them, though other names do not."""
    module = next(iter(_kernels(leaves)))
    source = name_map.source(module)
    if source is None:
        return None
    ending = f".{source.conv}.weight"
    for name in tensors:
        if name.endswith(ending):
            prefix = name.removesuffix(ending) + "."
            inner = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            account = _account(inner, name_map, leaves, whole)
            if not account.missing and not account.wrong:
                return prefix
    return None


def _prefix_here_and_there(
    tensors: Mapping[str, np.ndarray], name_maps: Iterable[NameMap], leaves: Shapes, whole: Shapes
) -> str | None:
    """What stands before some of the names that are needed, and without which all would be there."""
    firsts = dict.fromkeys(f"{name.partition('.')[0]}." for name in tensors if "." in name)
    for prefix in firsts:
        inner = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        whole_still = len(inner) == len(tensors)  # else two names have become one
        if whole_still and not all(_account(inner, one, leaves, whole).problems for one in name_maps):
            return prefix
    return None


def _account(tensors: Mapping[str, np.ndarray], name_map: NameMap, leaves: Shapes, whole: Shapes) -> Account:
    missing, wrong = [], []
    known: set[str] = set()
    for module, kernel in _kernels(whole).items():
        source = name_map.source(module)
        wanted = f"{module}.kernel" in leaves
        if source is None:
            missing += [f"{module}.kernel"] if wanted else []
            continue
        allowed = _source_tensors(source, kernel)
        known |= allowed.keys()
        if not wanted:
            continue
        for name, shapes in allowed.items():
            tensor = tensors.get(name)
            if tensor is None:
                # a convolution before a batch norm has a bias only by its author's whim
                missing += [name] if source.norm is None or name != f"{source.conv}.bias" else []
            elif tensor.shape not in shapes:
                wrong.append(f"{name} {tensor.shape} for {max(shapes, key=len)}")
            elif tensor.dtype.kind != "f" and tensor.dtype != ml_dtypes.bfloat16:
                wrong.append(f"{name} of dtype {tensor.dtype}")
    unexpected = sorted(name for name in tensors if name not in known and not name_map.is_unused(name))
    return Account(tuple(missing), tuple(unexpected), tuple(wrong))


def _convert(
    tensors: Mapping[str, np.ndarray], name_map: NameMap, leaves: Shapes, label: str
) -> dict[str, np.ndarray]:
    parameters = {}
    for module, kernel in _kernels(leaves).items():
        source = name_map.source(module)
        assert source is not None  # accounted for
        weight = tensors[f"{source.conv}.weight"]
        bias = tensors.get(f"{source.conv}.bias")
        if source.norm is not None:
            gamma, beta, mean, variance = (tensors[f"{source.norm}.{name}"] for name in _STATISTICS)
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # told below
                weight, bias = fold_batch_norm(
                    weight,
                    bias,
                    gamma=gamma,
                    beta=beta,
                    mean=mean,
                    variance=variance,
                    epsilon=name_map.epsilon,
                )
        with np.errstate(over="ignore"):
            parameters[f"{module}.kernel"] = to_kernel(weight, kernel).astype(np.float32, order="C")
            parameters[f"{module}.bias"] = np.asarray(bias).astype(np.float32)
    wild = [name for name, array in parameters.items() if not np.isfinite(array).all()]
    if wild:
        raise WeightsError(f"{label}: not a finite number in {_shortened(wild)}: get the file again")
    return parameters


def _kernels(leaves: Shapes) -> dict[str, tuple[int, ...]]:
    """The kernel's shape of each module. Every module has a kernel and a bias, and nothing else."""
    kernels = {
        name.removesuffix(".kernel"): shape for name, shape in leaves.items() if name.endswith(".kernel")
    }
    expected = {f"{module}.{leaf}" for module in kernels for leaf in ("kernel", "bias")}
    if expected != set(leaves):
        odd = _shortened(sorted(expected.symmetric_difference(leaves)))
        raise ValueError(f"a backbone's parameters are a kernel and a bias for each module, but for {odd}")
    return kernels


def _source_tensors(source: Source, kernel: tuple[int, ...]) -> dict[str, set[tuple[int, ...]]]:
    """The tensors of one module in a checkpoint, with the shapes they may have."""
    vector = {(kernel[-1],)}
    shapes = {f"{source.conv}.weight": source_shapes(kernel), f"{source.conv}.bias": vector}
    if source.norm is not None:
        shapes |= {f"{source.norm}.{name}": vector for name in _STATISTICS}
    return shapes


def _shortened(names: Iterable[str], *, most: int = 4) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
