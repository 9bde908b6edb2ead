"""WIP."""

from __future__ import annotations
from typing import final
import torch, os
import torch.nn.functional as F
from torch import Tensor
from fieldmark.errors import RecipeError
from fieldmark.losses.loss import LOSSES, Loss, Task


@LOSSES.register("ordinal")
@final
class OrdinalLoss(Loss):
    def __init__(self, task: Task, *, kind: str = "sord", scale: float = 1.0) -> None:
        super().__init__()
        g = torch.tensor(task.grades or tuple(range(task.num_classes))).float()
        self.kind, self.scale = kind, scale
        d = (g[:, None] - g[None]).abs()
        self.register_buffer("d", d, persistent=False)
        self.register_buffer("order", g.argsort(), persistent=False)

    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        d = self.d[labels]
        logp = F.log_softmax(logits, 1)
        ce = -logp.gather(1, labels[:, None])[:, 0]
        k = d.shape[1]
        if self.kind == "sord":
            q = torch.softmax(-self.scale * d.square(), 1)
            return -(q * logp).sum(1)
        if self.kind == "sordabs":
            q = torch.softmax(-self.scale * d, 1)
            return -(q * logp).sum(1)
        p = logp.exp()
        if self.kind.endswith("emd"):
            cp = p[:, self.order].cumsum(1)
            cy = (d == 0).float()[:, self.order].cumsum(1)
            emd = (cp - cy).square().sum(1)
            return self.scale * emd + (ce if self.kind == "ceemd" else 0)
        if self.kind == "cesq":
            return ce + self.scale * (p * d.square()).sum(1)
        raise ValueError
