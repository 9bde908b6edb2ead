"""Ctrl-C: the first is a request, the second an order. SIGTERM is always a request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from fieldmark.core.interrupts import interrupt_flag, interrupts_heard, termination_interrupts


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


def test_a_termination_is_a_request_however_often() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with interrupt_flag(said.append) as asked:
        signal.raise_signal(signal.SIGTERM)
        assert asked()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)  # a comparison that was ended, too, passes its request on
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_termination_ends_a_command_as_an_interrupt_does() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with termination_interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a worker that is forked inherits what its parent hears")
def test_a_termination_ends_a_forked_worker_without_a_word() -> None:
    code = """
import os, signal, time
from fieldmark.core.interrupts import termination_interrupts
with termination_interrupts():
    worker = os.fork()
    if not worker:
        time.sleep(60)
    time.sleep(0.2)
    os.kill(worker, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("-15\n", "")
