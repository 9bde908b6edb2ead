"""Losses for labels (B, T) and weights (B, T): every classification loss is Σₜ weightₜ · loss(labelₜ)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["cross_entropy"]


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Weighted cross-entropy with label smoothing (Szegedy et al. 2016), mean over the batch.

    logits (B, K), labels (B, T), weights (B, T) → scalar: (1/B) Σᵢ Σₜ wᵢₜ · CE(logitsᵢ, labelᵢₜ).
    """
    num_targets = labels.shape[1]
    # fp32: a log-softmax in bf16 loses the third digit, which is what separates look-alikes
    each = F.cross_entropy(
        logits.float().repeat_interleave(num_targets, 0), labels.flatten(), reduction="none", label_smoothing=smoothing
    )
    return (each * weights.flatten()).sum() / len(logits)
