"""A checklist: the classes that are possible, such as the species of a region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.core.errors import DataError
from fieldmark.core.reading import read_regular
from fieldmark.data.names import lookup, normal

__all__ = ["read_checklist"]


def read_checklist(path: Path, classes: Sequence[str]) -> list[str]:
    """Read names of `classes`, one per line. Blank lines are ignored, and lines that start with # and are no class."""
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read the checklist {path}: {error}", "Expected class names, one per line.") from None
    find = lookup(classes)
    names = [name for line in lines if (name := normal(line)) and (find(name) or not name.startswith("#"))]
    if not names:
        raise DataError(f"The checklist {path} is empty", "Expected class names, one per line.")
    return names
