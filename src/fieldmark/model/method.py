"""The contract of a method: Batch → Method → Prediction.

Shapes: B images, T targets per image (1 plain, 2 mixed), K classes, D embedding, P key points, M parts, A attributes of
V values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from fieldmark.model.attributes import AttributeHeads
from fieldmark.model.backbone import Backbone, Features
from fieldmark.registry import Registry

__all__ = ["METHODS", "Batch", "LossModule", "Method", "Prediction"]


@dataclass(frozen=True)
class Batch:
    """What one optimiser step learns from."""

    images: Tensor
    """(B, 3, S, S) normalised."""
    labels: Tensor
    """(B, T) int64."""
    weights: Tensor
    """(B, T); every classification loss is Σₜ weightₜ · loss(labelₜ)."""
    rows: Tensor
    """(B,) rows of the catalogue."""
    progress: float
    """Share of the training that is done, in [0, 1); for schedules."""
    boxes: Tensor | None = None
    """(B, 4) x, y, width, height in pixels of `images`; NaN where there is none."""
    keypoints: Tensor | None = None
    """(B, P, 3) x, y, visible, in pixels of `images`."""
    attributes: Tensor | None = None
    """(B, A) int64 the value of each attribute that is learnt, −1 where unknown; of the images' own rows."""


class Prediction(NamedTuple):
    """What a method answers."""

    logits: Tensor
    """(B, K)."""
    embedding: Tensor
    """(B, D), as it comes; what a user gets of it, `Bundle.embed`, has unit length."""
    parts: Tensor | None = None
    """(B, M, h, w) part maps. Where the method `has_background`, they sum to 1 in each cell and the last of them is the
    background: the share of a cell that belongs to no part."""
    attributes: tuple[Tensor, ...] = ()
    """Logits (B, V) of each attribute that is learnt, in the recipe's order; from `Method.answer`."""


class Method(nn.Module, ABC):
    """One approach to the problem: backbone → parts or pooling → head, and how it is trained.

    A subclass is final, takes (backbone, heads) and its options as keyword-only arguments, and registers
    itself in METHODS.
    """

    steps_per_batch: int = 1
    """Optimiser steps that a batch deserves."""
    pools: ClassVar[bool] = False
    """Whether it makes its embedding of the feature map alone: a neck would have no place."""
    adds_layers: ClassVar[bool] = False
    """Whether layers of its own stand between the backbone and the head: a logistic regression alone would leave them
    as they were drawn."""
    has_background: ClassVar[bool] = False
    """Whether the last of its part maps is the background."""
    attributes: AttributeHeads | None
    """Heads for further attributes; no method need know of them."""
    mirrored: bool
    """Whether `answer` looks at mirror images, too."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.attributes = None
        self.mirrored = False

    @classmethod
    def needs_hard_labels(cls, options: Mapping[str, Any]) -> bool:
        """Whether, with these options, it can learn only from pictures that are not mixed."""
        return False

    @abstractmethod
    def forward(self, images: Tensor) -> Prediction:
        """Answer for normalised images (B, 3, S, S)."""

    def answer(self, images: Tensor) -> Prediction:
        """`forward`, with the attributes where there are heads for them; where it is `mirrored`, the mean of all that a
        user gets over the images and their mirror images. Maps are those of the images as they are.
        """
        seen = self._seen(images)
        if not self.mirrored:
            return seen
        other = self._seen(images.flip(-1))
        return seen._replace(
            logits=(seen.logits + other.logits) / 2,
            embedding=(seen.embedding + other.embedding) / 2,
            attributes=tuple((one + two) / 2 for one, two in zip(seen.attributes, other.attributes, strict=True)),
        )

    def _seen(self, images: Tensor) -> Prediction:
        if self.attributes is None:
            prediction: Prediction = self(images)
            return prediction
        with _overheard(self.backbone, images) as features:
            prediction = self(images)
        assert features, "a method looks at the images that it is asked about"
        return prediction._replace(attributes=self.attributes(features[0].pooled))

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Named scalar losses, summed by the loop; `step` counts from 0 within the batch."""

    def class_maps(self, images: Tensor, labels: Tensor) -> Tensor | None:
        """(B, h, w): what each cell of normalised images adds to the logit of their labels (B,), for mixes that weigh
        by it. No gradients; None where a method cannot tell.
        """
        return None


class LossModule(nn.Module):
    """A method seen from the loop: `forward` is `method.losses`, so that DDP can wrap it."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """`method.losses(batch, step)`, and that of the attributes in the step that looks at the whole images."""
        method = self.method
        if method.attributes is None or batch.attributes is None:
            return method.losses(batch, step)
        with _overheard(method.backbone, batch.images) as features:
            losses = method.losses(batch, step)
        if not features:
            return losses
        own = batch.weights[:, 0]  # of a mixed image, the share that is its own: its row is the one that is known
        return losses | {"attributes": method.attributes.loss(features[0].pooled, batch.attributes, own)}


@contextmanager
def _overheard(backbone: Backbone, images: Tensor) -> Iterator[list[Features]]:
    """What the backbone sees in these very images while a method works with them.

    So attributes are learnt beside any method, from the pooled features, without a second pass and without a word in
    the method. Crops, shuffled tiles and second views are other images.
    """
    features: list[Features] = []

    def overhear(module: nn.Module, inputs: tuple[Tensor, ...], output: Features) -> None:
        if inputs and inputs[0] is images:
            features.append(output)

    handle = backbone.register_forward_hook(overhear)
    try:
        yield features
    finally:
        handle.remove()


METHODS: Registry[type[Method]] = Registry("method")
