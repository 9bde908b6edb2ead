"""BatchNorm statistics: whose pictures they describe, and whether training moves them.

Ioffe & Szegedy, "Batch normalization" (2015). Shapes: C channels of a layer's input (B, C, h, w).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fieldmark.model.inference import autocast
from fieldmark.model.method import Method

__all__ = ["adopt_statistics", "fixed_layers", "freeze_statistics", "refresh_statistics"]

_BatchNorm = nn.modules.batchnorm._BatchNorm


def _layers(method: Method) -> list[_BatchNorm]:
    return [m for m in method.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def fixed_layers(method: Method) -> list[_BatchNorm]:
    """Layers that do not learn: one whose scale stays as it is must keep its statistics, or its output would move."""
    return [layer for layer in _layers(method) if layer.affine and not layer.weight.requires_grad]


def freeze_statistics(method: Method) -> None:
    """Let each layer normalise by its running statistics, in training too; scale and shift still learn.

    With few images of look-alikes, the statistics of one small batch say more about its members than a mark does.
    """
    for layer in _layers(method):
        layer.eval()


@torch.no_grad()
def adopt_statistics(method: Method, batches: Iterable[Tensor]) -> None:
    """Give each layer the statistics of these images, uint8 (B, 3, S, S), without changing what it computes.

    With μ, σ² the old and μ′, σ′² the new statistics, γ′ = γ · σ′/σ and β′ = β + γ · (μ′ − μ)/σ leave
    γ · (x − μ)/σ + β as it was. Plain re-estimation would change every layer, and with it the features that the
    pretrained weights are worth: measured in benchmarks/README.md. A layer that came with the method has no function to
    keep, and is there to normalise: it gets the statistics alone.
    """
    pretrained = set(method.backbone.model.modules())
    layers = [layer for layer in _layers(method) if layer in pretrained]
    new = [layer for layer in _layers(method) if layer not in pretrained]
    sums = {layer: [torch.zeros(layer.num_features, dtype=torch.float64) for _ in range(3)] for layer in layers}

    def observe(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        values = inputs[0].transpose(0, 1).flatten(1)  # (C, B·h·w)
        count = values.shape[1]
        var, mean = torch.var_mean(values.float(), dim=1, correction=0)
        mean, var = mean.double().cpu(), var.double().cpu()  # sums over many batches need the digits
        for total, part in zip(sums[layer], (mean, var + mean.square(), torch.ones(())), strict=True):
            total += part * count

    handles = [layer.register_forward_pre_hook(observe) for layer in layers]
    with _estimating(method, new):
        device = next(method.parameters()).device
        for images in batches:
            method(method.backbone.normalization(images.to(device)))
    for handle in handles:
        handle.remove()
    for layer in layers:
        _renormalise(layer, *sums[layer])


def _renormalise(layer: _BatchNorm, total: Tensor, squares: Tensor, count: Tensor) -> None:
    """Move a layer to the statistics of what was summed, and compensate in scale and shift."""
    running_mean, running_var = layer.running_mean, layer.running_var
    assert running_mean is not None
    assert running_var is not None
    mean = (total / count).to(running_mean.device)
    # a channel that is silent on these images would get an endless scale
    var = (squares / count - (total / count).square()).clamp_min(1e-6).to(running_mean.device)
    old, new = (running_var.double() + layer.eps).sqrt(), (var + layer.eps).sqrt()
    if not layer.affine:
        return  # nothing could compensate
    scale = layer.weight.double()
    layer.bias.copy_(layer.bias.double() + scale * (mean - running_mean.double()) / old)
    layer.weight.copy_(scale * new / old)
    running_mean.copy_(mean)
    running_var.copy_(var)


@torch.no_grad()
def refresh_statistics(
    method: Method, batches: Iterable[Tensor], *, precision: str, trained: Method | None = None
) -> None:
    """Re-estimate the statistics as the plain average over these batches, uint8 (B, 3, S, S).

    Where `method` is the average of a `trained` one, the layers that did not learn there keep theirs.

    For averaged weights: their own statistics were averaged along the way, and never belonged to one network.
    (torch.optim.swa_utils.update_bn leaves dropout on and asks for a loader of tensors.)
    """
    fixed = set() if trained is None else {id(layer) for layer in fixed_layers(trained)}
    twins = _layers(method if trained is None else trained)
    layers = [layer for layer, twin in zip(_layers(method), twins, strict=True) if id(twin) not in fixed]
    if not layers:
        return
    device = next(method.parameters()).device
    with _estimating(method, layers), autocast(precision, device):
        for images in batches:
            method(method.backbone.normalization(images.to(device)))


@contextmanager
def _estimating(method: Method, layers: Sequence[_BatchNorm]) -> Iterator[None]:
    """The method answers; these layers take the plain average of what they see. It is left in evaluation mode."""
    momenta = [layer.momentum for layer in layers]
    method.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain average
        layer.train()
    yield
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    method.eval()
