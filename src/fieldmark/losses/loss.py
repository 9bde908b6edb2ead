"""What a classification loss is: a number for each target, weighted and averaged in one place.

Shapes: B images, T targets per image (1 plain, 2 mixed), K classes, N = B · T.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from fieldmark.registry import Registry

__all__ = ["LOSSES", "Attribute", "Loss", "Task"]


@dataclass(frozen=True)
class Attribute:
    """Something else that is to be told of each image, beside its class."""

    name: str
    values: tuple[str, ...]
    """(V) what it may be."""
    counts: tuple[int, ...] = ()
    """(V) training images of each value; () where it is not known."""


@dataclass(frozen=True)
class Task:
    """What is to be told apart, as far as a loss or a head needs to know it."""

    num_classes: int
    counts: tuple[int, ...] = ()
    """(K) training images of each class; () where it is not known, as in a loaded bundle."""
    taxonomy: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Level → the name of each class at that level (K), the finest level first."""
    keypoints: tuple[str, ...] | None = None
    """Names of the key points, () where no training image has a visible one; none where it is not known, as in a loaded
    bundle."""
    grades: tuple[int, ...] = ()
    """(K) the place of each class in the order of grades, from 0; () where classes are not graded."""
    attributes: tuple[Attribute, ...] = ()


class Loss(nn.Module, ABC):
    """A classification loss. A subclass is final, takes (task) and its options as keyword-only arguments, and
    registers itself in LOSSES. What it keeps are non-persistent buffers: a bundle answers without them.
    """

    @abstractmethod
    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N, K) fp32, labels (N,) → (N,)."""

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """logits (B, T, K), labels (B, T), weights (B, T) → scalar: (1/B) Σᵢ Σₜ wᵢₜ · loss(logitsᵢₜ, labelᵢₜ)."""
        # fp32: a log-softmax in bf16 loses the third digit, which is what separates look-alikes
        each = self.each(logits.float().flatten(0, 1), labels.flatten())
        return (each * weights.flatten()).sum() / len(logits)


LOSSES: Registry[type[Loss]] = Registry("loss")
