"""However a detector lies on its devices, the file has all of it, in blocks that a small memory can read."""

import gc
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import Tiny, pictures

from jaxsode import Detector, Method, blocks, detector, fitting, kernels, layout, statistics, trees
from jaxsode.algebra.packing import shapes_of
from jaxsode.algebra.precision import Triangle
from jaxsode.blocks import fit_and_score, score, state_bytes
from jaxsode.fitting import extract
from jaxsode.meshes import over_rows
from jaxsode.saving import Saved
from jaxsode.statistics import Packed, unpack

TEST = pictures(2, seed=1)
ROW = 4 * 6 * (1 + 2 * 6 + 7 * 3)  # bytes of a row of 6 locations: count, origin and offset, half a scatter


def _mesh(name, devices=8):
    return jax.sharding.Mesh(np.array(jax.devices()[:devices]), (name,))


def _live(before=0):
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays()) - before


def _same_maps(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(("limit", "files"), [(3 * ROW, 3), (8 * ROW, 1), (8 * ROW - 1, 2), (1, 8)])
def test_a_file_is_cut_into_blocks(limit, files, tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "BLOCK", limit)
    whole = Detector.fit([pictures(12)], Tiny.make(), Method(k=6))
    whole.save(tmp_path / "detector")
    found = sorted(path.name for path in (tmp_path / "detector").glob("rows-*"))
    assert len(found) == files
    assert (found[0][-6:] == found[-1][5:11]) or files != 2  # 4 and 4 rather than 7 and 1
    loaded = Detector.load(tmp_path / "detector", backbone=Tiny.make())
    for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_so_is_what_each_device_has_and_what_is_fitted_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "BLOCK", 3 * ROW)
    sharded = Detector.fit([pictures(12)], Tiny.make(), Method(k=6), mesh=_mesh("locations", 2))
    sharded.save(tmp_path / "sharded")

    def train():
        yield extract(Tiny.make(), pictures(12)), 12

    list(
        fit_and_score(
            train, None, Tiny.make(), Method(k=6), size=(32, 24), rows=5, path=tmp_path / "in blocks"
        )
    )
    for name, starts in (("sharded", [0, 2, 4, 6]), ("in blocks", [0, 3, 5])):
        found = sorted(path.name for path in (tmp_path / name).glob("rows-*"))
        assert [int(file[5:11]) for file in found] == starts
        loaded = Detector.load(tmp_path / name, backbone=Tiny.make())
        _same_maps(loaded.anomaly_map(TEST), sharded.anomaly_map(TEST))


@pytest.mark.parametrize("precision", ["dual", "eigenvectors-lower"])
def test_pictures_that_are_dealt_out_are_all_saved(precision, tmp_path):
    """A mesh of pictures alone has each device keep its own pictures' features, of all rows."""
    k = 5 if precision.startswith("eigen") else None
    method = Method(embedding="identity", precision=precision, k=k)
    dealt = Detector.fit([pictures(8)], Tiny.make(), method, mesh=_mesh("pictures", 4))
    assert dealt.statistics.z.addressable_shards[0].data.shape[2] == 2
    dealt.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector", backbone=Tiny.make())
    assert loaded.statistics.z.shape[2] == 8
    _same_maps(loaded.anomaly_map(TEST), dealt.anomaly_map(TEST))


def test_arrays_that_lie_unlike_each_other_are_all_saved(tmp_path):
    alone = Detector.fit([pictures(8)], Tiny.make(), Method(k=6), keep_moments=False)
    rows = over_rows(_mesh("locations"))
    sharded = Triangle.of(jax.device_put(alone.whitener, rows))
    mixed = replace(alone, precision=sharded)
    mixed.save(tmp_path / "detector")
    loaded = Detector.load(tmp_path / "detector", backbone=Tiny.make())
    np.testing.assert_array_equal(loaded.anomaly_map(TEST), alone.anomaly_map(TEST))


