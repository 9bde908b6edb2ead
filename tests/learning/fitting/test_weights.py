"""What is said of the weights that a training starts from."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fieldmark.core.recipe import Backbone, Recipe
from fieldmark.learning.fitting.prepare import Prepared
from fieldmark.learning.fitting.weights import check_start, tell_license
from support.hearing import Heard


def learning_from(number: int) -> Prepared:
    """Data with so many images to learn from."""
    return cast(Prepared, SimpleNamespace(catalog=SimpleNamespace(rows=lambda _: np.arange(number))))


def warned(number: int, **choice: Any) -> list[str]:
    check_start(Recipe(backbone=Backbone(**choice)), learning_from(number), heard := Heard())
    return heard.warnings


@pytest.mark.parametrize("choice", [{"weights": "none"}, {"name": "resnet18+resnet10t", "weights": "none+none"}])
def test_a_start_from_nothing_is_warned_about(choice: dict[str, str]) -> None:
    (few,), (more,) = warned(35, **choice), warned(19_999, **choice)
    assert few == (
        "The network starts from random weights and has 35 images to learn everything from. Expect it to be wrong far "
        "more often than with pretrained weights (leave out --weights none)"
    )
    assert more == (
        "The network starts from random weights and has 19,999 images to learn everything from. Expect it to be wrong "
        "more often than with pretrained weights (leave out --weights none), unless it trains for much longer"
    )
    assert warned(20_000, **choice) == []


@pytest.mark.parametrize(
    "choice", [{"weights": "installed"}, {"name": "resnet18+resnet10t", "weights": "none+hub"}, {"weights": "w.st"}]
)
def test_any_other_start_is_not(choice: dict[str, str]) -> None:
    assert warned(35, **choice) == []


def test_random_networks_have_no_licence() -> None:
    several = Backbone(name="resnet18+resnet10t", weights="none+none")
    tell_license(Recipe(backbone=several), heard := Heard())
    assert (heard.notes, heard.warnings) == ([], [])
