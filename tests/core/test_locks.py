"""A lock is held by one at a time, in this process or another, and released however its holder ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fieldmark.core.locks import lock

HOLD = """
import sys, time
from pathlib import Path
from fieldmark.core.locks import lock
with lock(Path(sys.argv[1])) as held:
    print(held, flush=True)
    time.sleep(60)
"""


def held_elsewhere(path: Path) -> subprocess.Popen[str]:
    """A process that holds the lock, until it is killed."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "True"
    return child


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with lock(path) as held, lock(path, wait=False) as again:
        assert (held, again) == (True, False)
    with lock(path, wait=False) as held:
        assert held


def test_it_is_released_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with pytest.raises(KeyError), lock(path):
        raise KeyError
    with lock(path, wait=False) as held:
        assert held


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    child = held_elsewhere(path)
    try:
        with lock(path, wait=False) as held:
            assert not held
    finally:
        child.kill()
        child.communicate()
    with lock(path, wait=False) as held:
        assert held


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    child = held_elsewhere(path)
    killing = threading.Timer(0.3, child.kill)
    killing.start()
    start = time.monotonic()
    with lock(path) as held:
        assert held
        assert time.monotonic() - start >= 0.25
    killing.join()
    child.communicate()


def test_a_lock_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), lock(tmp_path / "file" / ".lock"):
        pass
