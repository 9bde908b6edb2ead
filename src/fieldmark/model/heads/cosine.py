"""Cosines instead of products.

Gidaris & Komodakis, "Dynamic few-shot visual learning without forgetting" (2018): the logit of a class is
s · cos(f, wₖ), so that neither the length of the features nor that of the weights says anything, and features of a
class are drawn together. The scale s is learnt and starts at 10.

Deviations: the logarithm of s is learnt, since a step of Adam, whatever the gradient, is as long as its rate: s itself
would come from 10 to 11 in a thousand steps. And where a backbone ends in a ReLU it stays; the paper, which trains its
own, leaves the last one out. Shapes: B images, K classes, D features.
"""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.model.heads.classifier import CLASSIFIERS, Classifier

__all__ = ["CosineClassifier", "cosines"]


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    """Features (B, D), weight (N, D) → (B, N) fp32."""
    with torch.autocast(features.device.type, enabled=False):  # times 64, a digit that bf16 rounds off is a whole logit
        return F.linear(F.normalize(features.float()), F.normalize(weight.float()))


@CLASSIFIERS.register("cosine")
@final
class CosineClassifier(Classifier):
    """logits = s · cos(f, wₖ)."""

    log_scale: Tensor

    def __init__(self, width: int, num_classes: int, *, scale: float = 10.0, learn_scale: bool = True) -> None:
        super().__init__()
        if scale <= 0:
            raise RecipeError(
                f"head.scale = {scale} is not allowed", "Expected a positive number; the paper starts at 10."
            )
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_classes, width)))
        log_scale = torch.tensor(math.log(scale))
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K)."""
        return self.log_scale.exp() * cosines(features, self.weight)
