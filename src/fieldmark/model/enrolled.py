"""Classes that were enrolled from photographs: the logits of learnt classes and the embedding → those of all classes.

The arithmetic is that of `fieldmark.evaluation.enrolment.Gate`, as part of a network. Nothing here is learnt.

Shapes: B images, K learnt classes, E enrolled ones, D embedding.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Enrolled"]


@final
class Enrolled(nn.Module):
    """Adds enrolled classes to an answer."""

    centre: Tensor
    axes: Tensor
    precision: Tensor
    slope: Tensor
    level: Tensor

    def __init__(
        self,
        centre: Tensor,
        axes: Tensor,
        expected: Tensor,
        variance: Tensor,
        *,
        num_new: int,
        temperature: float,
        offset: float,
    ) -> None:
        """centre (D,), axes (D, D), expected and variance (C + E, D), where C of the K classes were learnt."""
        super().__init__()
        self.num_new, self.temperature, self.offset = num_new, temperature, offset
        buffers = {
            "centre": centre,
            "axes": axes,
            "precision": 1 / variance,
            "slope": expected / variance,
            "level": (expected.square() / variance + variance.log()).sum(1),
        }
        for name, values in buffers.items():
            self.register_buffer(name, values.float(), persistent=False)  # the bundle keeps what they are made of

    def forward(self, logits: Tensor, embedding: Tensor) -> Tensor:
        """logits (B, K), embedding (B, D) → logits (B, K + E)."""
        own = (F.normalize(embedding.float(), dim=1) - self.centre) @ self.axes
        scores = -0.5 * (own.square() @ self.precision.T - 2 * own @ self.slope.T + self.level)
        lead = scores[:, -self.num_new :] - scores[:, : -self.num_new].logsumexp(1, keepdim=True)
        new = logits.logsumexp(1, keepdim=True) + lead / self.temperature - self.offset
        return torch.cat([logits, new.to(logits.dtype)], dim=1)
