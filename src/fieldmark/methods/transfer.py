"""Plain transfer: a pretrained backbone, its own pooling and a linear head.

Kornblith, Shlens & Le, "Do better ImageNet models transfer better?" (CVPR 2019); label smoothing after Szegedy et
al. (2016). Logits are W · dropout(pooled) + b; the embedding is the pooled feature before dropout.
"""

from __future__ import annotations

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.errors import RecipeError
from fieldmark.losses import cross_entropy
from fieldmark.model.backbone import Backbone
from fieldmark.model.method import METHODS, Batch, Method, Prediction

__all__ = ["Transfer"]


@METHODS.register("transfer")
@final
class Transfer(Method):
    """backbone → pooling → linear head."""

    def __init__(
        self, backbone: Backbone, num_classes: int, *, label_smoothing: float = 0.0, dropout: float = 0.0
    ) -> None:
        super().__init__(backbone)
        for name, value in (("label_smoothing", label_smoothing), ("dropout", dropout)):
            if not 0 <= value < 1:
                raise RecipeError(f"method.{name} = {value}", "Expected a share in [0, 1).")
        self.label_smoothing = label_smoothing
        self.dropout = dropout
        self.head = nn.Linear(backbone.width, num_classes)

    def forward(self, images: Tensor) -> Prediction:
        """(B, 3, S, S) → logits (B, K), embedding (B, D)."""
        embedding = self.backbone(images).pooled
        return Prediction(self.head(F.dropout(embedding, self.dropout, self.training)), embedding)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Cross-entropy."""
        logits = self(batch.images).logits
        return {"cross_entropy": cross_entropy(logits, batch.labels, batch.weights, smoothing=self.label_smoothing)}
