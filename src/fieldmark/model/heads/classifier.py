"""What a classifier is: from features to logits, the same for all targets or harder for the right one.

Shapes: B images, T targets per image, K classes, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from fieldmark.core.registry import Registry

__all__ = ["CLASSIFIERS", "Classifier"]


class Classifier(nn.Module, ABC):
    """Features → logits. A subclass is final, takes (width, num_classes) and its options as keyword-only arguments,
    and registers itself in CLASSIFIERS.
    """

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K)."""

    def towards(self, features: Tensor, labels: Tensor) -> Tensor:
        """The logits that are learnt from, one set for each target: features (B, D), labels (B, T) → (B, T, K).

        Where a margin makes the label harder to reach they depend on the label.
        """
        return self(features).unsqueeze(1).expand(-1, labels.shape[1], -1)


CLASSIFIERS: Registry[type[Classifier]] = Registry("head", "fieldmark.model.heads", base=lambda: Classifier)
