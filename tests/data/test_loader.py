"""The loader: every order and every view is a pure function of seed, epoch, step and sample."""

from __future__ import annotations

import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmark.augment.image import View
from fieldmark.core.errors import ImageError
from fieldmark.core.seeds import Stream, derive_seed
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import Decoded
from fieldmark.data.loader import Sampled, Samples, Schedule, _one_ahead, training_batches

ROWS = np.array([3, 5, 8, 9, 11, 14, 15, 20, 21, 22, 25])  # of a catalogue of 30
FLOATS = NDArray[np.float32]


def seeded_view(pixels: NDArray[np.uint8], seed: int, box: FLOATS | None, keypoints: FLOATS | None) -> View:
    """The row's brightness and a random number in each picture."""
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    image[0] = int(rng.integers(256))
    return View(
        image,
        None if box is None else torch.from_numpy(box),
        None if keypoints is None else torch.from_numpy(keypoints),
    )


def catalog(count: int = 30, **more: Any) -> Catalog:
    return Catalog(
        name="numbers",
        root=Path("/"),
        paths=tuple(f"{i}.png" for i in range(count)),
        labels=np.arange(count) % 4,
        classes=("a", "b", "c", "d"),
        splits=np.full(count, "train"),
        groups=np.full(count, ""),
        **more,
    )


def numbered(count: int = 30, size: tuple[int, int] = (4, 4)) -> list[Decoded]:
    return [Decoded(np.full((4, 4, 3), i, np.uint8), size) for i in range(count)]


@pytest.fixture
def samples() -> Samples:
    return Samples(catalog(), numbered(), seeded_view, seed=7)


SCHEDULE = Schedule(ROWS, batch_size=4, epochs=3, seed=7)


def assert_same(a: list[Sampled], b: list[Sampled]) -> None:
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        for x, y in zip(left, right, strict=True):
            assert (x is None and y is None) or torch.equal(x, y)


