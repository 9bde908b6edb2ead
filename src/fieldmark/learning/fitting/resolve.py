"""From a recipe to a checked one: every name in it exists, and the data has what it needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fieldmark.augment.mixing import KINDS
from fieldmark.core.errors import RecipeError, nearest
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import NONE, Choice, Recipe, load_recipe
from fieldmark.core.registry import Registry
from fieldmark.learning.fitting.backgrounds import check_background, check_background_option
from fieldmark.learning.fitting.batches import check_batches
from fieldmark.learning.fitting.combinations import check_combination
from fieldmark.learning.fitting.poses import check_pose_options, check_poses, check_supervision
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.learning.fitting.weights import check_start
from fieldmark.learning.training.optimizer import OPTIMIZERS
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES
from fieldmark.model.choosing import check_backbone, settled_weights
from fieldmark.model.heads.classifier import CLASSIFIERS
from fieldmark.model.losses.loss import LOSSES
from fieldmark.model.method import METHODS
from fieldmark.model.necks.neck import NECKS

__all__ = ["PIECES", "check_data", "plugins_of", "resolve_recipe"]

PIECES: dict[str, Registry[Any]] = {
    "neck": NECKS,
    "method": METHODS,
    "head": CLASSIFIERS,
    "loss": LOSSES,
    "auxiliary": AUXILIARIES,
}
"""Each section of a recipe, with the pieces that it may name."""
_OPTIONAL = {"neck", "auxiliary"}


def resolve_recipe(
    recipe: str | Recipe = "finetune",
    *,
    backbone: str | None = None,
    weights: str | None = None,
    overrides: Iterable[str] = (),
    onward: bool = False,
) -> Recipe:
    """Apply the user's changes to a recipe and check every name. Raises RecipeError before any data is read.

    A training that goes `onward` from a finished run needs no pretrained weights, but for the folds of a cross-fit.
    """
    given = load_recipe(recipe) if isinstance(recipe, str) else recipe
    resolved = given.changed(backbone, weights, overrides)
    resolved = resolved.model_copy(update={"backbone": settled_weights(resolved.backbone)})
    pieces = {
        section: Choice(name=choice.name, **registry.complete(*choice.pair))
        for section, registry in PIECES.items()
        if (choice := getattr(resolved, section)).pair != (NONE, {}) or section not in _OPTIONAL
    }
    OPTIMIZERS.get(resolved.train.optimizer)
    if resolved.augment.mix not in KINDS:
        raise RecipeError(f"There is no mix {resolved.augment.mix!r}", nearest(resolved.augment.mix, KINDS))
    check_pose_options(resolved)
    check_background_option(resolved)
    check_backbone(resolved.backbone, weights=not onward or resolved.protocol == "crossfit")
    resolved = resolved.model_copy(update=pieces)
    check_combination(resolved)
    return resolved


def plugins_of(recipe: Recipe) -> dict[str, dict[str, str]]:
    """The name, package and version of each piece that does not come with Fieldmark, by section."""
    named = {section: getattr(recipe, section).name for section in PIECES}
    return {
        section: {"name": name, "package": origin.package, "version": origin.version}
        for section, name in named.items()
        if name != NONE and (origin := PIECES[section].origin(name))
    }


def check_data(recipe: Recipe, data: Prepared, listener: Listener, *, goes_on: bool = False) -> None:
    """Raise FieldmarkError if the data lacks what a recipe asks for, and warn if it has little of it; a network that
    `goes_on` from a finished run needs less."""
    if not goes_on:
        check_start(recipe, data, listener)
    for check in (check_background, check_poses, check_supervision, check_batches):
        check(recipe, data, listener)
