"""What teacher and students learn, and how their difference becomes a score (Bergmann et al. 2020).

The teacher's descriptors T, decoded linearly, are to give a feature map f, standardised a channel, and their
numbers are to be uncorrelated; its loss is

    |D(T) − f|² / C  +  Σ_{i≠j} r_ij² / (d (d − 1)),

r being the correlations of the d numbers over a batch's locations. (The paper distils a network's output for
one crop at a time, on ImageNet; here a layer's whole map is learnt at once, each location with the nearest of
its coarser grid.) A student's loss is |S − y|², y = (T − μ) / σ, standardised a number. The score adds error
and variance of the ensemble, each standardised by its mean and deviation on held-out good pictures:

    e = |mean_i S_i − y|²,    v = mean_i |S_i − mean_i S_i|²,    score = (e − e_μ) / e_σ + (v − v_μ) / v_σ.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode.algebra.pyramid import align
from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import NumericalError
from jaxsode.fitting import extract_
from jaxsode.peers.patch_network import describe


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Deepest:
    """The deepest feature map of a backbone, as `standard` takes a network."""

    backbone: Backbone


@jax.jit
def _outputs(network: Any, pictures: jax.Array) -> jax.Array:
    """(N, h, w, C) descriptors, or the backbone's features."""
    if isinstance(network, Deepest):
        return extract_(network.backbone, pictures)[-1]
    return describe(network, pictures)


def standard(network: Any, pictures: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """What a network's outputs are standardised by, over all locations of pictures.

    Args:
        network: layers of `patch_network`, or `Deepest`.
        pictures: (N, height, width, 3 or 1), taken one by one.

    Returns:
        (mean, 1 / deviation) of each channel, (C,); of one that is constant 0, so that it counts nothing.

    Raises:
        NumericalError: an output is not finite.
    """
    count, mean, squares = 0, np.float64(0), np.float64(0)
    for picture in pictures:
        x = np.asarray(_outputs(network, picture[None]), np.float64)
        n = x.size // x.shape[-1]
        of_one = x.mean(axis=(0, 1, 2))
        apart = of_one - mean
        # Chan, Golub and LeVeque (1983): exact in any order, and no digits cancel.
        squares = squares + x.var(axis=(0, 1, 2)) * n + apart**2 * (count * n / (count + n))
        mean = mean + apart * (n / (count + n))
        count += n
    deviation = np.sqrt(squares / count)
    if not np.isfinite(deviation).all():
        raise NumericalError(
            "features of the pictures to train on are not finite: check pictures and weights"
        )
    constant = deviation <= 1e-6 * deviation.max()
    scale = np.where(constant, 0, 1 / np.where(constant, 1, deviation))
    return jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32)


def _row(vector: jax.Array) -> jax.Array:
    return vector.reshape(1, 1, 1, -1)


def teacher_loss(params: Any, fixed: Any, pictures: jax.Array) -> jax.Array:
    """Of network and decoder, (), on pictures (N, height, width, 3); fixed are the backbone, and mean and
    scale of its map. See above."""
    backbone, mean, scale = fixed
    found = describe(params["network"], pictures)
    target = (extract_(backbone, pictures)[-1] - _row(mean)) * _row(scale)
    decoded = found @ params["decode"]["kernel"] + _row(params["decode"]["bias"])
    return jnp.mean((decoded - align(target, (found.shape[1], found.shape[2]))) ** 2) + _compactness(found)


def _compactness(descriptors: jax.Array) -> jax.Array:
    """Mean squared correlation of two different numbers of the descriptors (N, H, W, d)."""
    x = descriptors.reshape(-1, descriptors.shape[-1])
    d = x.shape[1]
    if d == 1:
        return jnp.zeros((), x.dtype)
    x = x - jnp.mean(x, axis=0, keepdims=True)
    # What hardly varies at first must not divide by 0.
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=0, keepdims=True) + 1e-6)
    r = x.T @ x / x.shape[0]
    return jnp.sum((r * (1 - jnp.eye(d, dtype=x.dtype))) ** 2) / (d * (d - 1))


def student_loss(params: Any, fixed: Any, pictures: jax.Array) -> jax.Array:
    """Of a student, (), on pictures (N, height, width, 3); fixed are the teacher's network, and mean and
    scale of its descriptors. See above."""
    teacher, mean, scale = fixed
    target = (describe(teacher, pictures) - _row(mean)) * _row(scale)
    return jnp.mean(jnp.sum((describe(params, pictures) - target) ** 2, axis=3))


@jax.jit
def parts_of(
    teacher: Any, students: tuple[Any, ...], mean: jax.Array, scale: jax.Array, pictures: jax.Array
) -> jax.Array:
    """e and v of each location, (2, N, H, W)."""
    target = (describe(teacher, pictures) - _row(mean)) * _row(scale)
    found = [describe(student, pictures) for student in students]
    together = sum(found[1:], start=found[0]) / len(found)
    error = jnp.sum((together - target) ** 2, axis=3)
    variance = sum((jnp.sum((s - together) ** 2, axis=3) for s in found), start=jnp.zeros_like(error))
    return jnp.stack([error, variance / len(found)])


@jax.jit
def normalised(parts: jax.Array, usual: jax.Array, spread: jax.Array) -> jax.Array:
    """The score of each location, (N, H, W): of parts (2, N, H, W), their means (2,) and deviations (2,)."""
    usual, spread = (x.reshape(2, 1, 1, 1) for x in (usual, spread))
    return jnp.sum((parts - usual) / spread, axis=0)
