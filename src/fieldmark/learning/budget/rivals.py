"""Recipes that compete with the default within a budget that has time for them.

Each was better than it on some kind of photographs, or on average, and takes longer (benchmarks/README.md, "Which
transfer recipe"). Which of them is the better one here, only a trial tells.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from fieldmark.core.errors import FieldmarkError
from fieldmark.core.recipe import Backbone, Recipe
from fieldmark.model.at_hand import weights_at_hand
from fieldmark.model.choosing import each_of
from fieldmark.model.license import is_noncommercial, weights_license

__all__ = ["rivals"]

_RIVALS = "bilinear_attention", "strong"
"""The likeliest first: the one may win by seven points and lose by two, the other wins by one."""


def rivals(asked: Recipe, like: Callable[[str], Recipe], *, backbone: bool) -> dict[str, Recipe]:
    """Those that differ from what was asked for, by name. `like` is a recipe by its name with all that the user has
    changed, and `backbone` whether the budget may choose another one."""
    found = dict[str, Recipe]()
    for name in _RIVALS:
        with suppress(FieldmarkError):  # it does not go with what the user has changed
            rival = like(name)
            other = rival.backbone != asked.backbone
            if rival != asked and (not other or (backbone and _is_at_hand(rival.backbone))):
                found[name] = rival
    return found


def _is_at_hand(backbone: Backbone) -> bool:
    """Whether nothing has to be downloaded for it, and its licence forbids nothing."""
    here = {(one.backbone, one.source) for one in weights_at_hand()}
    each = each_of(backbone)
    return all((one.name, one.weights) in here for one in each) and not is_noncommercial(weights_license(backbone))
