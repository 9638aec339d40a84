"""Training: the order of pictures, the best of all looks, and going on where it was interrupted."""

from contextlib import contextmanager
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsode.errors import ArgumentError, CheckpointError, NumericalError
from jaxsode.peers.protocol import no_bar
from jaxsode.peers.training import Training, train

USUAL = Training(steps=23, every=5, patience=100, batch_size=2, learning_rate=0.05, weight_decay=0.1, seed=3)


def loss(params, fixed, pictures):
    x = pictures.astype(jnp.float32).reshape(pictures.shape[0], -1)
    return jnp.mean((x @ params["w"] - fixed) ** 2)


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    pictures = rng.random((7, 2, 2, 1)).astype(np.float32)
    start = {"w": jnp.asarray(rng.standard_normal(4), jnp.float32)}
    return loss, start, jnp.float32(0.7), pictures[:5], pictures[5:]


def trained(problem, training=USUAL, **options):
    return train(*problem, training, **{"what": "network", "bar": no_bar} | options)


def test_every_picture_once_in_each_round():
    batches = [USUAL.batch(step, 7) for step in range(14)]
    order = np.concatenate(batches)
    assert {len(batch) for batch in batches} == {2}
    rounds = order.reshape(4, 7)
    assert (np.sort(rounds, axis=1) == np.arange(7)).all()
    assert len({tuple(r) for r in rounds}) > 1
    assert sorted(np.concatenate([replace(USUAL, batch_size=5).batch(0, 2), [1]]).tolist()) in (
        [0, 0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1, 1],
    )


def test_steps_by_definition(problem):
    """Adam with the decay in the gradient, in float64; the best parameters are those of the least loss."""
    _, start, goal, pictures, held_out = problem
    w = np.asarray(start["w"], np.float64)
    first, second = np.zeros(4), np.zeros(4)
    x, y = (p.reshape(len(p), 4).astype(np.float64) for p in (pictures, held_out))
    best, curve, losses = None, [], []
    for step in range(1, 24):
        some = x[USUAL.batch(step - 1, 5)]
        losses.append(np.mean((some @ w - goal) ** 2))
        gradient = 2 * some.T @ (some @ w - goal) / 2 + 0.1 * w
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        w = w - 0.05 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        if step % 5 == 0 or step == 23:
            curve.append((step, np.mean(losses), np.mean((y @ w - goal) ** 2)))
            losses = []
            if curve[-1][2] == min(c[2] for c in curve):
                best = w
    got = trained(problem)
    np.testing.assert_allclose(got.curve, curve, rtol=1e-4)
    np.testing.assert_allclose(got.params["w"], best, rtol=1e-4)
    assert not got.stopped


def test_stops_when_held_out_pictures_get_no_better(problem):
    function, start, goal, pictures, held_out = problem
    opposed = (function, start, goal, pictures, -held_out)  # what helps with the ones harms with the others
    got = trained(opposed, replace(USUAL, steps=500, patience=3))
    least = int(np.argmin([c[2] for c in got.curve]))
    assert got.stopped
    assert got.curve[-1][0] < 500
    assert len(got.curve) == least + 4


class Interrupted(Exception):
    pass


def bar_that_breaks(at):
    @contextmanager
    def bar(what, total):
        count = 0

        def done(n):
            nonlocal count
            count += n
            if count >= at:
                raise Interrupted

        yield done

    return bar


@pytest.mark.parametrize("at", [3, 5, 12, 22])
def test_resumed_is_as_if_it_had_never_stopped(problem, tmp_path, at):
    expected = trained(problem)
    with pytest.raises(Interrupted):
        trained(problem, folder=tmp_path, bar=bar_that_breaks(at))
    counted = []

    @contextmanager
    def bar(what, total):
        assert (what, total) == ("network", 23)
        yield counted.append

    got = trained(problem, folder=tmp_path, bar=bar)
    assert counted[0] == (at - 1) // 5 * 5
    assert sum(counted) == 23
    assert got.curve == expected.curve
    np.testing.assert_array_equal(got.params["w"], expected.params["w"])
    again = trained(problem, folder=tmp_path, bar=bar_that_breaks(24))  # it is done: no step is taken
    assert again.curve == expected.curve
    np.testing.assert_array_equal(again.params["w"], expected.params["w"])


def test_goes_on_for_longer_when_asked(problem, tmp_path):
    expected = trained(problem, replace(USUAL, steps=30))
    trained(problem, replace(USUAL, steps=20), folder=tmp_path)
    got = trained(problem, replace(USUAL, steps=30), folder=tmp_path)
    assert got.curve == expected.curve
    np.testing.assert_array_equal(got.params["w"], expected.params["w"])


def test_checkpoints_of_another_training_are_refused(problem, tmp_path):
    trained(problem, folder=tmp_path)
    function, start, goal, pictures, held_out = problem
    others = [
        (problem, replace(USUAL, learning_rate=0.01)),
        ((function, start, goal, pictures + np.float32(0.1), held_out), USUAL),
        ((function, start, goal + np.float32(0.1), pictures, held_out), USUAL),
    ]
    for other, training in others:
        with pytest.raises(ArgumentError, match=r"network has checkpoints of another training") as caught:
            trained(other, training, folder=tmp_path)
        assert "\n" not in str(caught.value)


def test_what_can_go_wrong(problem, tmp_path):
    pictures = problem[3]
    pictures[3] = np.nan
    with pytest.raises(NumericalError, match=r"^the loss of the network is nan at step \d: check"):
        trained(problem)
    pictures[3] = 0
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"can't be made for checkpoints: name another folder"):
        trained(problem, folder=tmp_path / "file")
    trained(problem, folder=tmp_path)
    for path in (tmp_path / "network").rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"checkpoints in .*network can't be read") as caught:
        trained(problem, folder=tmp_path)
    assert "\n" not in str(caught.value)
