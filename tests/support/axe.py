"""Whether a page can be used by people who do not see it: the rules of axe-core, asked in the browser.

It comes by npm. Without npm, or where npm reaches nothing, tests that use the fixture `barriers` are skipped.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from support.browser import Browser

__all__ = ["Barriers"]

_PACKAGE = "axe-core-4.10.3.tgz"
_SHA256 = "0f2b4d7dcdf7d1219df8d1959ad68e565f51d14c3f0d88bb71cd59abeb956292"

Barriers = Callable[[Browser], list[Any]]
"""What is serious or critical on the page that a browser shows: rule, and the beginnings of what breaks it."""

_ASKED = """
axe.run().then((found) => found.violations.filter((one) => ['serious', 'critical'].includes(one.impact))
  .map((one) => [one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))]))
"""


@pytest.fixture(scope="session")
def barriers(tmp_path_factory: pytest.TempPathFactory) -> Barriers:
    """Asks axe-core about the page that a browser shows."""
    script = _script(tmp_path_factory.mktemp("axe"))

    def found(browser: Browser) -> list[Any]:
        browser.run(f"{script}; true")
        seen: list[Any] = browser.run(_ASKED)
        return seen

    return found


def _script(folder: Path) -> str:
    if (npm := shutil.which("npm")) is None:
        pytest.skip("there is no npm on this machine, which brings axe-core")
    version = _PACKAGE.removesuffix(".tgz").rpartition("-")[2]
    command = [npm, "pack", f"axe-core@{version}", "--fetch-retries=0", "--fetch-timeout=20000"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        pytest.skip("npm could not fetch axe-core")
    data = (folder / _PACKAGE).read_bytes()
    assert sha256(data).hexdigest() == _SHA256
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()
