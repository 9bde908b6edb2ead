"""A feature map by stride, and a neck: what methods are built on, on a CNN and on a transformer."""

from __future__ import annotations

from typing import Any, final

import pytest
import torch
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Backbone as Choice
from fieldmark.core.recipe import Choice as Piece
from fieldmark.model.backbone import Backbone, build_backbone
from fieldmark.model.feature_map import FeatureMap
from fieldmark.model.necks.neck import NECKS, Neck

VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}


def build(name: str, size: int, neck: Piece | None = None) -> Backbone:
    options: dict[str, Any] = VIT if name.startswith("vit") else {}
    return build_backbone(Choice(name=name, weights="none", options=options), size=size, neck=neck)


@pytest.mark.parametrize(("name", "coarse"), [("mobilenetv2_100", 32), ("resnet10t", 32), ("vit_tiny_patch16_224", 16)])
@pytest.mark.parametrize("size", [64, 160])
def test_cells_are_of_the_wanted_stride(name: str, coarse: int, size: int) -> None:
    backbone = build(name, size)
    fine = FeatureMap(backbone, stride=16)
    features = backbone(torch.randn(2, 3, size, size), fine.levels)
    assert features.map.shape[-2:] == (size // coarse, size // coarse)
    cells = fine(features)
    assert cells.shape == (2, fine.channels, size // 16, size // 16)
    cells.sum().backward()
    assert all(p.grad is not None for p in fine.parameters())


@pytest.mark.parametrize("name", ["mobilenetv2_100", "vit_tiny_patch16_224", "hiera_tiny_224"])
def test_asking_for_levels_changes_no_answer(name: str) -> None:
    backbone = build(name, 64).eval()
    images = torch.randn(2, 3, 64, 64)
    plain, more = backbone(images), backbone(images, (0,))
    torch.testing.assert_close(more.pooled, plain.pooled)
    torch.testing.assert_close(more.map, plain.map)
    assert more.levels[0].shape[1] == backbone.levels[0].channels
    assert more.levels[0].shape[-1] == 64 // backbone.levels[0].stride


def test_a_transformers_tokens_are_the_map() -> None:
    backbone = build("vit_tiny_patch16_224", 64)
    fine = FeatureMap(backbone)
    features = backbone(torch.randn(1, 3, 64, 64), fine.levels)
    assert fine(features) is features.map


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("mobilenetv2_100", 64),
        ("mobilenetv3_small_050", 64),
        ("convnext_atto", 64),
        ("vit_tiny_patch16_224", 64),
        ("eva02_tiny_patch14_224", 56),  # its positions are a module that is never called
        ("inception_v3", 96),  # takes no smaller images
        ("levit_128s", 160),  # bound to the side that it was made for
    ],
)
def test_without_pooling_the_map_is_the_same(name: str, side: int) -> None:
    backbone = build(name, side).eval()
    images = torch.randn(2, 3, side, side)
    before = backbone(images)
    features = backbone.without_pooling().train().eval()(images)
    torch.testing.assert_close(features.map, before.map)
    torch.testing.assert_close(features.pooled, before.map.mean((2, 3)))
    assert backbone.width == features.pooled.shape[1]
    features.map.sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None] == []


def test_tokens_that_are_no_grid_are_refused() -> None:
    backbone = build("vit_tiny_patch16_224", 64)
    with pytest.raises(RecipeError, match="'vit_tiny_patch16_224' gives 11 tokens, which do not form a square grid"):
        backbone.as_map(torch.zeros(1, 12, 192))
    with pytest.raises(RecipeError, match="gives several maps"):
        backbone.as_map([torch.zeros(1, 5, 192)] * 2)  # type: ignore[arg-type]  # as CrossViT answers


def test_a_backbone_without_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build("resnet10t", 64)
    monkeypatch.delattr(type(backbone.model), "forward_intermediates")
    with pytest.raises(RecipeError, match="'resnet10t' has no feature maps"):
        FeatureMap(backbone)


@final
class Corners(Neck):
    """The first and the last cell."""

    def __init__(self, channels: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.width, self.scale = 2 * channels, scale

    def forward(self, features: Tensor) -> Tensor:
        return self.scale * torch.cat([features[..., 0, 0], features[..., -1, -1]], dim=1)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_a_neck_takes_the_place_of_the_pooling(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NECKS._things, "corners", Corners)
    backbone = build(name, 64, Piece(name="corners", scale=2.0))
    features = backbone(torch.randn(3, 3, 64, 64))
    assert features.pooled.shape == (3, backbone.width) == (3, 2 * backbone.channels)
    torch.testing.assert_close(features.pooled[:, : backbone.channels], 2 * features.map[..., 0, 0])


def test_a_neck_that_there_is_not() -> None:
    with pytest.raises(RecipeError, match="There is no neck 'atention'"):
        build("resnet10t", 64, Piece(name="atention"))


def test_fused_cells_have_nothing_in_common() -> None:
    """Rectified maps have large means, and a random mixture of them would be much the same in every cell."""
    backbone = build("resnet10t", 64)
    fine = FeatureMap(backbone, stride=16)
    cells = fine(backbone(torch.rand(8, 3, 64, 64), fine.levels))
    assert cells.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert cells.std(dim=(0, 2, 3), correction=0).mean().item() == pytest.approx(1, abs=1e-2)
