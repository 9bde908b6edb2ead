"""`benchmarks/parity.py` on a few pictures: Python, command line, HTTP and ONNX Runtime say the same."""

from __future__ import annotations

import runpy
from pathlib import Path

from fieldmark.runs.run import Run

PARITY = Path(__file__).parents[2] / "benchmarks" / "parity.py"


def test_everybody_says_the_same(trained: Run, pictures: Path) -> None:
    files = [str(file) for file in sorted(pictures.rglob("0*.png"))]
    found = runpy.run_path(str(PARITY))["compared"](trained.folder, files, ["onnx", "command", "http", "example"])
    assert found["images"] == 30
    assert set(found["beside_pytorch"]) == {"onnx", "command", "http", "example"}
    for way, one in found["beside_pytorch"].items():
        assert one["same_verdicts"] == 30, way
        assert one["largest_difference_of_probability"] < 1e-4, way
    for way in ("onnx", "command"):
        assert found["beside_pytorch"][way]["largest_difference_of_logits"] <= 1e-4 * max(1, found["largest_logit"])
