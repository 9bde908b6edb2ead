"""The queue: every picture gets its own answer, in time or not at all, whatever else is asked."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, wait

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmark.answering.stream import Shown
from fieldmark.answering.things import Thing
from fieldmark.core.errors import ImageError
from fieldmark.evaluation.outputs import Outputs
from fieldmark.serving.batcher import Batcher
from fieldmark.serving.refusal import Refusal


def thing(number: int) -> Thing:
    return Thing("a picture", bytes([number]))


def see(one: Thing) -> Shown:
    assert isinstance(one.source, bytes)
    if one.source[0] == 255:
        raise ImageError("The image is damaged")
    return Shown(np.full((3, 2, 2), one.source[0], np.uint8))


def answer(images: NDArray[np.uint8]) -> Outputs:
    """Logits that say which picture it was."""
    values = images[:, 0, :1, 0].astype(np.float32)
    return Outputs(np.hstack([values, -values]), values, (values + 1,))


def number_of(outputs: Outputs) -> float:
    assert outputs.logits.shape == (1, 2)
    assert outputs.logits[0, 0] == -outputs.logits[0, 1] == outputs.embedding[0, 0] == outputs.attributes[0][0, 0] - 1
    return float(outputs.embedding[0, 0])


class Held:
    """An engine that waits until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        self.begun.set()
        assert self.go.wait(10)
        self.sizes.append(len(images))
        return answer(images)


