"""A judge → StableHLO by `jax.export`, its arrays in an npz beside it, for JAX without jaxsode."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsode import kernels
from jaxsode.errors import ArgumentError
from jaxsode.judging import Judge

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write(path: Path, judge: Judge, *, platforms: Sequence[str] = ("cpu", "cuda")) -> None:
    """Write the function, and its arrays into a file of the same name with the suffix .npz.

    What is written takes (arrays, pictures): the npz's arrays as a list in their order, and pictures
    (N, height, width, 3) uint8 with any N ≥ 1. It gives a dict of what `Judgement` has and isn't None. The
    arrays are arguments and no constants, so that a device holds them once.

    Args:
        path: of the function.
        judge: see `Judge`.
        platforms: that it is lowered for, of PLATFORMS.

    Raises:
        ArgumentError: a platform that is none of these.
        OSError: it can't be written.
    """
    if unknown := [name for name in platforms if name not in PLATFORMS]:
        raise ArgumentError(f"the platform {unknown[0]!r} is unknown: choose of {', '.join(PLATFORMS)}")
    leaves, structure = jax.tree.flatten(judge)

    def judged(arrays: list[jax.Array], pictures: jax.Array) -> dict[str, jax.Array]:
        found = jax.tree.unflatten(structure, arrays)(pictures)
        return {name: value for name, value in found._asdict().items() if value is not None}

    (N,) = jax.export.symbolic_shape("batch")
    pictures = jax.ShapeDtypeStruct((N, *judge.size, 3), np.uint8)
    arguments = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    with kernels.plain():
        exported = jax.export.export(jax.jit(judged), platforms=tuple(platforms))(arguments, pictures)
    path.write_bytes(exported.serialize())
    places = [place for place, _ in jax.tree_util.tree_leaves_with_path(judge)]
    names = [jax.tree_util.keystr(place).lstrip(".") for place in places]
    kept: dict[str, Any] = {name: np.asarray(leaf) for name, leaf in zip(names, leaves, strict=True)}
    with open(path.with_suffix(".npz"), "wb") as file:
        np.savez(file, **kept)
