"""Where a backbone is tapped, and that a tapped map is the one of the whole pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Backbone as Choice
from fieldmark.model.backbone import Backbone, build_backbone
from fieldmark.model.stages import last_stages

SMALL = {"embed_dim": 48, "num_heads": 3}


def build(name: str, **options: Any) -> Backbone:
    return build_backbone(Choice(name=name, weights="none", options=options), size=64).eval()


@pytest.mark.parametrize(
    ("name", "options", "count", "expected"),
    [
        ("mobilenetv2_100", {}, 3, (2, 3, 4)),
        ("mobilenetv2_100", {}, 1, (4,)),
        ("mobilenetv2_100", {}, 9, (0, 1, 2, 3, 4)),
        ("vit_tiny_patch16_224", {"depth": 6, **SMALL}, 3, (1, 3, 5)),  # the second, fourth and sixth of six blocks
        ("vit_tiny_patch16_224", {"depth": 5, **SMALL}, 3, (1, 3, 4)),
        ("vit_tiny_patch16_224", {"depth": 2, **SMALL}, 3, (0, 1)),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)}, 3, (0, 1)),
    ],
)
def test_the_last_stages(name: str, options: dict[str, Any], count: int, expected: tuple[int, ...]) -> None:
    assert last_stages(build(name, **options), count) == expected


def test_no_stage_is_none() -> None:
    with pytest.raises(RecipeError, match=r"method.stages = 0 is not allowed. Expected 1 or more"):
        last_stages(build("test_resnet"), 0)


@pytest.mark.parametrize(
    ("name", "options"), [("mobilenetv2_100", {}), ("vit_tiny_patch16_224", {"depth": 3, **SMALL})]
)
def test_a_level_alone_is_that_of_the_whole_pass_and_computes_nothing_behind_it(
    name: str, options: dict[str, Any]
) -> None:
    backbone = build(name, **options)
    images = torch.randn(2, 3, 64, 64)
    index = len(backbone.levels) - 2
    torch.testing.assert_close(backbone.level(images, index), backbone(images, (index,)).levels[0])
    blocks: nn.Module = backbone.model.blocks
    ran: list[bool] = []
    blocks[-1].register_forward_hook(lambda *_: ran.append(True))
    backbone.level(images, index)
    assert not ran
