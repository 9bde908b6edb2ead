"""Small networks with weights drawn by chance."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.model.method import Method
from support.models import build_method

OPTIONS = {"vit_tiny_patch16_224": {"depth": 3, "embed_dim": 48, "num_heads": 3}}
SIZE, CLASSES = 64, 4


@pytest.fixture
def make() -> Callable[..., Method]:
    """A method (plain transfer) on the backbone of this name."""

    def build(name: str, method: str = "transfer") -> Method:
        torch.manual_seed(0)
        backbone = Backbone(name=name, weights="none", options=OPTIONS.get(name, {}))
        recipe = Recipe(images=Images(size=SIZE), backbone=backbone, method=Choice(name=method))
        return build_method(recipe, Task(CLASSES)).eval()

    return build


@pytest.fixture
def image() -> Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
