"""Proxy-Anchor: each class's proxy draws the batch's images of the class near, and keeps all others away.

Kim, Kim, Cho & Kwak, "Proxy anchor loss for deep metric learning" (2020). With s(f, p) the cosine of an image and a
proxy, P⁺ the proxies of classes in the batch, X⁺ and X⁻ the batch's images of a proxy's class and the others:

    1/|P⁺| Σ over P⁺ of log(1 + Σ over X⁺ of exp(−α (s − δ)))  +  1/|P| Σ over P of log(1 + Σ over X⁻ of exp(α (s + δ)))

A hard image has the larger share in its proxy's sum, so images of a batch weigh each other, as in losses of pairs, at
the cost of a classification. The proxies are the weights of the head: `head.name = "cosine"` with a fixed scale α.

Deviations: α · s are the head's logits, so the margin δ is given in their unit, α · δ (the paper's 32 · 0.1); any head
works. An image of two classes (a mix) counts for each with its share. Shapes: B images, T targets, K classes.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.core.ranks import gathered
from fieldmark.data.task import Task
from fieldmark.model.losses.loss import LOSSES, Loss

__all__ = ["ProxyAnchor"]


@LOSSES.register("proxy_anchor")
@final
class ProxyAnchor(Loss):
    """log(1 + Σ exp) of a batch's images, for each class."""

    learnt: Tensor
    """(K',) the classes with training images; the others have nothing to draw near."""

    def __init__(self, task: Task, *, margin: float = 3.2) -> None:
        super().__init__()
        if margin < 0:
            raise RecipeError(f"loss.margin = {margin} is not allowed", "Expected 0 or more; the paper has 3.2.")
        self.margin = margin
        self.register_buffer("learnt", torch.tensor(task.learnt), persistent=False)

    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N, K), labels (N,) → (N,): the loss of a batch of one image."""
        ones = torch.ones(1, 1, device=logits.device)
        return torch.stack(
            [self(z.view(1, 1, -1), label.view(1, 1), ones) for z, label in zip(logits, labels, strict=True)]
        )

    def forward(self, logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """logits (B, T, K), labels (B, T), weights (B, T) → scalar."""
        logits, labels, weights = gathered(logits), gathered(labels), gathered(weights)
        shares = torch.zeros(len(logits), logits.shape[2], device=logits.device)
        shares = shares.scatter_add(1, labels, weights.float())[:, self.learnt]
        z = logits.float().mean(dim=1)[:, self.learnt]
        draws = _log_one_plus_sum(shares, -(z - self.margin))
        counts = weights.float().sum(dim=1, keepdim=True)  # an image that counts less is no stranger to its own class
        repels = _log_one_plus_sum(counts - shares, z + self.margin)
        present = (shares > 0).any(dim=0)
        return draws.sum() / present.sum().clamp_min(1) + repels.mean()


def _log_one_plus_sum(shares: Tensor, exponents: Tensor) -> Tensor:
    """log(1 + Σ over B of share · exp(exponent)), (B, K) each → (K,)."""
    # a share of zero would have a gradient of zero times infinity
    weighed = torch.where(shares > 0, exponents + shares.clamp_min(1e-12).log(), torch.finfo(exponents.dtype).min)
    return F.softplus(weighed.logsumexp(dim=0))
