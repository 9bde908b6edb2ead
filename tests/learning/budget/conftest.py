"""Data that budgets are spent on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="package")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with so many pictures, a stripe of a colour on noise, that validation images can judge."""
    root, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    for k, color in enumerate([(150, 130, 90), (110, 150, 120), (120, 110, 150)]):
        (root / f"class {k}").mkdir()
        for i in range(80):
            pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
            pixels[:, rng.integers(0, 32) :][:, :8] = color
            Image.fromarray(pixels).save(root / f"class {k}" / f"{i:02}.png")
    return root
