"""Events: who hears them, how they are spoken, and warnings that become them."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fieldmark.core.errors import DataWarning, PluginWarning
from fieldmark.core.listener import (
    Advanced,
    DataRead,
    Done,
    EpochEnded,
    Event,
    Listener,
    Listeners,
    Note,
    PlainLog,
    StepTaken,
    Warned,
    kept_warnings,
    relayed_warnings,
)
from support.hearing import Heard

EVENTS = [
    Note("a line"),
    Warned("something"),
    DataRead("birds", 3, 2, {"train": 3}, "3 images"),
    Advanced("Training", 1, 2),
    StepTaken("model", 1, 2, 0.5, 90.0),
    EpochEnded("model", 1, 1, 2, {"loss": 0.5}),
    Done("train"),
]


def test_what_work_says_is_an_event() -> None:
    heard = Heard()
    heard.note("a line")
    heard.warn("something")
    with heard.progress("Training") as tick:
        tick(1, 2)
        tick(2, 2, note="fast")
    assert heard.events == [Note("a line"), Warned("something"), Advanced("Training", 1, 2),
                            Advanced("Training", 2, 2, "fast")]  # fmt: skip


def test_the_plain_listener_is_silent_but_for_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for event in EVENTS:
            Listener().hear(event)
    assert [(warning.category, str(warning.message)) for warning in caught] == [(DataWarning, "something")]
    assert capsys.readouterr() == ("", "")


def test_several_listeners_hear_the_same() -> None:
    one, other = Heard(), Heard()
    both = Listeners(one, other)
    for event in EVENTS:
        both.hear(event)
    assert one.events == other.events == EVENTS


def test_the_first_that_wants_to_stop_is_heard() -> None:
    class Stopping(Listener):
        wants = False
        open = False

        @contextmanager
        def stoppable(self) -> Iterator[Callable[[], bool]]:
            self.open = True
            yield lambda: self.wants
            self.open = False

    one, other = Stopping(), Stopping()
    with Listeners(Listener(), one, other).stoppable() as asked:
        assert one.open
        assert other.open
        assert not asked()
        other.wants = True
        assert asked()
    assert not one.open
    assert not other.open


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_values(event: Event) -> None:
    """They may be kept: nothing changes them afterwards."""
    with pytest.raises(AttributeError):
        event.text = "another"  # type: ignore[attr-defined]  # which is what is tested


# A plain log ----------------------------------------------------------------------------------------------------------


def test_a_log_tells_how_far_a_stage_is_at_least_every_thirty_seconds() -> None:
    file, now = io.StringIO(), [0.0]
    log = PlainLog(file, clock=lambda: now[0])
    with log.progress("Decoding images") as tick:
        for second in range(1, 101):
            now[0] = float(second)
            tick(10 * second, 1200, note="10 images/s")
    assert file.getvalue().splitlines() == [
        "Decoding images: 300 of 1,200, 10 images/s",
        "Decoding images: 600 of 1,200, 10 images/s",
        "Decoding images: 900 of 1,200, 10 images/s",
    ]


def test_a_log_that_has_just_spoken_keeps_silent() -> None:
    file, now = io.StringIO(), [0.0]
    log = PlainLog(file, clock=lambda: now[0])
    now[0] = 29.0
    log.note("epoch 1/8")
    now[0] = 58.0
    log.hear(Advanced("Training", 1, 8))
    now[0] = 59.0
    log.hear(Advanced("Training", 2, 8))
    assert file.getvalue().splitlines() == ["epoch 1/8", "Training: 1 of 8"]


@pytest.mark.parametrize("pace", [1, 7, 14, 20, 29, 30])
def test_no_pace_keeps_a_log_silent_for_longer_than_promised(pace: int) -> None:
    file, now = io.StringIO(), [0.0]
    log = PlainLog(file, clock=lambda: now[0])
    spoke = [0.0]
    for step in range(1, 40):
        now[0] = float(pace * step)
        before = file.getvalue()
        log.hear(Advanced("Answering", step, 40))
        if file.getvalue() != before:
            spoke.append(now[0])
    assert max(later - earlier for earlier, later in itertools.pairwise(spoke)) <= 30
    assert len(spoke) <= 1 + 40 * pace / 15  # and it does not chatter


def test_what_a_log_says_of_each_event() -> None:
    file = io.StringIO()
    log = PlainLog(file)
    for event in EVENTS:
        log.hear(event)
    assert file.getvalue() == "a line\nwarning: something.\nRead 3 images\n"


# Warnings -------------------------------------------------------------------------------------------------------------


def test_warnings_of_fieldmark_are_relayed_and_others_are_not() -> None:
    heard = Heard()

    def work() -> None:
        with relayed_warnings(heard):
            warnings.warn("one", DataWarning, stacklevel=1)
            warnings.warn("one", DataWarning, stacklevel=1)  # said twice, heard twice
            warnings.warn("not ours", RuntimeWarning, stacklevel=1)
            warnings.warn("two", PluginWarning, stacklevel=1)

    with pytest.warns(RuntimeWarning, match="not ours"):
        work()
    assert heard.warnings == ["one", "one", "two"]


def test_warnings_are_relayed_before_an_error() -> None:
    heard = Heard()

    def work() -> None:
        with relayed_warnings(heard):
            warnings.warn("it will be no good", DataWarning, stacklevel=1)
            raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        work()
    assert heard.warnings == ["it will be no good"]


def test_kept_warnings() -> None:
    with kept_warnings() as kept:
        warnings.warn("one", DataWarning, stacklevel=1)
    assert kept == ["one"]
