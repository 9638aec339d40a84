"""What the device can do at best: bytes through memory, and products of large matrices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bench.harness import Contender, race


def measure(*, quick: bool = False) -> dict[str, float]:
    """Rates of the default device, each the median of several.

    Args:
        quick: small arrays; the rates are then those of the caches.

    Returns:
        `bandwidth_gb_s`, bytes read and written by x + 1 on an array far larger than the caches (a CPU that
        reads a line before it writes it moves half as much again); `matmul_gflop_s`, a square float32 product
        at highest precision; on an accelerator also at the default precision and in bfloat16.
    """
    accelerator = jax.default_backend() != "cpu"
    numbers = 1 << (20 if quick else 28 if accelerator else 26)
    side = 256 if quick else 8192 if accelerator else 2048
    x = jnp.ones(numbers, jnp.float32)
    a = jax.random.normal(jax.random.key(0), (side, side), jnp.float32)
    contenders = [
        _contender("bandwidth_gb_s", jax.jit(lambda x: x + 1), x),
        _contender("matmul_gflop_s", _product(jax.lax.Precision.HIGHEST), a),
    ]
    if accelerator:
        contenders += [
            _contender("matmul_default_gflop_s", _product(None), a),
            _contender("matmul_bfloat16_gflop_s", _product(None), a.astype(jnp.bfloat16)),
        ]
    timings = race(contenders, least_s=0.02)
    work = {"bandwidth_gb_s": 2 * x.nbytes}
    return {name: work.get(name, 2 * side**3) / t.median / 1e9 for name, t in timings.items()}


def _contender(name: str, function: Callable[[jax.Array], Any], x: jax.Array) -> Contender:
    return Contender(name, lambda: function(x))


def _product(precision: jax.lax.Precision | None) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda a: jnp.matmul(a, a, precision=precision))
