"""What is added to a bundle that training wrote: a graph, and enrolled classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.core.errors import StorageError
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.enrolment import remove_enrolment
from fieldmark.runs.exported import write_onnx
from fieldmark.runs.run import Run


def test_a_bundle_that_may_only_be_read(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(trained.bundle)

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(StorageError, match=r"onnx\.json: the file system is read-only"):
        write_onnx(bundle, b"graph", precision="fp32", checked={})
    with pytest.raises(StorageError, match=r"enrolled\.json: the file system is read-only"):
        remove_enrolment(trained.bundle)
