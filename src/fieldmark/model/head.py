"""From an embedding to logits and losses: the end of every method, put together from pieces that a recipe names.

Shapes: B images, T targets per image, K classes, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from fieldmark.core.ranks import gathered
from fieldmark.core.recipe import NONE, Choice
from fieldmark.data.task import Task
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES, Auxiliary
from fieldmark.model.batch import Batch
from fieldmark.model.heads.classifier import CLASSIFIERS, Classifier
from fieldmark.model.losses.loss import LOSSES, Loss

__all__ = ["SILENT", "Head", "Heads"]

SILENT = -1e4
"""The logit of a class that cannot be: finite, so that every number derived from it is, and a probability of zero."""


@final
class Head(nn.Module):
    """A classifier, the loss that it learns by, and auxiliaries by name.

    Classes without training images are silenced: nothing says where their logits should be, so they are all but
    impossible, in what is learnt and in what is answered.
    """

    silence: Tensor | None
    """(K,) added to the logits; None if all classes are learnt."""

    def __init__(self, classifier: Classifier, loss: Loss, auxiliaries: Mapping[str, Auxiliary], task: Task) -> None:
        super().__init__()
        self.classifier = classifier
        self.loss = loss
        self.auxiliaries = nn.ModuleDict(auxiliaries)
        silence = torch.zeros(task.num_classes)
        silence[list(task.unlearnt)] = SILENT
        self.register_buffer("silence", silence if task.unlearnt else None, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → logits (B, K)."""
        return self.silenced(self.classifier(features))

    def silenced(self, logits: Tensor) -> Tensor:
        """Logits (…, K) in which classes that were not learnt are all but impossible."""
        return logits if self.silence is None else logits + self.silence

    def losses(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of features (B, D)."""
        logits = self.silenced(self.classifier.towards(features, batch.labels))
        losses = {"classification": self.loss(logits, batch.labels, batch.weights)}
        for name, auxiliary in self.auxiliaries.items():
            assert batch.labels.shape[1] == 1, "a recipe that mixes images has no auxiliary"
            losses[name] = auxiliary(gathered(features), gathered(batch.labels[:, 0]))
        return losses

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
    auxiliary: Choice

    def __call__(self, width: int) -> Head:
        """A head for features (B, width). Raises RecipeError for a name or an option that there is not."""
        classifier, loss = CLASSIFIERS.get(self.classifier.name), LOSSES.get(self.loss.name)
        auxiliaries = {}
        if (name := self.auxiliary.name) != NONE:
            auxiliaries[name] = AUXILIARIES.get(name)(width, **AUXILIARIES.complete(*self.auxiliary.pair))
        return Head(
            classifier(width, self.task.num_classes, **CLASSIFIERS.complete(*self.classifier.pair)),
            loss(self.task, **LOSSES.complete(*self.loss.pair)),
            auxiliaries,
            self.task,
        )
