"""What a classification loss is: a number for each target, weighted and averaged in one place.

Shapes: B images, T targets per image (1 plain, 2 mixed), K classes, N = B · T.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.core.registry import Registry

__all__ = ["LOSSES", "Loss", "check_smoothing"]


class Loss(nn.Module, ABC):
    """A classification loss. A subclass is final, takes (task) and its options as keyword-only arguments, and
    registers itself in LOSSES. What it keeps are non-persistent buffers: a bundle answers without them.

    If it compares images in a `forward` of its own, it gathers them first (`core.ranks.gathered`): several processes
    may share a batch.
    """

    @abstractmethod
    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N, K) fp32, labels (N,) → (N,)."""

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """logits (B, T, K), labels (B, T), weights (B, T) → scalar: (1/B) Σᵢ Σₜ wᵢₜ · loss(logitsᵢₜ, labelᵢₜ)."""
        # fp32: a log-softmax in bf16 loses the third digit, which is what separates look-alikes
        each = self.each(logits.float().flatten(0, 1), labels.flatten())
        return (each * weights.flatten()).sum() / len(logits)


LOSSES: Registry[type[Loss]] = Registry("loss", "fieldmark.model.losses", base=lambda: Loss)


def check_smoothing(share: float) -> None:
    """Raise RecipeError for a `label_smoothing` that is no share."""
    if not 0 <= share < 1:
        raise RecipeError(f"loss.label_smoothing = {share} is not allowed", "Expected a share in [0, 1).")
