"""A batch in chunks and streams is the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec as P

from jaxsode.kernels import streams
from jaxsode.kernels.streams import few_at_once, in_streams


@settings(deadline=None, max_examples=15)
@given(B=st.integers(0, 200), chunk=st.integers(1, 40), share=st.floats(0, 1))
def test_every_row_is_computed_once_or_alike(B, chunk, share):
    batch = jnp.arange(2.0 * B).reshape(B, 2)
    least = 1 + int(share * (chunk - 1))
    result = in_streams(lambda rows: rows * 2 + 1, batch, chunk=chunk, least=least)
    np.testing.assert_array_equal(result, batch * 2 + 1)


@pytest.mark.parametrize("cores", [None, 1, 3, 64])
def test_any_number_of_cores(monkeypatch, cores):
    monkeypatch.setattr(streams.os, "cpu_count", lambda: cores)
    batch = jnp.arange(101.0)[:, None]
    np.testing.assert_array_equal(in_streams(jnp.square, batch, chunk=7), batch**2)


@pytest.mark.parametrize("B", [1, 39, 40, 64, 79, 80, 333, 1000])
def test_chunks_are_of_the_size_asked_for(B):
    seen = []

    def function(rows):
        seen.append(rows.shape[0])
        return rows

    jax.jit(lambda batch: in_streams(function, batch, chunk=48, least=40))(jnp.zeros((B, 1)))
    assert min(seen) >= min(B, 40)
    assert max(seen) < 80


def test_on_each_device_of_a_mesh():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("locations",))
    whole = jax.jit(
        jax.shard_map(
            lambda batch: in_streams(jnp.square, batch, chunk=3),
            mesh=mesh,
            in_specs=P("locations"),
            out_specs=P("locations"),
        )
    )
    batch = jnp.arange(400.0)[:, None]
    np.testing.assert_array_equal(whole(batch), batch**2)


@pytest.mark.parametrize("N", [1, 2, 3, 4, 7])
def test_a_few_at_once_give_what_all_at_once_give(N):
    def function(x):
        return {"sums": x.sum(1), "twice": 2 * x.astype(jnp.float32)}

    x = jnp.asarray(np.random.default_rng(N).integers(0, 9, (N, 5)))
    got = jax.jit(lambda x: few_at_once(function, x))(x)
    np.testing.assert_array_equal(got["sums"], x.sum(1))
    np.testing.assert_array_equal(got["twice"], 2.0 * np.asarray(x))
    assert got["twice"].dtype == jnp.float32
    slope = jax.grad(lambda x: few_at_once(lambda x: x**2, x).sum())(x.astype(jnp.float32))
    np.testing.assert_array_equal(slope, 2.0 * np.asarray(x))
    in_turn = str(jax.make_jaxpr(lambda x: few_at_once(jnp.sin, x))(x.astype(jnp.float32)))
    assert in_turn.count("while[") + in_turn.count("scan[") == (N > 2)
