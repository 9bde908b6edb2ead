"""The recipes of a comparison: they are checked, and settings that should be the same are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from fieldmark.comparison.result import Result
from fieldmark.core.errors import FieldmarkError, RecipeError, RunError, nearest
from fieldmark.core.listener import Event, Listener, Warned
from fieldmark.core.recipe import Recipe
from fieldmark.core.wording import first_few
from fieldmark.data.catalog import Catalog
from fieldmark.learning.fitting.combinations import rehearse
from fieldmark.learning.fitting.head import linear_head
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.learning.fitting.resolve import check_data, resolve_recipe
from fieldmark.learning.fitting.task import task_of
from fieldmark.learning.fitting.trial import is_tried
from fieldmark.model.build import build_model
from fieldmark.model.choosing import weights_name

__all__ = ["Contestant", "choose_baseline", "contestants", "differences"]

BASELINE: Final = "finetune"
_SHARED: Final = ("images.size", "train.epochs", "train.batch_size")
"""The settings that the recipes of a fair comparison have in common, besides the backbone."""


@final
@dataclass(frozen=True)
class Contestant:
    """A recipe that takes part."""

    name: str
    given: str
    """The recipe as it was given: a name or a TOML file."""
    recipe: Recipe
    """The recipe with all changes except the seed."""

    def seeded(self, seed: int) -> Recipe:
        return self.recipe.model_copy(update={"seed": seed})

    def num_lines(self, num_images: int, num_classes: int) -> int:
        """About how many lines the log of a finished run has, which learns from so many images of so many classes; 1 if
        there are no epochs."""
        recipe, train = self.recipe, self.recipe.train
        if train.solver == "logistic":
            return 1

        def epochs(number: int) -> int:
            return train.num_epochs(max(1, number // train.batch_size))

        fits = recipe.folds + 1 if recipe.protocol == "crossfit" else 1
        trial = epochs(num_images * 2 // 3) if is_tried(recipe, num_images, num_classes) else 0
        return trial + fits * train.members * epochs(num_images)

    def check_builds(self, catalog: Catalog) -> None:
        """Raise FieldmarkError if its pieces do not fit together, or do not fit these classes."""
        try:
            model = build_model(self.recipe, task_of(catalog, self.recipe, catalog.rows("train")), load_weights=False)
            if "logistic" in (self.recipe.train.solver, self.recipe.train.head_start):
                linear_head(model, self.recipe)
        except FieldmarkError as error:
            raise _named(self.name, error) from None

    def check_data(self, prepared: Prepared, listener: Listener) -> None:
        """Raise FieldmarkError if the data lacks what the augmentation or the method needs, and warn, with the recipe's
        name, if the data has little of it.
        """
        try:
            check_data(self.recipe, prepared, _Warnings(self.name, listener))  # notes are in the output of its training
        except FieldmarkError as error:
            raise _named(self.name, error) from None

    def check_result(self, result: Result, file: Path, seed: int, split: str, digest: str, earlier: str) -> None:
        """Raise RunError if a kept result is not of this recipe, seed, split and data.

        `digest` is that of the data, `earlier` the one that earlier versions kept, without the pictures' contents. A
        recipe that was kept by an earlier version gets the defaults of newer keys.
        """
        kept = dict(result.settings)
        kept["backbone"] = {**kept.get("backbone", {}), "weights": "none"}
        try:
            changes = resolve_recipe(Recipe.parse(kept, source=str(file))).changes(_without_weights(self.recipe))
        except RecipeError as error:
            raise RunError(f"{file} was written by another version ({error})", _OTHER_RESULT) from None
        wrong = [f"{key} was {before!r}, not {now!r}" for key, (before, now) in changes.items() if key != "seed"]
        for what, before, now in (
            ("recipe", result.recipe, self.name),
            ("seed", result.seed, seed),
            ("split", result.split, split),
            ("weights", result.weights, weights_name(self.recipe.backbone)),
        ):
            wrong += [f"{what} was {before!r}, not {now!r}"] if before != now else []
        if result.data == earlier != digest:
            wrong.append("it was kept by a version that did not look into the pictures, so they may be other ones")
        elif result.data != digest:
            wrong.append("it was trained or scored on other images, labels or splits")
        if wrong:
            raise RunError(f"{file} holds a different run: {first_few(wrong)}", _OTHER_RESULT)


class _Warnings(Listener):
    """Passes on warnings, each with the name of the recipe."""

    def __init__(self, name: str, listener: Listener) -> None:
        self.name = name
        self.listener = listener

    def hear(self, event: Event) -> None:
        if isinstance(event, Warned):
            self.listener.warn(f"{self.name}: {event.text}")


_OTHER_RESULT = "Choose another --out, or remove results/ and runs/ in it to start again."


def contestants(
    recipes: Sequence[str], *, backbone: str | None, weights: str | None, overrides: Sequence[str]
) -> list[Contestant]:
    """The recipes, each of them checked. Raises RecipeError, which names the recipe that is wrong."""
    if not recipes:
        raise RecipeError("No recipes to compare were given", "Name some, such as: --recipes finetune,probe")
    if any(text.partition("=")[0].strip() == "seed" for text in overrides):
        raise RecipeError("A comparison sets the seeds itself, from 0 on", "Say how many seeds with --seeds.")
    field: list[Contestant] = []
    for given in recipes:
        name = Path(given).stem if given.endswith(".toml") else given
        if any(one.name == name for one in field):
            raise RecipeError(f"Two recipes are called {name!r}", "Name each recipe once, or rename the file.")
        try:
            recipe = resolve_recipe(given, backbone=backbone, weights=weights, overrides=overrides)
            rehearse(recipe)
        except FieldmarkError as error:
            raise _named(name, error) from None
        field.append(Contestant(name, given, recipe.model_copy(update={"seed": 0})))
    protocols = {one.recipe.protocol: one.name for one in field}
    if len(protocols) > 1:
        said = ", ".join(f"{name} has {protocol!r}" for protocol, name in protocols.items())
        raise RecipeError(f"The recipes have different protocols: {said}", "Set one for all: --set protocol=holdout.")
    return field


def choose_baseline(asked: str | None, field: Sequence[Contestant]) -> str:
    """The baseline that was asked for, or else finetune if it takes part, or else the first recipe."""
    names = [one.name for one in field]
    if asked is None:
        return BASELINE if BASELINE in names else names[0]
    if asked not in names:
        raise RecipeError(f"The baseline {asked!r} is not among the recipes", nearest(asked, names))
    return asked


def differences(field: Sequence[Contestant]) -> list[str]:
    """A sentence for each difference in settings that should be the same in a fair comparison."""
    found = []
    for key in ("backbone", "weights", *_SHARED):
        # a probe takes no steps, so its epochs and batches mean nothing
        values = {one.name: _value(one.recipe, key) for one in field if _matters(one.recipe, key)}
        if len(set(values.values())) > 1:
            said = ", ".join(f"{name} {value}" for name, value in values.items())
            found.append(f"The recipes also differ in {key}: {said}.")
    return found


def _matters(recipe: Recipe, key: str) -> bool:
    return recipe.train.solver != "logistic" or not key.startswith("train.")


def _value(recipe: Recipe, key: str) -> Any:
    if key == "backbone":
        return recipe.backbone.name
    if key == "weights":
        return weights_name(recipe.backbone)
    section, _, name = key.partition(".")
    return getattr(getattr(recipe, section), name)


def _without_weights(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update={"weights": "none"})})


def _named(name: str, error: FieldmarkError) -> FieldmarkError:
    return type(error)(f"{name}: {error.problem}", error.hint)
