"""Sub-centre ArcFace: an angle that the right class must be nearer by, and several centres for each class.

Deng, Guo, Xue & Zafeiriou, "ArcFace: additive angular margin loss for deep face recognition" (2019): the logit of the
label y is s · cos(θ_y + m) in training, those of the other classes are s · cos θₖ. Deng, Guo, Liu, Gong & Zafeiriou,
"Sub-center ArcFace" (2020): a class has several centres and the nearest counts, cos θₖ = maxⱼ cos(f, wₖⱼ), so that
males and juveniles, or photographs with a wrong label, need not share one.

Beyond θ = π − m the margin would make an angle easier to bear the larger it is; there the logit goes on falling as
s · (cos θ − m · sin m), as in the authors' code. Their "easy margin", which leaves out the margin beyond π/2, is not
offered: it lets go of the very images that are furthest off. The margin is for learning only: what answers is
s · cos θₖ.

Each target of a mixed image has a margin of its own. Shapes: B images, T targets per image, K classes, D features.
"""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.model.heads.classifier import CLASSIFIERS, Classifier
from fieldmark.model.heads.cosine import cosines

__all__ = ["ArcFaceClassifier", "with_margin"]

_STEEPEST = 1e-7
"""Least squared sine: the slope of the angle is endless where features meet their centre."""


def with_margin(cosine: Tensor, margin: float) -> Tensor:
    """cos θ → cos(θ + margin), and beyond θ = π − margin its falling continuation. Any shape; margin in radians."""
    sine = (1 - cosine.square()).clamp_min(_STEEPEST).sqrt()
    further = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), further, cosine - margin * math.sin(margin))


@CLASSIFIERS.register("arcface")
@final
class ArcFaceClassifier(Classifier):
    """logits = s · maxⱼ cos(f, wₖⱼ); towards a label, with a margin."""

    def __init__(
        self, width: int, num_classes: int, *, margin: float = 0.5, scale: float = 64.0, sub_centres: int = 3
    ) -> None:
        super().__init__()
        if not 0 <= margin < math.pi / 2:
            raise RecipeError(
                f"head.margin = {margin} is not allowed", "Expected radians from 0 to π/2; the paper uses 0.5."
            )
        if scale <= 0:
            raise RecipeError(f"head.scale = {scale} is not allowed", "Expected a positive number; the paper uses 64.")
        if sub_centres < 1:
            raise RecipeError(
                f"head.sub_centres = {sub_centres} is not allowed", "Expected at least 1; the paper uses 3."
            )
        self.margin, self.scale, self.sub_centres = margin, scale, sub_centres
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes * sub_centres, width)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K), without a margin."""
        return self.scale * self._nearest(features)

    def towards(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features (B, D), labels (B, T) → (B, T, K): each with the margin at its label."""
        cosine = self._nearest(features).unsqueeze(1).expand(-1, labels.shape[1], -1)
        place = labels.unsqueeze(2)
        return self.scale * cosine.scatter(2, place, with_margin(cosine.gather(2, place), self.margin))

    def _nearest(self, features: Tensor) -> Tensor:
        """(B, D) → (B, K), the cosine of the nearest centre of each class."""
        return cosines(features, self.weight).unflatten(1, (-1, self.sub_centres)).amax(dim=2)
