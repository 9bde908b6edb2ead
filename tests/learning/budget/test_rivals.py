"""Which recipes compete with the default, by what the user has changed."""

from __future__ import annotations

from functools import partial

import pytest

from fieldmark.core.recipe import Backbone
from fieldmark.learning.budget import rivals as module
from fieldmark.learning.budget.purse import left_open
from fieldmark.learning.budget.rivals import rivals
from fieldmark.learning.fitting.resolve import resolve_recipe


def found(*named: str, backbone: bool = True) -> set[str]:
    like = partial(resolve_recipe, overrides=named)
    others = rivals(like("finetune"), like, backbone=backbone)
    assert all(recipe == recipe.with_overrides(named) for recipe in others.values())
    return set(others)


def test_rivals_keep_what_the_user_has_changed() -> None:
    assert found() == found("augment.mix=mixup") == {"bilinear_attention", "strong"}
    assert found("backbone.name=resnet18", backbone=False) == {"bilinear_attention"}
    assert found("train.head_start=logistic") == {"strong"}, "attention has no head that a regression could fit"


def test_a_rival_with_a_backbone_of_its_own_needs_weights_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(backbone=False) == {"bilinear_attention"}
    monkeypatch.setattr(module, "weights_at_hand", lambda: iter(()))
    assert found() == {"bilinear_attention"}


def test_a_rival_is_not_under_a_licence_that_forbids_commercial_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def license(one: Backbone) -> str:
        return "cc-by-nc-4.0" if "+" in one.name else "apache-2.0"

    monkeypatch.setattr(module, "weights_license", license)
    assert found() == {"bilinear_attention"}


@pytest.mark.parametrize(
    ("recipe", "overrides", "open"),
    [
        (None, [], True),
        (None, ["train.batch_size=8", "images.size=160"], True),
        (None, ["neck.name=attention"], False),
        (None, ["loss.label_smoothing=0"], True),
        (None, ["loss.name=proxy_anchor"], False),
        ("finetune", [], False),
    ],
)
def test_a_recipe_that_is_named_or_made_by_the_user_has_no_rivals(
    recipe: str | None, overrides: list[str], open: bool
) -> None:
    assert ("recipe" in left_open(recipe, None, None, overrides)) == open
