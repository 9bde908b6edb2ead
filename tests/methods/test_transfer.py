"""Class activation maps of plain transfer against the formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fieldmark.core.recipe import Backbone, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.methods.transfer import Transfer
from support.models import build_method

VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}
AVERAGED = {"global_pool": "avg", "fc_norm": False}


def build(backbone: str, **options: Any) -> Transfer:
    torch.manual_seed(0)
    recipe = Recipe(images=Images(size=64), backbone=Backbone(name=backbone, weights="none", options=options))
    method = build_method(recipe, Task(4))
    assert isinstance(method, Transfer)
    return method.eval()


@pytest.mark.parametrize(
    ("backbone", "options"),
    [("test_resnet", {}), ("mobilenetv2_035", {}), ("vit_tiny_patch16_224", VIT | AVERAGED)],
)
def test_class_maps_are_exact(backbone: str, options: dict[str, Any]) -> None:
    method = build(backbone, **options)
    images, labels = torch.randn(3, 3, 64, 64), torch.tensor([3, 0, 2])
    with torch.no_grad():
        maps = method.class_maps(images, labels)
        cells = method.backbone(images).map
        logits = method(images).logits
    weight, bias = method.head.classifier.linear.weight, method.head.classifier.linear.bias
    expected = [
        sum(weight[label, c] * image[c] for c in range(len(image))) / image[0].numel()
        for image, label in zip(cells, labels, strict=True)
    ]
    torch.testing.assert_close(maps, torch.stack(expected), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(maps.sum((1, 2)), logits[range(3), labels] - bias[labels], atol=1e-4, rtol=1e-4)
    assert not maps.requires_grad
    assert all(p.grad is None for p in method.parameters())


def test_class_maps_of_what_comes_after_averaging() -> None:
    """A further layer behind the mean: the gradient of the logit decides what counts."""
    method = build("mobilenetv3_small_050")
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([1, 2])
    maps = method.class_maps(images, labels)
    cells = method.backbone(images).map.detach().requires_grad_()
    pooled = method.backbone.model.forward_head(cells, pre_logits=True)
    method.head(pooled)[range(2), labels].sum().backward()
    torch.testing.assert_close(maps, (cells * cells.grad).sum(1))
    assert maps.abs().sum() > 0


def test_a_class_token_has_none() -> None:
    maps = build("vit_tiny_patch16_224", **VIT).class_maps(torch.randn(2, 3, 64, 64), torch.tensor([1, 2]))
    assert maps.shape == (2, 4, 4)
    assert not maps.any()


def test_class_maps_where_the_backbone_does_not_learn() -> None:
    method = build("test_resnet")
    images, labels = torch.randn(2, 3, 64, 64), torch.tensor([1, 2])
    before = method.class_maps(images, labels)
    method.backbone.requires_grad_(False)
    torch.testing.assert_close(method.class_maps(images, labels), before)
