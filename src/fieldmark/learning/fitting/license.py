"""What the licence of pretrained weights means for what is trained from them."""

from __future__ import annotations

from fieldmark.core.listener import Listener
from fieldmark.core.recipe import NONE, Recipe
from fieldmark.model.license import UNKNOWN, is_noncommercial, weights_license

__all__ = ["tell_license"]


def tell_license(recipe: Recipe, listener: Listener) -> None:
    """Report the licence of the weights, which also applies to models trained from them."""
    name, license = recipe.backbone.name, weights_license(recipe.backbone)
    if is_noncommercial(license):
        listener.warn(
            f"The weights of {name} are for non-commercial use only (licence {license}), and so is any model trained "
            "from them. For commercial use, choose other weights"
        )
    elif license == UNKNOWN:
        listener.note(f"The licence of the weights of {name} is unknown: read their terms before you share the model")
    elif license != NONE:
        listener.note(f"The licence of the weights of {name} is {license}")
