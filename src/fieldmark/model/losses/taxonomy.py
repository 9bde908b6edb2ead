"""Taxonomy loss: cross-entropy at every level of a taxonomy, on probability that is summed up the tree.

Bertinetto et al., "Making better mistakes: leveraging class hierarchies with deep networks" (2020), hierarchical
cross-entropy: with the class C⁰ = y, its ancestors C¹, C², … (genus, family, …) and H levels below the root,

    loss = −Σₕ λₕ · log p(Cʰ | Cʰ⁺¹),    λₕ = exp(−α · (H − 1 − h)),    p(Cʰ) = Σ p of the classes under Cʰ,

so α = 0 is cross-entropy, and a larger α cares less for what lies within the finer levels. As p(Cʰ | Cʰ⁺¹) is
p(Cʰ) / p(Cʰ⁺¹), the sum is computed as −Σₕ (λₕ − λₕ₋₁) · log p(Cʰ) with λ₋₁ = 0: weights that sum to one, each on the
mass under one ancestor. Deviations: levels that divide nothing, or as finely as the classes, are left out; and a share
ε of the loss is the mean of −log p over all classes with training images, which with α = 0 is label smoothing.

Shapes: N targets, K classes, H levels from the class upwards.
"""

from __future__ import annotations

import itertools
import math
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.data.task import Task
from fieldmark.model.losses.loss import LOSSES, Loss, check_smoothing

__all__ = ["TaxonomyLoss"]


@LOSSES.register("taxonomy")
@final
class TaxonomyLoss(Loss):
    """−Σₕ weightₕ · log p(ancestorₕ)."""

    parents: Tensor
    """(H, K) a number for the name of each class at each level, the class itself first."""
    learnt: Tensor
    """(K',) the classes with training images."""

    def __init__(self, task: Task, *, alpha: float = 0.2, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if alpha < 0:
            raise RecipeError(
                f"loss.alpha = {alpha} is not allowed", "Expected 0 (cross-entropy) or more; 0.1 to 0.6 is usual."
            )
        check_smoothing(label_smoothing)
        levels = task.taxonomy.steps if task.taxonomy else ()
        if task.taxonomy and not levels:
            raise RecipeError(
                "The loss 'taxonomy' needs a level that groups some classes but not all, and there is none among "
                f"{', '.join(task.taxonomy)}",
                "Add classes that share, for example, a genus, or use loss.name = 'cross_entropy'.",
            )
        if not levels:
            raise RecipeError(
                "The loss 'taxonomy' needs a taxonomy of the classes, but the data has none",
                "Nest the class folders (genus/species/), add columns such as level.genus to the table, or use "
                "loss.name = 'cross_entropy'.",
            )
        numbers = [list(range(task.num_classes)), *(level.parent.tolist() for level in levels)]
        self.register_buffer("parents", torch.tensor(numbers), persistent=False)
        self.register_buffer("learnt", torch.tensor(task.learnt), persistent=False)
        self.label_smoothing = label_smoothing
        kept = [math.exp(-alpha * (len(levels) - h)) for h in range(len(levels) + 1)]
        self.weights = [coarse - fine for fine, coarse in itertools.pairwise([0.0, *kept])]

    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N, K), labels (N,) → (N,)."""
        log_p = F.log_softmax(logits, dim=1)
        loss = torch.zeros(len(labels), device=logits.device)
        for weight, parent in zip(self.weights, self.parents, strict=True):
            under = parent == parent[labels].unsqueeze(1)  # (N, K)
            # in logarithms: the mass of a far branch is smaller than the smallest number
            loss = loss - weight * log_p.masked_fill(~under, -math.inf).logsumexp(dim=1)
        return torch.lerp(loss, -log_p[:, self.learnt].mean(dim=1), self.label_smoothing)
