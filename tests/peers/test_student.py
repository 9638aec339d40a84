"""The uninformed student: losses and score by their definition, what is held out, and what it finds."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_network import Tiny

from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.fitting import extract
from jaxsode.peers import PEERS, Model, Student
from jaxsode.peers.distillation import normalised, parts_of, standard, student_loss, teacher_loss
from jaxsode.peers.patch_network import dense, describe, init

FEW = {"width": 1 / 16, "students": 2, "steps": 120, "every": 40, "batch_size": 2}


def stripes(rng, count):
    """Pictures of a wave of random phase, 32 × 48."""
    x = np.linspace(0, 9, 48) + rng.uniform(0, 6, (count, 1, 1))
    grey = 0.5 + 0.4 * np.sin(x) + rng.normal(0, 0.02, (count, 32, 48))
    return (255 * np.clip(grey, 0, 1)).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def pictures():
    return stripes(np.random.default_rng(0), 24)


@pytest.fixture(scope="module")
def model(pictures):
    return Student(**FEW).fit([pictures[:8], pictures[8:16], pictures[16:20]], Tiny())


def test_what_was_not_seen_scores_higher(model, pictures):
    assert isinstance(model, Model)
    tested = pictures[20:]
    defective = tested.copy()
    defective[:, 12:18, 20:26] = np.random.default_rng(1).integers(0, 256, (4, 6, 6, 1))
    good, bad = (np.asarray(model.anomaly_map(p)) for p in (tested, defective))
    assert good.shape == (4, 32, 48)
    assert good.dtype == np.float32
    # Both parts are 0 on the average of held-out pictures.
    assert abs(good.mean()) < 3
    assert (bad[:, 12:18, 20:26].mean(axis=(1, 2)) > good.max(axis=(1, 2))).all()


def test_page(model):
    page = json.loads(json.dumps(model.page()))
    assert page.pop("stopped_early") == {"teacher": False, "student 1": False, "student 2": False}
    curves = page.pop("curves")
    assert {name: [look[0] for look in curve] for name, curve in curves.items()} == {
        name: [40, 80, 120] for name in ("teacher", "student 1", "student 2")
    }
    assert all(curve[-1][2] < curve[0][2] for curve in curves.values())
    assert page == {
        "method": "student",
        **FEW,
        "patience": 10,
        "sigma": 0.0,
        "seed": 0,
        "pictures": 20,
        "held_out": 2,
        "distilled_on": "the good pictures",
        "grid": [8, 12],
        "receptive_field": 32,
    }


def test_students_differ(model):
    first, second = (np.asarray(student.params[0]["kernel"]) for student in model.students)
    assert not np.isclose(first, second).any()


def test_usual_is_that_of_held_out_pictures(model, pictures):
    students = tuple(student.params for student in model.students)
    parts = np.asarray(
        parts_of(model.teacher.params["network"], students, model.mean, model.scale, pictures[[0, 10]]),
        np.float64,
    )
    np.testing.assert_allclose(model.usual, parts.mean(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(model.spread, parts.std(axis=(1, 2, 3)), rtol=1e-4)
    score = normalised(jnp.asarray(parts, jnp.float32), model.usual, model.spread)
    np.testing.assert_allclose(np.mean(score), 0, atol=1e-4)


@pytest.fixture(scope="module")
def some():
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    return rng, pictures, *(init(rng, width=1 / 32) for _ in range(4))


def test_score_by_definition(some):
    rng, pictures, teacher, *students = some
    mean, scale = (jnp.asarray(rng.random(4), jnp.float32) for _ in range(2))
    usual, spread = (jnp.asarray(rng.random(2) + 0.1, jnp.float32) for _ in range(2))
    t, *s = (np.asarray(describe(network, pictures), np.float64) for network in (teacher, *students))
    y = (t - np.asarray(mean)) * np.asarray(scale)
    error = ((np.mean(s, axis=0) - y) ** 2).sum(axis=-1)
    variance = np.mean([(x**2).sum(axis=-1) for x in s], axis=0) - (np.mean(s, axis=0) ** 2).sum(axis=-1)
    parts = parts_of(teacher, tuple(students), mean, scale, pictures)
    np.testing.assert_allclose(parts, [error, variance], rtol=1e-4)
    expected = (error - float(usual[0])) / float(spread[0]) + (variance - float(usual[1])) / float(spread[1])
    np.testing.assert_allclose(normalised(parts, usual, spread), expected, rtol=1e-4)
    loss = student_loss(students[0], (teacher, mean, scale), pictures)
    np.testing.assert_allclose(loss, ((s[0] - y) ** 2).sum(axis=-1).mean(), rtol=1e-5)


def test_teacher_loss_by_definition(some):
    rng, pictures, network, *_ = some
    params = {"network": network, "decode": dense(rng, (4, 5))}
    mean, scale = (jnp.asarray(rng.random(5), jnp.float32) for _ in range(2))
    found = np.asarray(describe(network, pictures), np.float64)
    layer = np.asarray(extract(Tiny(), pictures)[-1], np.float64).repeat(2, axis=1).repeat(2, axis=2)
    decoded = found @ np.asarray(params["decode"]["kernel"], np.float64)
    distilled = ((decoded - (layer - np.asarray(mean)) * np.asarray(scale)) ** 2).mean()
    r = np.corrcoef(found.reshape(-1, 4).T)
    compact = (r**2).sum() - 4
    loss = teacher_loss(params, (Tiny(), mean, scale), pictures)
    np.testing.assert_allclose(loss, distilled + compact / 12, rtol=1e-4)
    with jax.enable_x64(True):
        again = teacher_loss(params, (Tiny(), mean, scale), pictures)
    assert again.dtype == np.float32
    np.testing.assert_allclose(again, loss, rtol=1e-5)


def test_standard_by_definition(pictures):
    network = init(np.random.default_rng(3), width=1 / 32)
    network[-1]["kernel"] = network[-1]["kernel"].at[..., 2].set(0)  # one channel is always the same
    network[-1]["bias"] = jnp.asarray([1e3, 0, 5, 0], jnp.float32)
    mean, scale = standard(network, pictures[:5])
    x = np.asarray(describe(network, pictures[:5]), np.float64).reshape(-1, 4)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(scale, np.where([1, 1, 0, 1], 1 / x.std(axis=0).clip(1e-9), 0), rtol=1e-3)


def test_other_pictures_to_distil_on_and_checkpoints(pictures, tmp_path):
    """The teacher learns from others; interrupted and resumed, all is as it would have been."""
    others = np.random.default_rng(4).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    settings = FEW | {"steps": 4, "every": 2}
    fitted = [
        Student(**settings, distill_on=[others], checkpoints=folder).fit([pictures[:12]], Tiny())
        for folder in (tmp_path, tmp_path, None)
    ]
    assert fitted[0].page()["distilled_on"] == "5 others"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student-1", "student-2", "teacher"]
    maps = [np.asarray(model.anomaly_map(pictures[12:14])) for model in fitted]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_nan_around_a_pixel_that_is_not_finite(model, pictures):
    x = pictures[20:21].astype(np.float32) / 255
    x[0, 5, 5] = np.inf
    found = np.isnan(np.asarray(model.anomaly_map(x))[0])
    assert found[:20, :20].all()


def test_what_can_go_wrong(model, pictures):
    with pytest.raises(DataError, match=r"^one picture to fit on, and training holds one out: give at least"):
        Student(**FEW).fit([pictures[:1]], Tiny())
    with pytest.raises(DataError, match="no pictures to fit on"):
        Student(**FEW).fit([], Tiny())
    with pytest.raises(DataError, match="no pictures to distil on"):
        Student(**FEW, distill_on=[]).fit([pictures], Tiny())
    with pytest.raises(ArgumentError, match=r"^pictures are 16 × 48 and the model .* on 32 × 48: resize"):
        model.anomaly_map(pictures[:, :16])
    broken = pictures[:4].astype(np.float32) / 255
    broken[2, 5, 5] = np.nan
    with pytest.raises(NumericalError, match=r"^features of the pictures to train on are not finite"):
        Student(**FEW).fit([broken], Tiny())


@pytest.mark.parametrize(
    "wrong",
    [
        {"students": 1},
        {"steps": 0},
        {"every": 1.5},
        {"patience": 0},
        {"batch_size": True},
        {"seed": -1},
        {"width": -1.0},
        {"width": "1"},
        {"width": 0.0},
        {"sigma": float("inf")},
    ],
)
def test_settings_are_checked(wrong):
    (name,) = wrong
    with pytest.raises(ArgumentError, match=rf"^{name} = .*give "):
        Student(**wrong)


def test_registry():
    assert PEERS["student"] is Student