@given(
    st.lists(st.integers(0, 10**6), min_size=2, max_size=60, unique=True),
    st.integers(2, 10),
    st.integers(1, 4),
    st.integers(0, 2**32),
)
def test_an_epoch_never_repeats_a_row(rows: list[int], batch_size: int, epochs: int, seed: int) -> None:
    schedule = Schedule(np.array(rows), batch_size, epochs, seed)
    assert schedule.num_steps == epochs * schedule.steps_per_epoch
    assert schedule.steps_per_epoch == max(1, len(rows) // batch_size)
    for epoch in range(epochs):
        first = epoch * schedule.steps_per_epoch
        batches = [schedule.batch(step) for step in range(first, first + schedule.steps_per_epoch)]
        assert {e for batch in batches for e, _ in batch} == {epoch}
        drawn = [row for batch in batches for _, row in batch]
        assert len(set(drawn)) == len(drawn)
        assert set(drawn) <= set(rows)
        assert {len(batch) for batch in batches} == {min(batch_size, len(rows))}  # full ones only
        assert len(drawn) > len(rows) - batch_size


@given(st.integers(0, 100), st.integers(0, 100))
def test_the_order_is_a_function_of_seed_and_epoch(seed: int, step: int) -> None:
    one, other = (Schedule(np.arange(64), 8, 20, seed) for _ in range(2))
    other.batch(0)
    assert one.batch(step) == other.batch(step)
    assert one.batch(step) != Schedule(np.arange(64), 8, 20, seed + 1).batch(step)
    assert one.batch(step) != [(epoch - 1, row) for epoch, row in one.batch(step + 8)]


@given(st.integers(1, 5), st.integers(0, 100), st.booleans())
def test_views_come_in_turn(views: int, seed: int, balanced: bool) -> None:
    labels = np.arange(12) // 9 if balanced else None  # the smaller class comes three times an epoch
    schedule = Schedule(np.arange(12), 4, 7, seed, labels=labels, views=views)
    for epoch in range(7):
        keys = [key for batch in islice(schedule.batches(epoch * 3), 3) for key in batch]
        assert {view for view, _ in keys} <= set(range(views))
        firsts = {row: view for view, row in reversed(keys)}
        assert set(firsts.values()) == {epoch % views}
        assert len(set(keys)) == len(keys) or views < 3


def test_every_row_gets_its_turn() -> None:
    """Each epoch leaves out others."""
    schedule = Schedule(ROWS, batch_size=4, epochs=12, seed=0)
    seen = {row for step in range(schedule.num_steps) for _, row in schedule.batch(step)}
    assert seen == set(ROWS)


def test_what_a_batch_holds(samples: Samples) -> None:
    batches = list(training_batches(samples, SCHEDULE))
    assert len(batches) == 3 * 2
    for step, batch in enumerate(batches):
        keys = SCHEDULE.batch(step)
        assert batch.images.shape == (4, 3, 4, 4)
        assert batch.images.dtype == torch.uint8
        assert batch.labels.dtype == batch.rows.dtype == torch.int64
        assert batch.rows.tolist() == [row for _, row in keys]
        assert batch.labels.tolist() == [row % 4 for _, row in keys]
        assert batch.images[:, 1, 0, 0].tolist() == batch.rows.tolist()  # the pixels are the row's
        drawn = [
            int(np.random.default_rng(derive_seed(Stream.SAMPLE, 7, epoch, row)).integers(256)) for epoch, row in keys
        ]
        assert batch.images[:, 0, 0, 0].tolist() == drawn  # the view is drawn from (seed, epoch, row)
        assert batch.boxes is None
        assert batch.keypoints is None


@pytest.mark.parametrize("first_step", [0, 1, 2, 5, 6])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_tail_of_the_sequence(samples: Samples, first_step: int, workers: int) -> None:
    whole = list(training_batches(samples, SCHEDULE))
    tail = list(training_batches(samples, SCHEDULE, first_step=first_step, workers=workers))
    assert_same(tail, whole[first_step:])


def test_workers_leave_the_global_generators_alone(samples: Samples) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    for workers in (0, 2):
        torch.manual_seed(3)
        list(islice(training_batches(samples, SCHEDULE, workers=workers), 2))
        assert torch.equal(torch.rand(1), expected)


def test_boxes_and_key_points_are_scaled_with_the_pixels() -> None:
    """Pictures of 8 × 8 that were decoded at 4 × 4."""
    nan = np.nan
    boxes = np.tile(np.array([2, 4, 6, 2], np.float32), (30, 1))
    boxes[5] = nan
    points = np.tile(np.array([[1, 6, 1], [nan, nan, 0]], np.float32), (30, 1, 1))
    marked = catalog(boxes=boxes, keypoint_names=("beak", "tail"), keypoints=points)
    samples = Samples(marked, numbered(size=(8, 8)), seeded_view, seed=0)
    for workers in (0, 2):
        for batch in training_batches(samples, SCHEDULE, workers=workers):
            assert batch.boxes is not None
            assert batch.keypoints is not None
            for row, box, keypoints in zip(batch.rows, batch.boxes, batch.keypoints, strict=True):
                np.testing.assert_array_equal(box, [nan] * 4 if row == 5 else [1, 2, 3, 1])
                np.testing.assert_array_equal(keypoints, [[0.5, 3, 1], [nan, nan, 0]])
    assert boxes[3].tolist() == [2, 4, 6, 2]  # the catalogue is left as it was
    assert points[3, 0].tolist() == [1, 6, 1]


class Slow:
    """Pixels that say when they were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __getitem__(self, row: int) -> Decoded:
        if row == SCHEDULE.batch(2)[0][1] and len(self.asked) >= 8:
            raise ImageError("gone", "Put it back.")
        self.asked.append(row)
        return numbered()[row]


def asked_after(pixels: Slow, number: int) -> bool:
    """Whether so many pixels are asked for before long."""
    for _ in range(400):
        if len(pixels.asked) >= number:
            return True
        time.sleep(0.005)
    return False


def test_the_next_batch_is_prepared_meanwhile_and_none_beyond() -> None:
    pixels = Slow()
    batches = training_batches(Samples(catalog(), pixels, seeded_view, seed=7), SCHEDULE)
    next(batches)
    assert asked_after(pixels, 8)
    assert pixels.asked == [row for step in (0, 1) for _, row in SCHEDULE.batch(step)]


def test_an_error_comes_in_the_place_of_its_step_and_no_thread_stays() -> None:
    before = threading.active_count()
    batches = training_batches(Samples(catalog(), Slow(), seeded_view, seed=7), SCHEDULE)
    assert len(list(islice(batches, 2))) == 2
    with pytest.raises(ImageError, match="gone"):
        next(batches)
    assert threading.active_count() == before


class Gone:
    """Pixels without those of one row."""

    def __init__(self, row: int) -> None:
        self.row = row

    def __getitem__(self, row: int) -> Decoded:
        if row == self.row:
            raise ImageError("It is gone", "Put it back.")
        return numbered()[row]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_the_same_with_and_without_workers(workers: int) -> None:
    steps = [{row for _, row in SCHEDULE.batch(step)} for step in range(SCHEDULE.num_steps)]
    row = min(steps[1] - steps[0])
    batches = training_batches(Samples(catalog(), Gone(row), seeded_view, seed=7), SCHEDULE, workers=workers)
    assert set(next(batches).rows.tolist()) == steps[0]
    with pytest.raises(ImageError) as caught:
        next(batches)
    assert (caught.value.problem, caught.value.hint) == ("It is gone", "Put it back.")


def test_a_sequence_that_is_left_leaves_no_thread(samples: Samples) -> None:
    before = threading.active_count()
    batches = training_batches(samples, SCHEDULE)
    next(batches)
    assert threading.active_count() == before + 1
    del batches
    assert threading.active_count() == before


def test_a_batch_that_finds_no_memory_beside_a_step_is_prepared_again() -> None:
    tried = list[int]()

    def prepare(keys: Any) -> Any:
        tried.append(keys)
        if keys == 1 and tried.count(1) == 1:
            raise MemoryError
        return keys

    assert list(_one_ahead(prepare, [0, 1, 2])) == [0, 1, 2]  # type: ignore[list-item]  # any keys will do
