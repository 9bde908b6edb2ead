"""Steps are counted anew at each step, so that a training ends with its budget on a machine of any speed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.learning.budget import budget as module
from fieldmark.learning.budget.budget import Budget, Meter
from fieldmark.learning.budget.pace import Pace
from fieldmark.learning.training.optimizer import rate


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def walk(pace: Pace, clock: Clock, cost: Callable[[int], float], first: int = 0) -> list[tuple[int, int]]:
    """(step, number of steps as it looked then) until it is time to stop."""
    step, told = first, []
    while (number := pace(step)) > step:
        told.append((step, number))
        clock.now += cost(step)
        step += 1
    return told


def paced(clock: Clock, amount: float, **changes: float) -> Pace:
    settings = {"step": 1.0, "batch": 32, "reserve": 10.0} | changes
    return Pace(Meter(Budget(amount, began=clock.now)), **settings)  # type: ignore[arg-type]  # numbers by name


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


speeds = st.lists(st.floats(0.5, 2), min_size=1, max_size=50)


@given(believed=st.floats(0.1, 10), speed=speeds, amount=st.floats(50, 500))
def test_it_neither_overruns_nor_stops_early(believed: float, speed: list[float], amount: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(module, "time", clock)
        walk(paced(clock, amount, step=believed), clock, lambda step: speed[step % len(speed)])
        left = 1000 + amount - clock.now
    slowest = max(believed, max(speed))
    assert left >= 10 - slowest, "a step that is slower than those before may eat into the reserve, no more"
    assert left <= 2 * 10 + 2 * slowest


def test_the_rate_falls_to_zero_whatever_the_machine_does(clock: Clock) -> None:
    told = walk(paced(clock, 310), clock, lambda step: 1.0 if step < 100 else 2.0)
    assert 190 <= len(told) <= 200, "it was 300 before the machine slowed down"
    shares = [rate(step, num_steps=number, warmup=0.1, schedule="cosine") for step, number in told]
    assert max(shares) > 0.99
    assert shares[-1] < 0.01
    peak = shares.index(max(shares))
    assert all(later <= earlier + 0.05 for earlier, later in zip(shares[peak:], shares[peak + 1 :], strict=False))


def test_who_is_promoted_goes_on_where_it_paused(clock: Clock) -> None:
    meter = Meter(Budget(300, began=clock.now))
    tried = walk(Pace(meter, step=1.0, batch=32, reserve=10, pause=40), clock, lambda step: 1.0)
    assert [step for step, _ in tried] == list(range(40))
    assert tried[-1][1] > 280, "its rate is that of a training that goes on"
    clock.now += 40  # another one's turn
    rest = walk(Pace(meter, step=1.0, batch=32, reserve=10), clock, lambda step: 1.0, first=40)
    assert rest[0][0] == 40
    assert rest[-1][0] == 249


def test_a_budget_in_images_is_exact() -> None:
    meter = Meter(Budget(1000, "images"))
    pace = Pace(meter, step=32, batch=32, reserve=100)
    step = 0
    while pace(step) > step:
        step += 1
    assert step == 28
    assert meter.spent == 28 * 32


def test_more_than_it_is_worth_is_not_taken(clock: Clock) -> None:
    assert len(walk(paced(clock, 10_000, most=50), clock, lambda step: 1.0)) == 50
