"""Photographs without labels, as a user names them and as a run remembers them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fieldmark.answering.things import named
from fieldmark.core.errors import DataError
from fieldmark.data.readers.columns import Columns
from fieldmark.runs.facts import Unlabelled

__all__ = ["unlabelled_facts", "unlabelled_files"]


def unlabelled_facts(places: Path | str | Sequence[Path | str], columns: Columns | None = None) -> Unlabelled:
    """What a run remembers of files, folders, globs and tables, wherever it is opened. Raises DataError for others."""
    several = [places] if isinstance(places, str | Path) else list(places)
    if not all(isinstance(one, str | Path) for one in several):
        raise DataError(
            "Photographs without labels must lie in files", "Name files, folders, globs or tables with a column 'path'."
        )
    absolute = [str(one) if _is_pattern(one) else os.path.abspath(Path(one).expanduser()) for one in several]
    return {"paths": absolute, "columns": dict(columns or {})}


def unlabelled_files(facts: Unlabelled, tell: Callable[[str], None]) -> list[Path]:
    """The photographs, each once and with its absolute path; `tell` hears of what is left out.

    Raises DataError if there are none.
    """
    sources = [thing.source for thing in named(facts["paths"], tell, facts.get("columns"))]
    return list(dict.fromkeys(Path(os.path.abspath(source)) for source in sources if isinstance(source, Path)))


def _is_pattern(one: str | Path) -> bool:
    return not os.path.exists(Path(one).expanduser()) and any(letter in str(one) for letter in "*?[")
