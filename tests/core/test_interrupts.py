"""Ctrl-C: the first is a request, the second an order."""

from __future__ import annotations

import signal

import pytest

from fieldmark.core.interrupts import HEARD, hear_interrupts, interrupt_flag


def test_the_first_interrupt_is_a_request_and_the_second_an_order() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with interrupt_flag(said.append) as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        assert said == ["Stopping after this step. Press Ctrl-C again to stop at once."]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("told", [True, False])
def test_a_process_in_the_background_hears_them_if_it_is_told_to(monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    monkeypatch.setenv(HEARD, "1" if told else "")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts it
    try:
        hear_interrupts()
        assert signal.getsignal(signal.SIGINT) is (signal.default_int_handler if told else signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGINT, before)
