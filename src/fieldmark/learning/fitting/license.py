"""What the licence of pretrained weights means for what is trained from them."""

from __future__ import annotations

from fieldmark.core.listener import Listener
from fieldmark.core.recipe import NONE, Recipe
from fieldmark.model.license import UNKNOWN, is_noncommercial, weights_license

__all__ = ["tell_license"]


def tell_license(recipe: Recipe, listener: Listener) -> None:
    """Before anything is learnt from weights, whose licence binds what comes of it."""
    name, license = recipe.backbone.name, weights_license(recipe.backbone)
    if is_noncommercial(license):
        listener.warn(
            f"The weights of {name} are for non-commercial use only (licence {license}), and so is what is trained "
            "from them; choose others for anything else"
        )
    elif license == UNKNOWN:
        listener.note(f"Weights of {name}: licence not known; read their terms before you pass the model on")
    elif license != NONE:
        listener.note(f"Weights of {name}: licence {license}")
