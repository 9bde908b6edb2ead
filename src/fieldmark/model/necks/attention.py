"""Gated attention pooling.

Ilse, Tomczak & Welling, "Attention-based deep multiple instance learning" (2018), equation 9: with the cells of the map
as the instances hₖ of a bag, z = Σₖ aₖ hₖ and a = softmax over k of wᵀ(tanh(V hₖ) ⊙ sigmoid(U hₖ)). The embedding is a
weighted mean of cells, so it is as wide as the map and tells where it looked.

Deviations: scores are of layer-normalised cells, since backbones differ in scale and a large one would saturate both
gates; w starts at zero, so that training starts from the mean over cells, which pretrained features were made for.
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.model.necks.neck import NECKS, Neck

__all__ = ["AttentionPooling"]


@NECKS.register("attention")
@final
class AttentionPooling(Neck):
    """The mean over cells, weighted by what is in them."""

    starts_as_mean: ClassVar[bool] = True

    def __init__(self, channels: int, *, hidden: int = 128) -> None:
        super().__init__()
        if hidden < 1:
            raise RecipeError(f"neck.hidden = {hidden} is not allowed", "Expected at least 1; the paper uses 128.")
        self.width = channels
        self.norm = nn.LayerNorm(channels)
        self.content = nn.Linear(channels, hidden)  # V
        self.gate = nn.Linear(channels, hidden)  # U
        self.score = nn.Linear(hidden, 1, bias=False)  # w; the softmax would cancel a bias
        nn.init.zeros_(self.score.weight)

    def weights(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, h, w), the share of each cell in the embedding."""
        cells = self.norm(features.permute(0, 2, 3, 1))
        scores = self.score(self.content(cells).tanh() * self.gate(cells).sigmoid()).squeeze(-1)
        return scores.float().flatten(1).softmax(dim=1).view_as(scores)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, C)."""
        return torch.einsum("bchw,bhw->bc", features, self.weights(features))
