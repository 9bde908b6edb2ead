"""Whether a run that is resumed is what it was when it began."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fieldmark.core.errors import RunError, StorageError, WeightsError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import as_json
from fieldmark.core.wording import counted, first_few
from fieldmark.data.decisions import Decisions
from fieldmark.learning.training.identity import Identity
from fieldmark.model.choosing import weights_name
from fieldmark.runs.budgeted import asked_of
from fieldmark.runs.run import Run

if TYPE_CHECKING:
    from fieldmark.learning.fitting.fit import Fit

__all__ = ["check_decisions", "check_same", "check_weights", "identity_of", "in_place", "move"]

_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}


def move(run: Run, device: str, listener: Listener) -> None:
    """Move a run to another device if that was asked for, or if the device that it started on is gone."""
    began = run.machine()
    machine = began.moved(device)
    if machine != began:
        listener.warn(
            f"The run started on {began.device} and continues on {machine.device}: its weights will differ in the last "
            "digits from those of a run that was not moved"
        )
        run.move(machine)


@contextmanager
def in_place(run: Run) -> Iterator[None]:
    """Say what can be done where a run that is to be resumed may not be written: another folder is not where it is."""
    try:
        yield
    except StorageError as error:
        cause = error.__cause__
        if not (isinstance(cause, OSError) and cause.errno in _FORBIDDEN and str(run.folder) in error.problem):
            raise
        raise StorageError(
            error.problem, "Make it writable; or copy the run to a folder that you may write to, and resume it there."
        ) from error


def check_decisions(run: Run, asked: Decisions) -> None:
    """Raise RunError if a resumed run began with other decisions than those that are asked for again."""
    if asked.digest != run.decisions().digest:
        raise RunError(
            f"{run.folder} began with other decisions: {counted(len(run.decisions()), 'decision')}, not {len(asked):,}",
            "To continue it, leave --decisions out; or start a new run with another --out.",
        )


def check_same(run: Run, asked: Recipe, overrides: Sequence[str]) -> None:
    """Raise RunError if a resumed run started with another recipe; keys that were set by name are listed first."""
    begun = asked_of(Run.open(run.folder))
    if begun != asked:
        named = {text.partition("=")[0].strip() for text in overrides}
        changed = dict(sorted(begun.changes(asked).items(), key=lambda change: change[0] not in named))
        raise RunError(
            f"{run.folder} started with another recipe: "
            + first_few(f"{key} was {before!r}, not {now!r}" for key, (before, now) in changed.items()),
            "To continue it, give no options or the same options as before; or start a new run with another --out.",
        )


def check_weights(run: Run) -> None:
    """Raise RunError if the file or package of weights that a run began with is another one now; it may be gone."""
    weights, began = run.recipe().backbone.weights, run.decided("weights")
    try:
        now = weights_name(run.recipe().backbone)
    except WeightsError:  # the package is gone
        return
    if began and began != now != weights:
        raise RunError(
            f"The weights in {weights} are not those that {run.folder} began with: {began}, not {now}",
            "Put the file back as it was, or start a new run with another --out.",
        )


def identity_of(fit: Fit) -> Identity:
    """By what a checkpoint of this fit is known."""
    data = fit.run.data()
    known = as_json([fit.data.catalog.classes, data.get("digests"), data.get("pictures")], ascii=True)
    return Identity(fit.name, fit.recipe, hashlib.sha256(known.encode()).hexdigest())
