"""The plain linear classifier. Shapes: B images, K classes, D features."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from fieldmark.model.heads.classifier import CLASSIFIERS, Classifier

__all__ = ["LinearClassifier"]

_LEAST = 1e-6
"""A shorter length counts as this one: features that are all zero have no direction."""


@CLASSIFIERS.register("linear")
@final
class LinearClassifier(Classifier):
    """logits = W · features + b; with `unit`, of the features divided by their length.

    How long an image's features are says more about its contrast than about its class; a logistic regression that reads
    frozen features of unit length is right more often (benchmarks/README.md).
    """

    def __init__(self, width: int, num_classes: int, *, unit: bool = False) -> None:
        super().__init__()
        self.unit = unit
        self.given: Tensor | None = None
        """(B, 1) the lengths to divide by, where others are asked about than those of the features."""
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K)."""
        if self.unit:
            length = self.length(features)
            # when answering, an image's length is a given: each cell's share of a logit then is what it adds to it
            if not self.training:
                length = length.detach() if self.given is None else self.given
            features = features / length
        logits: Tensor = self.linear(features)
        return logits

    @staticmethod
    def length(features: Tensor) -> Tensor:
        """(B, D) → (B, 1), never nothing."""
        return features.norm(dim=1, keepdim=True).clamp_min(_LEAST)
