"""The process of its own in which a comparison trains: requests to stop, interrupts, and why it ended."""

from __future__ import annotations

import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fieldmark.comparison.child import run_child, why_it_ended


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A shell script in place of the training."""

    def install(script: str) -> None:
        file = tmp_path / "stand-in"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(file))

    return install


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def _started(request: pytest.FixtureRequest) -> Iterator[None]:
    """A process hears Ctrl-C, or ignores it, as a shell lets those in the background do."""
    before = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, before)


WAITS = "trap 'echo stopped; exit 130' INT; echo begun; while :; do sleep 0.05; done"


@pytest.mark.usefixtures("_started")
def test_a_request_to_stop_is_passed_on_once(stand_in: Callable[[str], None], tmp_path: Path) -> None:
    stand_in(WAITS)
    log = tmp_path / "log.txt"
    status = run_child(["train"], log=log, stop_asked=lambda: "begun" in log.read_text())
    assert status == 130
    assert log.read_text() == "begun\nstopped\n"


@pytest.mark.usefixtures("_started")
def test_an_interrupt_that_nobody_waits_for_ends_the_training_too(
    stand_in: Callable[[str], None], tmp_path: Path
) -> None:
    stand_in(WAITS)
    log = tmp_path / "log.txt"

    def look() -> None:
        if "begun" in log.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_child(["train"], log=log, look=look)
    assert log.read_text() == "begun\nstopped\n"


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        (2, "Read\nfieldmark: No. Do so.\n", "No. Do so."),
        (1, "Traceback\nKeyError: 3\n", "KeyError: 3 (see {log})"),
        (3, "", "exit status 3 (see {log})"),
        (-9, "epoch 1", "it was ended by SIGKILL, possibly because memory ran out (see {log})"),
    ],
)
def test_why_it_ended(tmp_path: Path, status: int, said: str, reason: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text(said)
    assert why_it_ended(status, log) == reason.format(log=log)
