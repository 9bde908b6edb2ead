"""Supervised contrast: images of a class are drawn together, and away from all others of the batch.

Khosla et al., "Supervised contrastive learning" (2020), equation 2 (L_out). With z the projected features, of unit
length, P(i) the other images of i's class and A(i) all other images of the batch:

    Lᵢ = −1/|P(i)| · Σ over p in P(i) of log( exp(zᵢ·z_p / τ) / Σ over a in A(i) of exp(zᵢ·z_a / τ) )

averaged over the images that have a partner; the others contribute nothing. The projection is a perceptron with one
hidden layer, as wide as the features, and is thrown away after training.

Deviations: the loss stands beside classification, in one training instead of two; and partners are other images of the
class instead of second views of the same, which `train.sampling = "class_batches"` provides and which costs no
second pass through the backbone. The weight beside classification, which the paper has no need of, is 0.1: divided by
τ = 0.1 the contrast is ten times as steep as logits are, and with a weight of 1 it drowned the classification.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES, Auxiliary

__all__ = ["SupCon", "supervised_contrast"]


def supervised_contrast(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """z (B, D) of unit length, labels (B,) → scalar; zero, with a gradient, where no two images share a class."""
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partners = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself
    similarity = (z @ z.T / temperature).masked_fill(itself, torch.finfo(z.dtype).min)
    log_shares = similarity.log_softmax(dim=1).masked_fill(~partners, 0)
    numbers = partners.sum(dim=1)
    each = -log_shares.sum(dim=1) / numbers.clamp_min(1)
    return each.sum() / (numbers > 0).sum().clamp_min(1)


@AUXILIARIES.register("supcon")
@final
class SupCon(Auxiliary):
    """projection → unit length → supervised contrast."""

    def __init__(self, width: int, *, weight: float = 0.1, temperature: float = 0.1, projection: int = 128) -> None:
        super().__init__()
        if weight <= 0:
            raise RecipeError(
                f"auxiliary.weight = {weight} is not allowed", "Expected a positive number, or auxiliary.name = 'none'."
            )
        if temperature <= 0:
            raise RecipeError(
                f"auxiliary.temperature = {temperature} is not allowed",
                "Expected a positive number; the paper uses 0.1.",
            )
        if projection < 1:
            raise RecipeError(
                f"auxiliary.projection = {projection} is not allowed", "Expected at least 1; the paper uses 128."
            )
        self.weight, self.temperature = weight, temperature
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features (B, D), labels (B,) → scalar."""
        projected = self.project(features)
        with torch.autocast(features.device.type, enabled=False):  # divided by 0.1, bf16 is wrong in the first digit
            return self.weight * supervised_contrast(F.normalize(projected.float()), labels, self.temperature)
