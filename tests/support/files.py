"""Files made up for a test."""

from __future__ import annotations

from pathlib import Path


def lay(root: Path, *names: str) -> Path:
    """Empty files of these names: what only walks opens none."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root
