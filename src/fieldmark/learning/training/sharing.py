"""What processes that train one model exchange in a step, so that it is the step that one alone would take.

A process has a share of the batch, and its loss is weighed by that share: the sum of the gradients is then that of the
whole batch, whatever the shares. One sum carries them all. DistributedDataParallel, which sends some while others are
computed, wants the same parameters to learn in every step; here stages and heads rest, methods take several steps of a
batch, and a parameter that no loss reaches must have no gradient at all, or its momentum would move it.

BatchNorm that is not frozen normalises by the whole batch, too. PyTorch's SyncBatchNorm does so on GPUs only.

Shapes: C channels of a layer's input (B', C, …), of which B' images are this process's; R processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from fieldmark.core.ranks import gathered, size, summed
from fieldmark.learning.training.batchnorm import moving_layers
from fieldmark.model.model import Model

__all__ = ["add_gradients", "whole_statistics"]


@torch.no_grad()
def add_gradients(model: Model) -> None:
    """Give each parameter the sum of its gradients in all processes; none where none has one."""
    if size() == 1:
        return
    params = [param for param in model.parameters() if param.requires_grad]
    known = torch.tensor([param.grad is not None for param in params], dtype=torch.float32, device=params[0].device)
    grads = [torch.zeros_like(param) if param.grad is None else param.grad for param in params]
    packed = [*(grad.flatten() for grad in grads), known]
    *sums, counts = summed(torch.cat(packed)).split([len(one) for one in packed])
    for param, grad, total, count in zip(params, grads, sums, counts.tolist(), strict=True):
        param.grad = grad.copy_(total.view_as(grad)) if count else None


@contextmanager
def whole_statistics(model: nn.Module) -> Iterator[None]:
    """In this context, layers that normalise by a batch's statistics take those of the batch of all processes."""
    layers: list[Any] = [] if size() == 1 else moving_layers(model)
    for layer in layers:
        layer.forward = MethodType(_normalised, layer)
    try:
        yield
    finally:  # before anybody copies the model
        for layer in layers:
            del layer.forward


def _normalised(layer: Any, x: Tensor) -> Tensor:
    """(B', C, …) → the same shape: what the layer makes of these images among all of the batch."""
    values = x.float().transpose(0, 1).flatten(1)
    var, mean = torch.var_mean(values, dim=1, correction=0)
    every = gathered(torch.cat([mean, var, mean.new_tensor([values.shape[1]])]).unsqueeze(0))  # (R, 2 C + 1)
    means, variances, counts = every.split([len(mean), len(mean), 1], dim=1)
    number = counts.sum()
    mean = (means * counts).sum(0) / number
    var = ((variances + (means - mean).square()) * counts).sum(0) / number
    with torch.no_grad():
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(var * number / (number - 1), layer.momentum)
        layer.num_batches_tracked += 1
    scale = (var + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight
    along = (1, -1, *[1] * (x.ndim - 2))
    y = (x.float() - mean.view(along)) * scale.view(along)
    if layer.affine:
        y = y + layer.bias.view(along)
    y = y.to(x.dtype)
    for name in ("drop", "act"):  # of timm's layers, which do more than normalise
        if hasattr(layer, name):
            y = getattr(layer, name)(y)
    return y
