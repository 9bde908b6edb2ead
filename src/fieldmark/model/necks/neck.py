"""From a feature map to one embedding. Without a neck it is the backbone's own pooling.

Shapes: B images, C channels, h × w cells, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from fieldmark.core.registry import Registry

__all__ = ["NECKS", "Neck"]


class Neck(nn.Module, ABC):
    """Feature map → embedding. A subclass is final, takes (channels) and its options as keyword-only arguments, sets
    `width`, and registers itself in NECKS.
    """

    width: int
    """D."""
    starts_as_mean: ClassVar[bool] = False
    """Whether it is the mean over cells before it has learnt anything, so that a head may start from a probe."""

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, D)."""


NECKS: Registry[type[Neck]] = Registry("neck", "fieldmark.model.necks", base=lambda: Neck)
