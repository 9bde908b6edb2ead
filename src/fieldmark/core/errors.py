"""The errors a user can meet. Everything else that is raised is a bug.

    FieldmarkError
    ├── DataError          a folder, a table or a split cannot be used
    │   └── ImageError     one image cannot be read
    │       ├── TooLargeError       it takes more bytes, pixels, memory or time than is allowed
    │       └── UnknownFormatError  it is of no format that is read
    ├── RecipeError        a recipe, an option or a combination of options makes no sense
    ├── WeightsError       weights are missing or belong to another architecture
    ├── RunError           a run folder or bundle is absent, unfinished or of another version
    ├── DeviceError        a device is not on this machine
    ├── TrainingError      training cannot go on (a loss that is not a number)
    ├── StorageError       the disk is full or may not be written
    └── RankError          another process of the same training has ended or failed
        └── LeaderlessError     the first one has ended without a word, and this one speaks for all that are left

A message says in one line what was wrong, where, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "DataError",
    "DataWarning",
    "DeviceError",
    "FieldmarkError",
    "FieldmarkWarning",
    "ImageError",
    "LeaderlessError",
    "PluginWarning",
    "RankError",
    "RecipeError",
    "RunError",
    "StorageError",
    "TooLargeError",
    "TrainingError",
    "UnknownFormatError",
    "WeightsError",
    "nearest",
]

_LISTED = 12


class FieldmarkError(Exception):
    """A problem that the user can solve; `hint` says how."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem, hint)
        self.problem = problem
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.problem.rstrip('.')}. {self.hint}".strip() if self.hint else self.problem


class DataError(FieldmarkError):
    """A folder, a table or a split cannot be used."""


class ImageError(DataError):
    """One image cannot be read: damaged, of a format that is not allowed, too large."""


class TooLargeError(ImageError):
    """An image takes more bytes, pixels, memory or time than is allowed."""


class UnknownFormatError(ImageError):
    """A file is of no format that is read."""


class RecipeError(FieldmarkError):
    """A recipe, an option or a combination of them makes no sense."""


class WeightsError(FieldmarkError):
    """Weights are missing or belong to another architecture."""


class RunError(FieldmarkError):
    """A run folder or bundle is absent, unfinished or of another version."""


class DeviceError(FieldmarkError):
    """A device is not on this machine, or its memory does not suffice."""


class TrainingError(FieldmarkError):
    """Training cannot go on."""


class StorageError(FieldmarkError):
    """The disk is full or may not be written."""


class RankError(FieldmarkError):
    """Another process of the same training has ended or failed."""


class LeaderlessError(RankError):
    """The first process has ended without a word, and this one speaks for all that are left."""


class FieldmarkWarning(UserWarning):
    """Something works, but the user should know about it."""


class DataWarning(FieldmarkWarning):
    """Data can be used, but the user should know something about it."""


class PluginWarning(FieldmarkWarning):
    """A plug-in cannot be used and is left out."""


def nearest(name: str, known: Iterable[str], *, listed: int = _LISTED) -> str:
    """A hint for a misspelt name: the nearest known name, or a list of known names, at most `listed` of them."""
    names = sorted(known)
    if not names:
        return "There are none to choose from."
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    rest = f" and {len(names) - listed} more" if len(names) > listed else ""
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names[:listed])}{rest}."
