"""The weights that a run ended with, and whether two are the same, bit for bit."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from fieldmark.runs.run import Run

__all__ = ["identical", "weights"]


def weights(run: Run | Path) -> dict[str, torch.Tensor]:
    return load_file((run.folder if isinstance(run, Run) else run) / "bundle" / "model.safetensors")


def identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
