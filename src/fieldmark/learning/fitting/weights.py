"""What the weights that a training starts from mean for it: their licence, and what to expect where there are none."""

from __future__ import annotations

from fieldmark.core.listener import Listener
from fieldmark.core.recipe import NONE, Recipe
from fieldmark.core.wording import counted
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.model.choosing import knows_nothing
from fieldmark.model.license import UNKNOWN, is_noncommercial, weights_license

__all__ = ["check_start", "tell_license"]

_MANY = 20_000
"""Images from which a network may learn without knowing anything before."""
_SOME = 2_000
"""Images from which it may do so if it trains for long, as on some thousand cars or aircraft (Kornblith, Shlens & Le,
"Do better ImageNet models transfer better?", 2019)."""


def tell_license(recipe: Recipe, listener: Listener) -> None:
    """Report the licence of the weights, which also applies to models trained from them."""
    name, license = recipe.backbone.name, weights_license(recipe.backbone)
    if is_noncommercial(license):
        listener.warn(
            f"The weights of {name} are for non-commercial use only (licence {license}), and so is any model trained "
            "from them. For commercial use, choose other weights"
        )
    elif UNKNOWN in license:
        listener.note(f"The licence of the weights of {name} is unknown: read their terms before you share the model")
    elif license != NONE:
        listener.note(f"The licence of the weights of {name} is {license}")


def check_start(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Warn where a network starts from nothing and has few images to learn from."""
    number = len(data.catalog.rows("train"))
    if knows_nothing(recipe.backbone) and number < _MANY:
        far, unless = ("far ", "") if number < _SOME else ("", ", unless it trains for much longer")
        listener.warn(
            f"The network starts from random weights and has {counted(number, 'image')} to learn everything from. "
            f"Expect it to be wrong {far}more often than with pretrained weights (leave out --weights none){unless}"
        )
