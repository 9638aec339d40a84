import io
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxsode.datasets import Dataset, Example, Split, batches
from jaxsode.errors import ArgumentError, DataError

COUNT, HEIGHT, WIDTH = 13, 6, 4


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


class Numbered:
    """Picture i is i everywhere, its mask 255 where i is odd. Counts what is read."""

    def __init__(self, damaged: int | None = None, unmasked: frozenset[int] = frozenset()):
        self.damaged = damaged
        self.unmasked = unmasked
        self.read: list[int] = []

    def __getitem__(self, index: int, /) -> dict[str, bytes]:
        self.read.append(index)
        picture = png(np.full((HEIGHT, WIDTH, 3), index, np.uint8))
        mask = png(np.full((HEIGHT, WIDTH), 255 * (index % 2), np.uint8))
        files = {"picture": picture[:45] if index == self.damaged else picture}
        return files if index in self.unmasked else files | {"mask": mask}


def example(index: int) -> Example:
    odd = index % 2 == 1
    return Example(f"picture{index}", "all", "odd" if odd else "good", part="", defective=odd)


def dataset(records: Numbered) -> Dataset:
    return Dataset(
        name="numbers",
        size=(HEIGHT, WIDTH),
        channels=3,
        paper_full_mask=False,
        examples=tuple(example(i) for i in range(COUNT)),
        splits={
            "every": Split("every", tuple(range(0, COUNT, 2)), tuple(range(COUNT))),
            "no test": Split("no test", (0,), ()),
            "no train": Split("no train", (), (0,)),
        },
        records=records,
        source="memory",
    )


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name.startswith("jaxsode")]


@settings(deadline=None, max_examples=40)
@given(
    indices=st.lists(st.integers(0, COUNT - 1), max_size=20),
    batch_size=st.integers(1, 8),
    workers=st.integers(1, 3),
    prefetch=st.integers(1, 3),
    with_masks=st.booleans(),
)
def test_every_picture_once_in_order_and_padded(
    indices: list[int], batch_size: int, workers: int, prefetch: int, with_masks: bool
):
    calls: list[tuple[int, int]] = []
    seen: list[int] = []
    for batch in batches(
        dataset(Numbered()),
        indices,
        batch_size=batch_size,
        workers=workers,
        prefetch=prefetch,
        with_masks=with_masks,
        progress=lambda done, total: calls.append((done, total)),
    ):
        assert calls == [(d, len(indices)) for d in range(batch_size, len(seen) + 1, batch_size)]
        assert batch.pictures.shape == (batch_size, HEIGHT, WIDTH, 3)
        assert batch.pictures.dtype == np.uint8
        assert 1 <= batch.valid <= batch_size
        assert len(batch.indices) == batch.valid
        expected = [*batch.indices, *[batch.indices[-1]] * (batch_size - batch.valid)]
        assert (batch.pictures == np.array(expected, np.uint8)[:, None, None, None]).all()
        if with_masks:
            assert batch.masks is not None
            assert batch.masked is not None
            assert batch.masked.tolist() == [True] * batch_size
            assert batch.masks.shape == (batch_size, HEIGHT, WIDTH)
            assert (batch.masks == np.array([255 * (i % 2) for i in expected], np.uint8)[:, None, None]).all()
        else:
            assert batch.masks is None
            assert batch.masked is None
        seen += batch.indices
    assert seen == indices
    assert calls == [
        (min(d, len(indices)), len(indices)) for d in range(batch_size, len(indices) + batch_size, batch_size)
    ]
    assert no_thread_is_left()


def test_another_size():
    (batch,) = batches(dataset(Numbered()), [3], batch_size=1, size=(9, 5), with_masks=True)
    assert batch.pictures.shape == (1, 9, 5, 3)
    assert batch.masks is not None
    assert batch.masks.shape == (1, 9, 5)


def test_a_mask_that_nobody_drew():
    numbers = dataset(Numbered(unmasked=frozenset({2, 3, 5})))
    assert numbers.mask(1) is not None
    assert numbers.mask(3) is None
    good = numbers.mask(2, size=(9, 5))
    assert good is not None
    assert (good.dtype, good.shape, good.any()) == (np.uint8, (9, 5), False)
    (batch,) = batches(numbers, [3, 2, 1, 5], batch_size=6, with_masks=True)
    assert batch.masks is not None
    assert batch.masked is not None
    assert batch.masks.dtype == np.uint8
    assert batch.masks.max(axis=(1, 2)).tolist() == [0, 0, 255, 0, 0, 0]
    assert batch.masked.tolist() == [False, True, True, False, False, False]
    (batch,) = batches(numbers, [3], batch_size=2, with_masks=True)
    assert batch.masks is not None
    assert batch.masks.shape == (2, HEIGHT, WIDTH)


def test_prefetch_is_bounded():
    records = Numbered()
    indices = [i % COUNT for i in range(300)]
    stream = batches(dataset(records), indices, batch_size=4, workers=3, prefetch=2)
    for taken in range(1, 30):
        next(stream)
        assert len(records.read) <= (taken + 2) * 4
    stream.close()


def test_nothing_is_read_before_it_is_asked_for():
    records = Numbered()
    batches(dataset(records), range(COUNT), batch_size=4)
    assert records.read == []


def test_a_damaged_picture_reaches_the_caller():
    stream = batches(dataset(Numbered(damaged=7)), range(COUNT), batch_size=4, workers=3)
    assert next(stream).indices == (0, 1, 2, 3)
    with pytest.raises(DataError, match=r"^numbers: picture picture7 is cut short or damaged: "):
        next(stream)
    assert no_thread_is_left()


def test_closing_early_stops_the_workers():
    records = Numbered()
    stream = batches(dataset(records), [0] * 1000, batch_size=2, workers=2, prefetch=3)
    next(stream)
    stream.close()
    assert no_thread_is_left()
    assert len(records.read) <= 8


def test_an_error_in_the_callers_loop_stops_the_workers():
    def loop() -> None:
        for _ in batches(dataset(Numbered()), [0] * 1000, batch_size=2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert no_thread_is_left()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0: it must be at least 1"),
        ({"batch_size": 1, "workers": 0}, "workers is 0: it must be at least 1"),
        ({"batch_size": 1, "prefetch": -1}, "prefetch is -1: it must be at least 1"),
        ({"batch_size": 1, "size": (0, 4)}, "size is 0 × 4: height and width must be at least 1"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str):
    with pytest.raises(ArgumentError) as caught:
        batches(dataset(Numbered()), [0], **settings)
    assert str(caught.value) == message


@pytest.mark.parametrize("index", [-1, COUNT])
def test_an_index_that_is_not_the_data_sets(index: int):
    with pytest.raises(ArgumentError, match=f"numbers has no picture {index}: indices go from 0 to 12"):
        batches(dataset(Numbered()), [0, index], batch_size=1)


def test_splits():
    numbers = dataset(Numbered())
    assert numbers.split("every") == numbers.splits["every"]
    with pytest.raises(DataError, match=r"^numbers: no test has no pictures to test on in memory: complete"):
        numbers.split("no test")
    with pytest.raises(DataError, match=r"^numbers: no train has no good pictures to train on in memory: "):
        numbers.split("no train")
    with pytest.raises(ArgumentError, match=r"^numbers has no split '4': choose one of every, no test, "):
        numbers.split("4")
