"""Cross-entropy, with label smoothing and logit adjustment.

Label smoothing: Szegedy et al., "Rethinking the Inception architecture" (2016): the target is 1 − ε + ε/K for the
label and ε/K for the others; classes without training images have no share. Logit adjustment: Menon et al., "Long-tail
learning via logit adjustment" (2021): the loss is that of z + τ · log π, with π the classes' shares of the training
images, so that the plain logits z, which answer, favour no class for being frequent.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.data.task import Task
from fieldmark.model.losses.loss import LOSSES, Loss, check_smoothing

__all__ = ["CrossEntropy"]


@LOSSES.register("cross_entropy")
@final
class CrossEntropy(Loss):
    """−log softmax(z)ᵧ."""

    shift: Tensor
    """(K,) τ · log π."""
    learnt: Tensor | None
    """(K',) the classes with training images; None if all have some."""

    def __init__(self, task: Task, *, label_smoothing: float = 0.0, logit_adjustment: float = 0.0) -> None:
        super().__init__()
        check_smoothing(label_smoothing)
        if logit_adjustment < 0:
            raise RecipeError(
                f"loss.logit_adjustment = {logit_adjustment} is not allowed", "Expected 0 (off) or more; 1 is usual."
            )
        self.label_smoothing = label_smoothing
        # a class without training images is learnt by nobody: counting it as one image keeps the logarithm finite
        counts = torch.tensor(task.counts or (1,) * task.num_classes, dtype=torch.float32).clamp_min(1)
        self.register_buffer("shift", logit_adjustment * (counts / counts.sum()).log(), persistent=False)
        self.adjusted = logit_adjustment > 0
        self.register_buffer("learnt", torch.tensor(task.learnt) if task.unlearnt else None, persistent=False)

    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """logits (N, K), labels (N,) → (N,)."""
        if self.adjusted:
            logits = logits + self.shift
        if self.learnt is None:
            return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        log_p = F.log_softmax(logits, dim=1)
        smooth = -log_p[:, self.learnt].mean(dim=1)
        return torch.lerp(F.nll_loss(log_p, labels, reduction="none"), smooth, self.label_smoothing)
