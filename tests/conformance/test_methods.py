"""Every piece keeps the contract: the suite that is shipped, for plug-ins too, run on all that is registered."""

from __future__ import annotations

from pathlib import Path

import fieldmark.methods
from fieldmark.learning.conformance import *  # noqa: F403  # its fixtures and tests
from fieldmark.model.method import METHODS


def test_every_method_module_is_imported() -> None:
    files = {path.stem for path in Path(fieldmark.methods.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {METHODS.get(name).__module__.rsplit(".", 1)[1] for name in METHODS}
