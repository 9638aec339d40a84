"""A batch on the cores of a CPU: in chunks that stay in the cache, several streams of them side by side.

XLA runs a batched product or a loop of small steps on one core, but independent ones at the same time.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxsode._typing import Array, Float, Shaped
from jaxsode.kernels.switch import choose

FEW = 2
"""Pictures at once. Measured with ResNet-18, 704 × 256 and batches of 8 on two cores: one by one they take
58 ms a picture, two 54, all 67; a sixth of all page faults."""
MOST_STREAMS = 4
"""Each stream is compiled by itself, so more of them cost more to compile."""


def in_streams(
    function: Callable[[Array], Array], batch: Float[Array, "B ..."], *, chunk: int, least: int = 1
) -> Float[Array, "B ..."]:
    """`function(batch)`, computed chunk by chunk on several cores.

    Args:
        function: of (C, …) for any C, to the same shape; each row of the result depends on its own row alone.
        batch: (B, …).
        chunk: about so many rows at once in each stream, ≥ 1.
        least: fewer rows at once are not worth it, ≥ 1 and at most `chunk`. Only a smaller batch has fewer.

    Returns:
        (B, …).
    """
    B = batch.shape[0]
    streams = max(1, min(os.cpu_count() or 1, MOST_STREAMS, B // least))
    rounds = min(-(-B // (chunk * streams)), B // (least * streams))
    if rounds <= 1:
        sizes = [(B + i) // streams for i in range(streams)]
        return jnp.concatenate([function(rows) for rows in _split(batch, sizes)])
    rows = -(-B // (rounds * streams))

    def one_round(i: Array, result: Array) -> Array:
        # A start too near the end is moved back by the slice and the update alike: what overlaps is computed
        # twice, to the same values.
        starts = [(i * streams + s) * rows for s in range(streams)]
        parts = [function(jax.lax.dynamic_slice_in_dim(batch, start, rows)) for start in starts]
        for start, part in zip(starts, parts, strict=True):
            result = jax.lax.dynamic_update_slice_in_dim(result, part, start, axis=0)
        return result

    return jax.lax.fori_loop(0, rounds, one_round, jnp.zeros_like(batch))


def _split(batch: Float[Array, "B ..."], sizes: list[int]) -> list[Array]:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [batch[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def few_at_once(function: Callable[[Array], Any], batch: Shaped[Array, "N ..."]) -> Any:
    """`function(batch)`, on a CPU a few pictures after the other: what is between its steps is small then.

    XLA takes memory for a program's intermediate values anew at each call, and the system clears it page by
    page; of a whole batch they also exceed the caches.

    Args:
        function: of (M, …) for any M, to arrays of (M, …); each row of a result depends on its own row alone.
        batch: (N, …), on one device.

    Returns:
        What the function returns, (N, …).
    """

    def in_turn(batch: Array) -> Any:
        N = batch.shape[0]
        if not isinstance(N, int) or N <= FEW:  # the symbolic batch of an exported program
            return function(batch)

        def some(i: Array, results: Any) -> Any:
            # The last start is moved back where N doesn't divide: what overlaps is computed twice.
            start = jnp.minimum(FEW * i, N - FEW)
            made = function(jax.lax.dynamic_slice_in_dim(batch, start, FEW))
            put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
            return jax.tree.map(put, results, made)

        shapes = jax.eval_shape(function, batch[:FEW])
        blank = jax.tree.map(lambda one: jnp.zeros((N, *one.shape[1:]), one.dtype), shapes)
        return jax.lax.fori_loop(0, -(-N // FEW), some, blank)

    return choose(batch, plain=function, cpu=in_turn)
