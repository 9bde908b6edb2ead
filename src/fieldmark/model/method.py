"""The contract of a method: Batch → Method → Prediction.

Shapes: B images, K classes, D embedding, F pooled features, M parts, A attributes of V values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from fieldmark.core.registry import Registry
from fieldmark.model.backbone import Backbone
from fieldmark.model.batch import Batch
from fieldmark.model.head import Head

__all__ = ["METHODS", "Losses", "Method", "Prediction"]


class Prediction(NamedTuple):
    """What a method answers."""

    logits: Tensor
    """(B, K)."""
    embedding: Tensor
    """(B, D), as it comes; what a user gets of it, `Predictor.embed`, has unit length."""
    pooled: Tensor
    """(B, F) what the backbone made of the images themselves (`Features.pooled`): attributes are read from it."""
    parts: Tensor | None = None
    """(B, M, h, w) part maps. Where the method `has_background`, they sum to 1 in each cell and the last of them is the
    background: the share of a cell that belongs to no part."""
    attributes: tuple[Tensor, ...] = ()
    """Logits (B, V) of each attribute that is learnt, in the recipe's order; filled in by `Model`."""


class Losses(NamedTuple):
    """What a method learns from in one step."""

    terms: dict[str, Tensor]
    """Named scalar losses, summed by the loop."""
    pooled: Tensor | None = None
    """(B, F) `Features.pooled` of `batch.images` as they are, from the one step of a batch that looks at them:
    attributes are learnt from it. None in the other steps, which look at shuffled or cropped images."""


class Method(nn.Module, ABC):
    """One approach to the problem: backbone → parts or pooling → head, and how it is trained.

    A subclass is final, takes (backbone, heads) and its options as keyword-only arguments, sets `head`, and registers
    itself in METHODS.
    """

    head: Head
    """What the answer comes from. A probe fits its classifier where that is linear and nothing new stands before it."""
    steps_per_batch: int = 1
    """Optimiser steps that a batch deserves."""
    pools: ClassVar[bool] = False
    """Whether it makes its embedding of the feature map alone: a neck would have no place."""
    adds_layers: ClassVar[bool] = False
    """Whether layers of its own stand between the backbone and the head: a logistic regression alone would leave them
    as they were drawn."""
    has_background: ClassVar[bool] = False
    """Whether the last of its part maps is the background."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @classmethod
    def needs_hard_labels(cls, options: Mapping[str, Any]) -> bool:
        """Whether, with these options, it can learn only from pictures that are not mixed."""
        return False

    @abstractmethod
    def forward(self, images: Tensor) -> Prediction:
        """Answer for normalised images (B, 3, S, S). Plain enough for `torch.export`."""

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> Losses:
        """The losses of one step; `step` counts from 0 within the batch."""

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """(B, h, w): what each cell of normalised images adds to the logit of their labels (B,), for mixes that weigh
        by it. No gradients; None where a method cannot tell.
        """
        return None


METHODS: Registry[type[Method]] = Registry("method", "fieldmark.methods", base=lambda: Method)
