"""The one loop from things to outputs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmark.answering.stream import Shown, batches, stream
from fieldmark.core.errors import ImageError
from fieldmark.data.decode import _told_of_damage


def see(number: int) -> Shown:
    """A view that shows a number; odd ones cannot be read."""
    if number % 2:
        raise ImageError(f"{number} is odd")
    return Shown(np.full((3, 2, 2), number % 256, np.uint8), (number, number))


@given(st.lists(st.integers(0, 255)), st.integers(1, 9), st.sampled_from([0, 1, 3]))
def test_every_thing_is_answered_or_skipped_in_order(numbers: list[int], size: int, threads: int) -> None:
    seen: list[tuple[int, ...]] = []

    def engine(images: NDArray[np.uint8]) -> list[int]:
        seen.append(images.shape)
        return images[:, 0, 0, 0].tolist()

    found = list(stream(numbers, see, engine, batch_size=size, threads=threads))
    assert [number for one in found for number in one.things] == numbers
    assert [number for one in found for number in one.output or []] == [n for n in numbers if n % 2 == 0]
    assert [one.readable for one in found] == [one.output or [] for one in found]
    assert [str(error) for one in found for _, error in one.skipped] == [f"{n} is odd" for n in numbers if n % 2]
    assert all(len(one.things) == size for one in found[:-1])
    assert all(shape[0] > 0 for shape in seen)
    assert [shown.size for one in found for shown in one.shown] == [(n, n) for n in numbers if n % 2 == 0]


def test_batches_of_views() -> None:
    assert [len(batch) for batch in batches([0, 2, 4, 6, 8], see, batch_size=2)] == [2, 2, 1]
    assert np.concatenate(list(batches([0, 2, 4], see, batch_size=2)))[:, 0, 0, 0].tolist() == [0, 2, 4]
    assert list(batches([], see)) == []
    with pytest.raises(ImageError, match="3 is odd"):
        list(batches([2, 3], see))


@pytest.mark.parametrize("threads", [0, 2])
def test_what_the_iterator_raises_comes_after_what_it_gave(threads: int) -> None:
    def numbers() -> Iterator[int]:
        yield from (0, 2, 4)
        raise KeyError("gone")

    answered = stream(numbers(), see, lambda images: images[:, 0, 0, 0].tolist(), batch_size=2, threads=threads)
    assert [next(answered).output, next(answered).output] == [[0, 2], [4]]
    with pytest.raises(KeyError, match="gone"):
        next(answered)


def test_the_next_batch_is_decoded_while_the_network_computes() -> None:
    """And no further ones: memory does not grow with the number of things."""
    seen = threading.Semaphore(0)
    taken: list[int] = []

    def slow(number: int) -> Shown:
        seen.release()
        return see(number)

    def engine(images: NDArray[np.uint8]) -> int:
        for _ in range(4):
            assert seen.acquire(timeout=10), "the next ones are not decoded"
        return len(taken)

    things = (taken.append(n) or n for n in range(0, 24, 2))
    answered = stream(things, slow, engine, batch_size=2, threads=1)
    assert next(answered).output == 4
    answered.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_a_single_picture_waits_for_no_other(threads: int) -> None:
    taken: list[int] = []
    things = (taken.append(n) or n for n in (0, 1, 4))
    for number, answered in enumerate(stream(things, see, len, batch_size=1, threads=threads)):
        assert answered.things == taken[-1:]
        assert len(taken) == number + 1


def test_what_goes_wrong_in_a_thread_is_raised() -> None:
    def broken(number: int) -> Shown:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(stream([1], broken, len, threads=2))


def test_what_finds_no_memory_beside_the_engine_is_seen_again() -> None:
    """Once it rests. A picture that lacks memory even then is skipped, and not called damaged for certain."""
    tried = list[int]()

    def see(thing: int) -> Shown:
        tried.append(thing)
        if thing == 5 or (thing in (1, 3) and tried.count(thing) == 1):
            if thing == 3:
                raise MemoryError
            with _told_of_damage(f"picture {thing}"):
                raise MemoryError
        return Shown(np.full((3, 2, 2), thing, np.uint8))

    found = list(stream(range(6), see, lambda images: images[:, 0, 0, 0].tolist(), batch_size=2, threads=1))
    assert [one.output for one in found] == [[0, 1], [2, 3], [4]]
    assert "memory does not suffice, or it is damaged" in str(found[-1].errors[1])
