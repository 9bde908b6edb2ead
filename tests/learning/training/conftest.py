"""A tiny model on a tiny backbone, and coloured noise to train it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fieldmark.augment.image import View
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import Decoded
from fieldmark.data.loader import Samples
from fieldmark.data.task import Task
from fieldmark.model.build import build_model
from fieldmark.model.model import Model

SIZE, CLASSES, COUNT = 32, 3, 24
VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}


@pytest.fixture
def make() -> Callable[..., Model]:
    """(backbone, seed, **options of the method) → a model with random weights, in channels-last."""

    def build(backbone: str = "test_resnet", seed: int = 0, **options: Any) -> Model:
        torch.manual_seed(seed)
        choice = Backbone(name=backbone, weights="none", options=VIT if backbone.startswith("vit") else {})
        recipe = Recipe(images=Images(size=SIZE), backbone=choice, method=Choice(name="transfer", **options))
        return build_model(recipe, Task(CLASSES)).to(memory_format=torch.channels_last)

    return build


def noisy_view(
    pixels: NDArray[np.uint8], seed: int, box: NDArray[np.float32] | None, keypoints: NDArray[np.float32] | None
) -> View:
    noise = np.random.default_rng(seed).integers(0, 32, pixels.shape, dtype=np.uint8)
    return View(torch.from_numpy((pixels + noise).transpose(2, 0, 1).copy()), None, None)


@pytest.fixture
def samples() -> Samples:
    """24 pictures, one brightness a class."""
    labels = np.arange(COUNT) % CLASSES
    catalog = Catalog(
        name="noise",
        root=Path("/"),
        paths=tuple(f"{i}.png" for i in range(COUNT)),
        labels=labels.astype(np.int64),
        classes=("dark", "grey", "light"),
        splits=np.full(COUNT, "train"),
        groups=np.full(COUNT, ""),
    )
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 64, (SIZE, SIZE, 3), dtype=np.uint8) + np.uint8(70 * k) for k in labels]
    return Samples(catalog, [Decoded(p, (SIZE, SIZE)) for p in pixels], noisy_view, seed=0)
