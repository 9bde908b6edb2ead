"""Photographs without labels in the life of a run: which there are, and that they stay the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fieldmark.answering.unlabelled import unlabelled_files
from fieldmark.core.errors import RecipeError, RunError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.runs.facts import Unlabelled
from fieldmark.runs.run import Run

__all__ = ["check_same", "checked", "files", "keep"]


def checked(recipe: Recipe, named: Unlabelled | None, parent: Run | None) -> Unlabelled | None:
    """The photographs without labels of a new run: those that were named, or else those of the run that it follows.

    Raises RecipeError if the recipe learns from such photographs and there are none, or the other way.
    """
    found = named or (parent.unlabelled() if parent else None)
    if recipe.train.pseudo_weight and found is None:
        raise RecipeError(
            "The recipe learns from photographs without labels too (train.pseudo_weight), and none were named",
            "Name them with --unlabelled PHOTOS, or choose another recipe, such as probe.",
        )
    if named and not recipe.train.pseudo_weight:
        raise RecipeError(
            "Photographs without labels were named, but the recipe learns from labels alone",
            "Add --recipe pseudo_labels, or --set train.pseudo_weight=0.3; or leave --unlabelled out.",
        )
    return found


def check_same(run: Run, named: Unlabelled | None) -> None:
    """Raise RunError if other photographs are named than those that a run began with."""
    if named not in (None, run.unlabelled()):
        raise RunError(
            f"{run.folder} began with other photographs without labels",
            "To continue it, leave --unlabelled out; or start a new run with another --out.",
        )


def files(run: Run, recipe: Recipe, listener: Listener) -> list[Path]:
    """The photographs without labels that a run learns from; none if its recipe learns from labels alone."""
    known = run.unlabelled() if recipe.train.pseudo_weight else None
    return unlabelled_files(known, listener.note) if known else []


def keep(run: Run, prepared: Prepared) -> None:
    """Remember which photographs without labels there are. Raises RunError if others were there when the run began."""
    if not prepared.unlabelled:
        return
    digests = prepared.pixels.fingerprints.digests[len(prepared.catalog) :]
    lines = [f"{path}\t{digest:016x}" for path, digest in zip(prepared.unlabelled, digests, strict=True)]
    found = {"number": len(lines), "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]}
    if (known := run.decided("unlabelled")) not in (None, found):
        raise RunError(
            f"The photographs without labels are not those that this run began with: {known['number']:,} then, "
            f"{len(lines):,} now, or other pictures",
            "Put them back as they were, or start a new run with another --out.",
        )
    run.decide("unlabelled", found)
