"""Plain transfer: a pretrained backbone, its pooling or another neck, a head.

Kornblith et al., "Do better ImageNet models transfer better?" (2019). Deviation: optional dropout before the head.
"""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.model.backbone import Backbone
from fieldmark.model.batch import Batch
from fieldmark.model.head import Heads
from fieldmark.model.method import METHODS, Losses, Method, Prediction

__all__ = ["Transfer"]


@METHODS.register("transfer")
@final
class Transfer(Method):
    """backbone → pooling → head."""

    def __init__(self, backbone: Backbone, heads: Heads, *, dropout: float = 0.0) -> None:
        super().__init__(backbone)
        if not 0 <= dropout < 1:
            raise RecipeError(f"method.dropout = {dropout} is not allowed", "Expected a share in [0, 1).")
        self.dropout = dropout
        self.head = heads(backbone.width)

    def forward(self, images: Tensor) -> Prediction:
        """(B, 3, S, S) → logits (B, K), embedding (B, D)."""
        embedding = self.backbone(images).pooled
        return Prediction(self.head(embedding), embedding, embedding)

    def losses(self, batch: Batch, step: int) -> Losses:
        """The head's."""
        embedding = self.backbone(batch.images).pooled
        terms = self.head.losses(F.dropout(embedding, self.dropout, self.training), batch)
        return Losses(terms, embedding)

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor:
        """(B, h, w) for labels (B,): class activation maps (Zhou et al. 2016) of a linear head on averaged cells.

        With any other head, neck or pooling gradient × activation, of which they are a case; zeros on a backbone that
        answers by a class token.
        """
        return self.backbone.shares(images, lambda pooled: self.head(pooled).gather(1, labels.unsqueeze(1)).squeeze(1))
