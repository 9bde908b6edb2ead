"""Ordinal loss: cross-entropy with soft labels that know which grades are near.

Díaz & Marathe, "Soft labels for ordinal regression" (SORD, 2019): the target for grade y is

    qₖ = exp(−s · (k − y)²) / Σⱼ exp(−s · (j − y)²),    loss = −Σₖ qₖ · log softmax(z)ₖ,

so that a neighbour of the right grade costs less than a far one. The paper has s = 1 for grades one apart; the smaller
s, the more of a target lies on its neighbours. It takes logits of any head and adds nothing to the model. Probabilities
that were learnt so are wide by design: calibration narrows them where images are held out (holdout, crossfit).
Deviations: none; of the paper's distances it is the squared one.

Shapes: N targets, K classes.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.data.task import Task
from fieldmark.model.losses.loss import LOSSES, Loss

__all__ = ["OrdinalLoss"]


@LOSSES.register("ordinal")
@final
class OrdinalLoss(Loss):
    """−Σₖ qₖ · log softmax(z)ₖ."""

    targets: Tensor
    """(K, K) q for each class."""

    def __init__(self, task: Task, *, sharpness: float = 1.0) -> None:
        super().__init__()
        if sharpness <= 0:
            raise RecipeError(
                f"loss.sharpness = {sharpness} is not allowed", "Expected a number above 0; 0.5 to 2 is usual."
            )
        if not task.grades:
            raise RecipeError(
                "The loss 'ordinal' needs ordered classes, but neither their names nor the recipe define an order",
                'List them from lowest to highest, as in labels.order = ["none", "mild", "severe"], or use '
                "loss.name = 'cross_entropy'.",
            )
        grades = torch.tensor(task.grades, dtype=torch.float32)
        distances = (grades.unsqueeze(0) - grades.unsqueeze(1)).square()
        distances[:, list(task.unlearnt)] = torch.inf  # a grade without training images is no target
        self.register_buffer("targets", torch.softmax(-sharpness * distances, dim=1), persistent=False)

    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N, K), labels (N,) → (N,)."""
        return -(self.targets[labels] * F.log_softmax(logits, dim=1)).sum(dim=1)
