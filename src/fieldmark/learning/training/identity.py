"""Which training a checkpoint is of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from typing_extensions import TypedDict

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Recipe

__all__ = ["Identity", "Kept"]

_BESIDE = {"backbone.weights", "images.cache_gb", "train.checkpoint_steps", "train.validate_epochs"}
"""Keys that decide no step once there is a checkpoint. Where weights are is for whoever begins with them."""


class Kept(TypedDict):
    """An identity as a checkpoint has it."""

    fit: str
    data: str
    seed: int
    """Beside the recipe, since those of the members of a soup are longer than a recipe may name."""
    recipe: dict[str, object]


@final
@dataclass(frozen=True)
class Identity:
    """What decides the steps of a training, but for the machine, from which a run may move to another."""

    fit: str
    """The name of the fit."""
    recipe: Recipe
    """As it is resolved."""
    data: str
    """A digest of the classes, in order, and of what is learnt from."""

    def kept(self) -> Kept:
        """What a checkpoint remembers. The recipe is written out, so that one with keys of later versions compares."""
        recipe = self.recipe.model_dump(mode="json", exclude_none=True, exclude={"seed"})
        return {"fit": self.fit, "data": self.data, "seed": self.recipe.seed, "recipe": recipe}

    def differences(self, kept: Kept) -> list[str]:
        """What is different in the training of a checkpoint, in words."""
        found = [f"it is of {kept['fit']!r}, not of {self.fit!r}"] if kept["fit"] != self.fit else []
        found += [f"seed was {kept['seed']}, not {self.recipe.seed}"] if kept["seed"] != self.recipe.seed else []
        try:
            recipe = Recipe.parse({**kept["recipe"], "seed": 0}, source="checkpoint")
        except RecipeError as error:
            return [*found, f"its recipe is of another version: {error.problem}"]
        changes = recipe.changes(self.recipe.model_copy(update={"seed": 0}))
        found += [f"{key} was {before!r}, not {now!r}" for key, (before, now) in changes.items() if key not in _BESIDE]
        return found + (["it learns from other images or classes"] if kept["data"] != self.data else [])
