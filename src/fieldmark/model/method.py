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
    """The answer of a method."""

    logits: Tensor
    """(B, K)."""
    embedding: Tensor
    """(B, D), of any length; `Predictor.embed` gives users embeddings of unit length."""
    pooled: Tensor
    """(B, F) what the backbone made of the images themselves (`Features.pooled`): attributes are read from it."""
    parts: Tensor | None = None
    """(B, M, h, w) part maps. Where the method `has_background`, they sum to 1 in each cell and the last of them is the
    background: the share of a cell that belongs to no part."""
    attributes: tuple[Tensor, ...] = ()
    """Logits (B, V) of each attribute that is learnt, in the recipe's order; filled in by `Model`."""


class Losses(NamedTuple):
    """The losses of one step."""

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
    """The last layers, which give the answer. A probe can fit a linear classifier with no new layers before it."""
    steps_per_batch: int = 1
    """The number of optimiser steps for each batch."""
    pools: ClassVar[bool] = False
    """Whether the embedding is made from the feature map alone, which leaves no place for a neck."""
    adds_layers: ClassVar[bool] = False
    """Whether the method has its own layers between the backbone and the head, which a logistic regression would not
    train."""
    has_background: ClassVar[bool] = False
    """Whether the last of its part maps is the background."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    @classmethod
    def needs_hard_labels(cls, options: Mapping[str, Any]) -> bool:
        """Whether, with these options, the method can learn only from images that are not mixed."""
        return False

    @classmethod
    def needs_keypoints(cls, options: Mapping[str, Any]) -> bool:
        """Whether, with these options, the method learns from `Batch.keypoints`. Then training images show some, and
        are not mixed: key points of two pictures in one would be learnt as those of the first."""
        return False

    @abstractmethod
    def forward(self, images: Tensor) -> Prediction:
        """Answer for normalised images (B, 3, S, S). Plain enough for `torch.export`."""

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> Losses:
        """The losses of one step; `step` counts from 0 within the batch.

        Several processes may share a batch, and each then has a part of its images: a loss is their mean, or what it
        depends on of all images is gathered first (`core.ranks.gathered`), as is whatever moves buffers.
        """

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """(B, h, w): what each cell of normalised images adds to the logit of their labels (B,), for mixes that weigh
        by it. There are no gradients. The result is None if a method has no class maps.
        """
        return None


METHODS: Registry[type[Method]] = Registry("method", "fieldmark.methods", base=lambda: Method)
