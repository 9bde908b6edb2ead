"""PMG: one batch is learnt from several times, from fine tiles to the whole picture, ever deeper in the network.

Du et al., "Fine-grained visual classification via progressive multi-granularity training of jigsaw patches" (2020).
With Fₗ the map of the l-th of the last S = 3 stages, Vₗ = max over its cells of conv_block(Fₗ), and ⊕ concatenation:

    step l = 1 … S    ŷₗ = classifierₗ(Vₗ) of images cut into n × n tiles, n = 2^(S − l + 1), and shuffled;  loss(ŷₗ, y)
    step S + 1        ŷ = classifier(V₁ ⊕ … ⊕ V_S) of the images as they are;                            2 · loss(ŷ, y)

A conv_block is 1 × 1, BatchNorm, ReLU, 3 × 3, BatchNorm, ReLU; a classifier is BatchNorm, linear, BatchNorm, ELU, and
the head that the recipe names. One arrangement of tiles is drawn per step for the whole batch, as in the authors' code.
The answer is ŷ or, `combined`, ŷ + Σₗ ŷₗ. Deviations:

- The paper works at 448 px, where a tile spans seven cells of the map that it is read from. Here n is halved until it
  spans at least two, so that any size works; n = 1 shows the image as it is. Where n does not divide the side, the
  remaining pixels at the right and at the bottom stay where they are.
- A block's widths follow the channels C of the last stage, C/4 and C/2: 512 and 1,024 on the paper's ResNet-50, and not
  sixteen times the work of the whole backbone on MobileNetV2.
- The backbone's own embedding, or that of a neck, joins the concatenation: a transformer's class token and what some
  CNNs have behind their last map are part of what the weights know, and so every neck combines with this method.
- The blocks' BatchNorms have torch's momentum, 0.1 and not 0.01; the recipe takes their statistics anew in the end.
- A transformer's stages are its blocks at a third, two thirds and the end.
- In step l nothing behind stage l is computed, so shuffled images do not move statistics there, and weights that a step
  does not pass rest in it. The authors' optimiser went on moving them by their momentum.

Shapes: B images of S × S pixels, n × n tiles, K classes.
"""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.model.backbone import Backbone
from fieldmark.model.batch import Batch
from fieldmark.model.head import Heads
from fieldmark.model.method import METHODS, Losses, Method, Prediction
from fieldmark.model.stages import last_stages

__all__ = ["ProgressiveJigsaw", "granularity", "jigsaw"]

_WHOLE = 2.0  # weight of the last step's loss


def jigsaw(images: Tensor, order: Tensor) -> Tensor:
    """Images (B, 3, S, S) with tile order[i] at place i, row by row; order (n²,) is a permutation.

    `order.argsort()` undoes it. Pixels that n × n equal tiles leave over, right and bottom, stay where they are.
    """
    n = math.isqrt(len(order))
    height, width = (side // n for side in images.shape[-2:])
    shuffled = images.clone()
    for place, tile in enumerate(order.tolist()):
        (y, x), (from_y, from_x) = divmod(place, n), divmod(tile, n)
        shuffled[..., y * height : (y + 1) * height, x * width : (x + 1) * width] = images[
            ..., from_y * height : (from_y + 1) * height, from_x * width : (from_x + 1) * width
        ]
    return shuffled


def granularity(size: int, stride: int, most: int) -> int:
    """Tiles per side: `most`, halved until a tile of images of `size` pixels spans two cells of this stride."""
    while most > 1 and size // most < 2 * stride:
        most //= 2
    return most


@METHODS.register("progressive_jigsaw")
@final
class ProgressiveJigsaw(Method):
    """backbone → conv blocks at several stages → max pooling → a head for each and one for all."""

    adds_layers = True

    def __init__(
        self, backbone: Backbone, heads: Heads, *, stages: int = 3, width: int = 512, combined: bool = False
    ) -> None:
        """`width`: features before a head. RecipeError for a backbone without feature maps."""
        super().__init__(backbone)
        if width < 1:
            raise RecipeError(
                f"method.width = {width} is not allowed", "Expected a positive number of features; 512 is the paper's."
            )
        self.levels = last_stages(backbone, stages)
        self.steps_per_batch = len(self.levels) + 1
        self.combined = combined
        found = backbone.levels
        self.strides = tuple(found[index].stride for index in self.levels)
        last = found[-1].channels
        self.blocks = nn.ModuleList(_block(found[index].channels, last // 4, last // 2) for index in self.levels)
        self.stage_features = nn.ModuleList(_features(last // 2, width) for _ in self.levels)
        self.stage_heads: Any = nn.ModuleList(heads(width) for _ in self.levels)
        self.features = _features(len(self.levels) * (last // 2) + backbone.width, width)
        self.head = heads(width)

    def granularities(self, size: int) -> tuple[int, ...]:
        """Tiles per side at each step but the last, for images of `size` pixels."""
        count = len(self.strides)
        return tuple(granularity(size, stride, 2 ** (count - place)) for place, stride in enumerate(self.strides))

    def forward(self, images: Tensor) -> Prediction:
        """(B, 3, S, S) → logits (B, K), embedding (B, width)."""
        seen, pooled, embedding = self._whole(images)
        logits = self.head(embedding)
        if self.combined:
            each = zip(self.stage_heads, self.stage_features, pooled, strict=True)
            logits = logits + sum(head(features(one)) for head, features, one in each)
        return Prediction(logits, embedding, seen)

    def losses(self, batch: Batch, step: int) -> Losses:
        """Of one stage, from shuffled images; in the last step of all stages, from whole ones."""
        if step == len(self.levels):
            seen, _, embedding = self._whole(batch.images)
            return Losses({name: _WHOLE * loss for name, loss in self.head.losses(embedding, batch).items()}, seen)
        tiles = self.granularities(batch.images.shape[-1])[step]
        shuffled = jigsaw(batch.images, torch.randperm(tiles**2))
        pooled = self._pooled(step, self.backbone.level(shuffled, self.levels[step]))
        losses: dict[str, Tensor] = self.stage_heads[step].losses(self.stage_features[step](pooled), batch)
        return Losses({f"stage {step + 1} {name}": loss for name, loss in losses.items()})

    def _whole(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """What the backbone pooled (B, F), what each stage sees, (B, C/2) each, and the embedding of all."""
        seen = self.backbone(images, self.levels)
        pooled = [self._pooled(place, one) for place, one in enumerate(seen.levels)]
        return seen.pooled, pooled, self.features(torch.cat([*pooled, seen.pooled], dim=1))

    def _pooled(self, place: int, seen: Tensor) -> Tensor:
        block: Tensor = self.blocks[place](seen)
        return block.amax(dim=(2, 3))


def _block(channels: int, narrow: int, wide: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, narrow, 1, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU(),
        nn.Conv2d(narrow, wide, 3, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
    )


def _features(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(channels), nn.Linear(channels, width, bias=False), nn.BatchNorm1d(width), nn.ELU()
    )
