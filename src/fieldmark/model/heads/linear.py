"""The plain linear classifier. Shapes: B images, K classes, D features."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from fieldmark.model.heads.classifier import CLASSIFIERS, Classifier

__all__ = ["LinearClassifier"]


@CLASSIFIERS.register("linear")
@final
class LinearClassifier(Classifier):
    """logits = W · features + b."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K)."""
        logits: Tensor = self.linear(features)
        return logits