def test_a_pooled_scatter_as_large_as_the_grid_is_everywhere(tmp_path):
    """k = H = W: what is dealt out goes by what it is, not by its shape."""
    train = pictures(8, size=(32, 32))
    for precision in ("global", "global-one-mean"):
        method = Method(k=8, precision=precision)
        fitted = Detector.fit([train], Tiny.make(), method, mesh=_mesh("locations"))
        assert fitted.statistics.scatter.sharding.is_fully_replicated
        assert fitted.mean.sharding.is_fully_replicated == (precision == "global-one-mean")
        fitted.save(tmp_path / precision)
        loaded = Detector.load(tmp_path / precision, backbone=Tiny.make(), mesh=_mesh("locations"))
        _same_maps(loaded.anomaly_map(train[:2]), fitted.anomaly_map(train[:2]))


def test_onto_a_mesh_as_jax_makes_them_and_one_without_locations(tmp_path):
    alone = Detector.fit([pictures(8)], Tiny.make(), Method(k=6))
    alone.save(tmp_path / "detector")
    explicit = jax.make_mesh((8,), ("locations",))
    for mesh, rows in ((explicit, 1), (_mesh("pictures", 4), 8)):
        loaded = Detector.load(tmp_path / "detector", backbone=Tiny.make(), mesh=mesh)
        assert {shard.data.shape[0] for shard in loaded.whitener.addressable_shards} == {rows}
        assert len(loaded.whitener.addressable_shards) == mesh.size
        _same_maps(loaded.anomaly_map(TEST), alone.anomaly_map(TEST))
        loaded.save(tmp_path / f"again {rows}")
    with jax.set_mesh(explicit):
        alone.save(tmp_path / "within")
    _same_maps(
        Detector.load(tmp_path / "within", backbone=Tiny.make()).anomaly_map(TEST), alone.anomaly_map(TEST)
    )


# What is in memory at once.


@pytest.fixture
def large():
    """More matrices than anything else: 16 × 12 locations, k = 24."""
    train = pictures(30, size=(64, 48))
    return Detector.fit([train], Tiny.make(), Method(k=24))


def test_loading_takes_the_moments_once_and_the_whitener(large, tmp_path, monkeypatch):
    large.save(tmp_path / "detector")
    before, peaks, whole = _live(), [], detector.precision_of

    def spied(state, *rest):
        peaks.append(_live(before))
        return whole(state, *rest)

    monkeypatch.setattr(detector, "precision_of", spied)
    for keep in (True, False):
        Detector.load(tmp_path / "detector", backbone=Tiny.make(), keep_moments=keep)
    unit = large.whitener.size
    assert max(peaks) <= 3 * unit  # half of each matrix of float32, and vectors


