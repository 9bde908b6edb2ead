"""Ctrl-C: the first is a request, the second an order."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

import pytest

from fieldmark.core.interrupts import interrupt_flag, interrupts_heard


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


@pytest.mark.parametrize("own", [signal.SIG_IGN, signal.default_int_handler])
def test_a_child_hears_what_its_parent_ignores(own: Any) -> None:
    before = signal.signal(signal.SIGINT, own)
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    try:
        with interrupts_heard():
            child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.stdout == "True\n"
