"""Heads for attributes: what else is to be told of an image, beside its class.

One linear head each on the backbone's pooled features, learnt by cross-entropy. That values are rare would be learnt,
too, and a head would then rather not name them. So each head's loss is adjusted by how common its values are (Menon et
al., "Long-tail learning via logit adjustment", 2021): with τ = `balance` = 1 it answers as if all were equally common.

Shapes: B images, D features, A attributes of V values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from fieldmark.data.task import Attribute, Task
from fieldmark.model.losses.cross_entropy import CrossEntropy

__all__ = ["AttributeHeads"]


@final
class AttributeHeads(nn.Module):
    """Pooled features → the logits of each attribute."""

    def __init__(
        self, width: int, attributes: Sequence[Attribute], *, weight: float = 1.0, balance: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = weight
        self.linear = nn.ModuleList(nn.Linear(width, len(one.values)) for one in attributes)
        self.balanced = nn.ModuleList(
            CrossEntropy(Task(len(one.values), one.counts), logit_adjustment=balance) for one in attributes
        )

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """(B, D) → (B, V) each."""
        return tuple(linear(features) for linear in self.linear)

    def loss(self, features: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """features (B, D), targets (B, A) with −1 where unknown, weights (B,) → scalar.

        The mean over attributes and images; what is unknown adds nothing, so every value that is known counts alike.
        """
        total = torch.zeros((), device=features.device)
        for logits, loss, target in zip(self(features), self.balanced, targets.unbind(1), strict=True):
            assert isinstance(loss, CrossEntropy)
            each = loss.each(logits.float(), target.clamp_min(0))
            total = total + (each * weights * (target >= 0)).sum()
        return self.weight * total / targets.numel()