@pytest.mark.parametrize("k", [99, 200])
def test_nothing_as_large_as_the_state_is_made_beside_it(k):
    """By the compiler's own account; where many of k × k are unpacked or merged, sharded or not."""
    shapes = {"count": ((8, 12), jnp.int32), "origin": ((8, 12, k), jnp.float32)}
    shapes |= {"offset": shapes["origin"]}
    shapes |= {"scatter": ((8, 12, 2 * (k // 2) + 1, -(-k // 2)), jnp.float32)}
    for sharding, share in ((None, 1), (over_rows(_mesh("locations")), 8)):
        packed = Packed(**{n: jax.ShapeDtypeStruct(*s, sharding=sharding) for n, s in shapes.items()})
        unit = 8 * 12 * k * k // share
        panels = jax.device_put(Triangle.of(jnp.zeros((8, 12, k, k))), sharding).panels
        together = jax.ShapeDtypeStruct((3, 8, 12, k), jnp.float32)

        def left_out(panels, z, mean):
            return detector._left_out_together(z, mean, jnp.int32(30), Triangle(panels=panels), 0.0)

        for lowered in (
            unpack.lower(packed),
            statistics._unpack_lower.lower(packed.scatter),
            statistics._merged_packed.lower(packed, packed),
            jax.jit(lambda panels: statistics._pack_lower(Triangle(panels=panels))).lower(panels),
            jax.jit(lambda panels: statistics.matrices_of(Triangle(panels=panels))).lower(panels),
            jax.jit(left_out).lower(panels, together, packed.origin),
        ):
            used = lowered.compile().memory_analysis()
            assert used.output_size_in_bytes <= 4.2 * unit
            assert used.temp_size_in_bytes <= 1.2 * unit


def test_a_function_of_columns_is_traced_once():
    traced = []
    made = jax.jit(lambda x: statistics.by_columns(lambda some: (traced.append(some.shape), 2 * some)[1], x))
    np.testing.assert_array_equal(made(jnp.ones((3, 4, 5))), np.full((3, 4, 5), 2))
    assert traced == [(3, 1, 5)]


@pytest.mark.parametrize("packed", [True, False])
def test_a_row_of_many_locations_is_factorised_where_it_is(packed):
    k, grid = 33, (16, 300)
    shape = (2 * (k // 2) + 1, -(-k // 2)) if packed else (k, k)
    scatter, count = jax.ShapeDtypeStruct((*grid, *shape), jnp.float32), jax.ShapeDtypeStruct(grid, jnp.int32)
    settings = (0.01, None, None)
    with kernels.evaluated(True):
        lowered = fitting._factorise.lower(scatter, count, settings, None, packed)
    used = lowered.compile().memory_analysis()
    assert used.temp_size_in_bytes <= 4 * 300 * 4 * k * k  # of a row a few matrices, of sixteen


def test_in_blocks_nothing_of_the_block_before_is_held(large, tmp_path, monkeypatch):
    peaks = {"fit": [], "score": []}
    whole_fit, whole_rows = blocks.accumulate, Saved.rows

    def fitted(*arguments):
        peaks["fit"].append(_live())
        return whole_fit(*arguments)

    def read(*arguments):
        peaks["score"].append(_live())
        return whole_rows(*arguments)

    monkeypatch.setattr(blocks, "accumulate", fitted)
    monkeypatch.setattr(Saved, "rows", read)
    train = extract(Tiny.make(), pictures(30, size=(64, 48)))
    options = {"size": (64, 48), "rows": 4, "path": tmp_path / "detector", "keep": False}
    list(fit_and_score(lambda: [(train, 30)], None, Tiny.make(), Method(k=24), **options))
    memory = state_bytes((4, 12), Method(k=24), 24)
    options = {"memory": memory, "backbone": Tiny.make(), "keep": False}
    list(score(tmp_path / "detector", lambda: [(train, 30)], **options))
    for found in peaks.values():
        assert len(found) == 4
        assert max(found) - found[0] <= 4 * 12 * 24 * 24  # a quarter of a block's matrices


def test_a_block_of_a_file_at_a_time_is_read(large, tmp_path, monkeypatch):
    """By `score` with little memory, and by `load` of rows that lie in several blocks."""
    monkeypatch.setattr(layout, "BLOCK", 100_000)
    large.save(tmp_path / "detector")
    read, whole = [], trees.restore

    def spied(path, files):
        arrays = whole(path, files)
        if path.name != "whole":
            read.append(sum(array.nbytes for array in arrays.values()))
        return arrays

    monkeypatch.setattr(trees, "restore", spied)
    maps = extract(Tiny.make(), pictures(2, size=(64, 48)))
    memory = state_bytes((3, 12), Method(k=24), 24)
    ((found, _),) = score(tmp_path / "detector", lambda: [(maps, 2)], memory=memory, backbone=Tiny.make())
    _same_maps(found, large.anomaly_map(pictures(2, size=(64, 48))))
    assert max(read) <= 100_000
    saved = Saved.open(tmp_path / "detector", Tiny.make())
    part = saved.reader.rows(1, 2)["scatter"]
    assert part.base is None or part.base.nbytes == part.nbytes  # no view that keeps the block


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("k", [8, 20, 40, 100])
def test_what_a_fit_holds_is_not_more_than_is_said(k, keep):
    """Scatter and a group; scatter and panels, or its half; half and panels: what `fitting` has at once."""
    panels = sum(rows * width for rows, width in shapes_of(k))
    half = k * (k + 1) // 2
    phases = [k * k + 16 * k, *([k * k + half, half + panels] if keep else [k * k + panels])]
    assert max(phases) + 2 * k <= state_bytes((1, 1), Method(k=k), 448) / 4 <= 1.3 * max(phases) + 2 * k