class Clock:
    """Stands still unless it is put forward."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 254), min_size=1, max_size=40), st.integers(1, 9), st.booleans())
def test_each_picture_gets_its_own_answer(numbers: list[int], batch_size: int, in_turns: bool) -> None:
    sizes: list[int] = []
    batcher = Batcher(see, answer, batch_size=batch_size, in_turns=in_turns, heard=sizes.append)
    answers = [batcher.submit(thing(number)) for number in numbers]
    assert [number_of(one.result(10)) for one in answers] == numbers
    batcher.close()
    assert sum(sizes) == len(numbers)
    assert max(sizes) <= batch_size
    assert batcher.waiting == 0


def test_what_waits_is_answered_together() -> None:
    engine = Held()
    batcher = Batcher(see, engine, batch_size=4, decoders=1)
    first = batcher.submit(thing(0))
    assert engine.begun.wait(10)
    others = [batcher.submit(thing(number)) for number in range(1, 7)]
    time.sleep(0.05)
    engine.go.set()
    wait([first, *others], 10)
    batcher.close()
    assert engine.sizes[0] == 1
    assert max(engine.sizes) == 4


def test_nothing_is_decoded_while_the_network_has_its_turn() -> None:
    engine, seen = Held(), list[int]()

    def noted(one: Thing) -> Shown:
        assert isinstance(one.source, bytes)
        seen.append(one.source[0])
        return see(one)

    batcher = Batcher(noted, engine, in_turns=True)
    first = batcher.submit(thing(0))
    assert engine.begun.wait(10)
    others = [batcher.submit(thing(number)) for number in range(1, 7)]
    time.sleep(0.05)
    assert seen == [0]
    engine.go.set()
    assert [number_of(one.result(10)) for one in [first, *others]] == list(range(7))
    batcher.close()
    assert engine.sizes[0] == 1
    assert sorted(seen) == list(range(7))


def test_a_full_queue_refuses_at_once() -> None:
    engine = Held()
    batcher = Batcher(see, engine, most_waiting=3)
    answers = [batcher.submit(thing(number)) for number in range(3)]
    for ask in (lambda: batcher.submit(thing(3)), batcher.check_room):
        with pytest.raises(Refusal, match="Too many pictures") as refused:
            ask()
        assert refused.value.status == 429
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1
    engine.go.set()
    assert [number_of(one.result(10)) for one in answers] == [0, 1, 2]
    assert number_of(batcher.submit(thing(3)).result(10)) == 3
    batcher.close()


def test_pictures_whose_time_is_over_are_not_computed() -> None:
    engine = Held()
    batcher = Batcher(see, engine, seconds=0.05, decoders=1)
    first = batcher.submit(thing(0))
    assert engine.begun.wait(10)
    late = batcher.submit(thing(1))
    time.sleep(0.1)
    engine.go.set()
    assert number_of(first.result(10)) == 0  # it was begun in time
    with pytest.raises(Refusal, match="no time left") as refused:
        late.result(10)
    assert refused.value.status == 503
    batcher.close()
    assert engine.sizes == [1]


def test_a_queue_that_would_take_too_long_is_full() -> None:
    def slow(images: NDArray[np.uint8]) -> Outputs:
        time.sleep(0.02 * len(images))
        return answer(images)

    batcher = Batcher(see, slow, seconds=0.4, most_waiting=1000, batch_size=2)
    accepted: list[Future[Outputs]] = []
    refused = 0
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        try:
            accepted.append(batcher.submit(thing(len(accepted) % 250)))
        except Refusal:
            refused += 1
        time.sleep(0.004)  # five times what it can do
    wait(accepted, 10)
    batcher.close()
    in_time = [one for one in accepted if one.exception() is None]
    assert refused > 100
    assert len(in_time) >= 0.8 * len(accepted)  # the first ones come before anything is known about the speed


@given(st.integers(0, 48), st.integers(0, 20), st.integers(1, 20), st.integers(1, 16))
def test_pictures_of_one_request_are_accepted_if_all_have_time(slow: int, before: int, num: int, most: int) -> None:
    """Otherwise they are refused: for ever, or for now if there would be time with nobody before them."""
    each = slow / 16
    batcher = Batcher(see, answer, seconds=10, most_waiting=most, each=each)

    def fits(num_pictures: int) -> bool:
        return num_pictures <= most and (num_pictures - 1) * each <= 5

    assert fits(batcher.most_at_once)
    assert not fits(batcher.most_at_once + 1)
    batcher._waiting = before
    if fits(before + num):
        batcher.check_room(num)
    else:
        with pytest.raises(Refusal) as refused:
            batcher.check_room(num)
        assert refused.value.status == (429 if fits(num) else 413)
        assert fits(num) or refused.value.hint == f"Send at most {batcher.most_at_once}."
    batcher._waiting = 0
    batcher.close()


def test_a_pause_between_visitors_is_not_the_time_of_a_picture() -> None:
    clock = Clock()
    batcher = Batcher(see, answer, seconds=10, clock=clock)
    for number in range(3):
        assert number_of(batcher.submit(thing(number)).result(10)) == number
        clock.now += 60
    assert batcher.most_at_once == batcher.most_waiting
    batcher.close()


def test_a_damaged_picture_fails_alone() -> None:
    batcher = Batcher(see, answer)
    answers = [batcher.submit(thing(number)) for number in (1, 255, 2)]
    with pytest.raises(ImageError, match="damaged"):
        answers[1].result(10)
    assert [number_of(answers[at].result(10)) for at in (0, 2)] == [1, 2]
    batcher.close()


def test_a_picture_that_breaks_the_network_fails_alone() -> None:
    def fragile(images: NDArray[np.uint8]) -> Outputs:
        if (images == 13).any():
            raise ArithmeticError("not a number")
        return answer(images)

    batcher = Batcher(see, fragile, in_turns=True)
    answers = [batcher.submit(thing(number)) for number in (12, 13, 14)]
    with pytest.raises(ArithmeticError):
        answers[1].result(10)
    assert [number_of(answers[at].result(10)) for at in (0, 2)] == [12, 14]
    batcher.close()


def test_whoever_has_gone_is_passed_over() -> None:
    engine = Held()
    batcher = Batcher(see, engine, decoders=1, batch_size=1)
    first = batcher.submit(thing(0))
    assert engine.begun.wait(10)
    gate = threading.Event()
    batcher._decoders.submit(gate.wait, 10)
    gone = batcher.submit(thing(1))
    assert gone.cancel()
    gate.set()
    engine.go.set()
    assert number_of(first.result(10)) == 0
    batcher.close()
    assert engine.sizes == [1]


def test_closing_answers_what_was_accepted() -> None:
    batcher = Batcher(see, answer, in_turns=True)
    answers = [batcher.submit(thing(number)) for number in range(20)]
    batcher.close()
    assert [number_of(one.result(0)) for one in answers] == list(range(20))
    with pytest.raises(Refusal, match="stopping") as refused:
        batcher.submit(thing(0))
    assert refused.value.status == 503
