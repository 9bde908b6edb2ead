"""From an embedding to logits and losses: the end of every method, put together from pieces that a recipe names.

Shapes: B images, T targets per image, K classes, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from fieldmark.losses.loss import LOSSES, Loss, Task
from fieldmark.model.method import Batch
from fieldmark.recipe import Choice
from fieldmark.registry import Registry

__all__ = ["CLASSIFIERS", "Classifier", "Head", "Heads", "LinearClassifier"]


class Classifier(nn.Module, ABC):
    """Features → logits. A subclass is final, takes (width, num_classes) and its options as keyword-only arguments,
    and registers itself in CLASSIFIERS.
    """

    @abstractmethod
    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K)."""

    def towards(self, features: Tensor, labels: Tensor) -> Tensor:
        """The logits that are learnt from, one set for each target: features (B, D), labels (B, T) → (B, T, K).

        Where a margin makes the label harder to reach they depend on the label.
        """
        return self(features).unsqueeze(1).expand(-1, labels.shape[1], -1)


CLASSIFIERS: Registry[type[Classifier]] = Registry("head")


@CLASSIFIERS.register("linear")
@final
class LinearClassifier(Classifier):
    """logits = W · features + b."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K)."""
        logits: Tensor = self.linear(features)
        return logits


@final
class Head(nn.Module):
    """A classifier and the loss that it learns by."""

    def __init__(self, classifier: Classifier, loss: Loss) -> None:
        super().__init__()
        self.classifier = classifier
        self.loss = loss

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K)."""
        logits: Tensor = self.classifier(features)
        return logits

    def losses(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of features (B, D)."""
        logits = self.classifier.towards(features, batch.labels)
        return {"classification": self.loss(logits, batch.labels, batch.weights)}

    def directions(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B, D) for labels (B,): where each label's logit rises fastest from features (B, D), its gradient.

        The class's weights where the head is linear.
        """
        with torch.enable_grad():
            features = features.detach().requires_grad_()
            logits = self.classifier(features).gather(1, labels.unsqueeze(1))
            (gradient,) = torch.autograd.grad(logits.sum(), features)
        return gradient


@dataclass(frozen=True)
class Heads:
    """Makes the heads of a method, as the recipe has them."""

    task: Task
    classifier: Choice
    loss: Choice

    def __call__(self, width: int) -> Head:
        """A head for features (B, width). Raises RecipeError for a name or an option that there is not."""
        classifier, loss = CLASSIFIERS.get(self.classifier.name), LOSSES.get(self.loss.name)
        return Head(
            classifier(width, self.task.num_classes, **CLASSIFIERS.complete(*self.classifier.pair)),
            loss(self.task, **LOSSES.complete(*self.loss.pair)),
        )
