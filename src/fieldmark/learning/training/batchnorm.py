"""BatchNorm statistics: whose pictures they describe, and whether training moves them.

Ioffe & Szegedy, "Batch normalization" (2015). Shapes: C channels of a layer's input (B, C, h, w).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fieldmark.answering.pieces import Pieces
from fieldmark.model.model import Model
from fieldmark.model.precision import autocast

__all__ = [
    "added_layers",
    "adopt_statistics",
    "fixed_layers",
    "freeze_statistics",
    "moving_layers",
    "refresh_statistics",
]

_BatchNorm = nn.modules.batchnorm._BatchNorm


def _layers(module: nn.Module) -> list[_BatchNorm]:
    return [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def added_layers(model: Model) -> list[_BatchNorm]:
    """Those of the method and the neck. They come with no statistics of anything, so there are none to keep."""
    known = {id(layer) for layer in _layers(model.backbone.model)}
    return [layer for layer in _layers(model) if id(layer) not in known]


def fixed_layers(model: Model) -> list[_BatchNorm]:
    """Layers that do not learn: one whose scale stays as it is must keep its statistics, or its output would move."""
    return [layer for layer in _layers(model) if layer.affine and not layer.weight.requires_grad]


def moving_layers(model: nn.Module) -> list[_BatchNorm]:
    """Layers that normalise by a batch's statistics, and whose own follow them."""
    return [layer for layer in _layers(model) if layer.training]


def freeze_statistics(model: Model) -> None:
    """Let the backbone's layers normalise by their running statistics, in training too; scale and shift still learn.

    With few images of look-alikes, the statistics of one small batch say more about its members than a mark does.
    """
    for layer in _layers(model.backbone.model):
        layer.eval()


@torch.no_grad()
def adopt_statistics(model: Model, batches: Iterable[Tensor]) -> None:
    """Give the backbone's layers the statistics of these images, uint8 (B, 3, S, S), without changing what is computed.

    With μ, σ² the old and μ′, σ′² the new statistics, γ′ = γ · σ′/σ and β′ = β + γ · (μ′ − μ)/σ leave
    γ · (x − μ)/σ + β as it was. Plain re-estimation would change every layer, and with it the features that the
    pretrained weights are worth: measured in benchmarks/README.md.
    """
    layers = _layers(model.backbone.model)
    sums = _zeros(layers)
    seen = _zeros(layers)

    def observe(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        values = inputs[0].transpose(0, 1).flatten(1)  # (C, B·h·w)
        count = values.shape[1]
        var, mean = torch.var_mean(values.float(), dim=1, correction=0)
        mean, var = mean.cpu().double(), var.cpu().double()  # sums over many batches need the digits
        for total, part in zip(seen[layer], (mean, var + mean.square(), torch.ones(())), strict=True):
            total += part * count

    @torch.no_grad()
    def look(images: Tensor) -> None:
        nonlocal seen
        seen = _zeros(layers)  # of a piece that did not fit, nothing counts
        model.method(model.backbone.normalization(images.to(device)))
        for layer in layers:
            for total, part in zip(sums[layer], seen[layer], strict=True):
                total += part

    handles = [layer.register_forward_pre_hook(observe) for layer in layers]
    model.eval()
    device = next(model.parameters()).device
    pieces = Pieces(look, lambda _: None)
    for images in batches:
        pieces(images)
    for handle in handles:
        handle.remove()
    for layer in layers:
        if sums[layer][2].any():  # else answering passes it by
            _renormalise(layer, *sums[layer])


def _zeros(layers: Iterable[_BatchNorm]) -> dict[_BatchNorm, list[Tensor]]:
    """For each layer room for three sums, (C,) each."""
    return {layer: [torch.zeros(layer.num_features, dtype=torch.float64) for _ in range(3)] for layer in layers}


def _renormalise(layer: _BatchNorm, total: Tensor, squares: Tensor, count: Tensor) -> None:
    """Move a layer to the statistics of what was summed, and compensate in scale and shift."""
    running_mean, running_var = layer.running_mean, layer.running_var
    assert running_mean is not None
    assert running_var is not None
    mean = total / count
    # a channel that is silent on these images would get an endless scale
    var = (squares / count - mean.square()).clamp_min(1e-6)
    # on the processor: Apple's GPU has no double precision
    old, new = (running_var.cpu().double() + layer.eps).sqrt(), (var + layer.eps).sqrt()
    if not layer.affine:
        return  # nothing could compensate
    scale = layer.weight.cpu().double()
    layer.bias.copy_(layer.bias.cpu().double() + scale * (mean - running_mean.cpu().double()) / old)
    layer.weight.copy_(scale * new / old)
    running_mean.copy_(mean)
    running_var.copy_(var)


@torch.no_grad()
def refresh_statistics(
    model: Model,
    batches: Iterable[Tensor],
    *,
    precision: str,
    trained: Model | None = None,
    added_only: bool = False,
) -> None:
    """Re-estimate the statistics as the average over these batches, uint8 (B, 3, S, S), each weighed by its images.

    Where `model` is the average of a `trained` one, the layers that did not learn there keep theirs. With
    `added_only`, so do the backbone's.

    For averaged weights: their own statistics were averaged along the way, and never belonged to one network.
    (torch.optim.swa_utils.update_bn leaves dropout on and asks for a loader of tensors.)
    """
    fixed = set() if trained is None else {id(layer) for layer in fixed_layers(trained)}
    chosen = added_layers if added_only else _layers
    twins = chosen(model if trained is None else trained)
    layers = [layer for layer, twin in zip(chosen(model), twins, strict=True) if id(twin) not in fixed]
    if not layers:
        return
    momenta, seen = [layer.momentum for layer in layers], dict.fromkeys(layers, 0)

    def weigh(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        count = inputs[0].numel() // layer.num_features
        seen[layer] += count
        layer.momentum = count / seen[layer]  # so a last batch of one image is not half of two batches
        layer.train(count > 1)  # a single value has no variance

    @torch.no_grad()
    def look(images: Tensor) -> None:
        nonlocal seen
        before, counts = [(one, one.clone()) for layer in layers for one in layer.buffers()], dict(seen)
        try:
            with autocast(precision, device):
                model.method(model.backbone.normalization(images.to(device)))
        except BaseException:  # whatever it was, of a piece that did not fit nothing counts
            for buffer, value in before:
                buffer.copy_(value)
            seen = counts
            raise

    model.eval()
    for layer in layers:
        layer.reset_running_stats()
    handles = [layer.register_forward_pre_hook(weigh) for layer in layers]
    device = next(model.parameters()).device
    pieces = Pieces(look, lambda _: None)
    for images in batches:
        pieces(images)
    for layer, momentum, handle in zip(layers, momenta, handles, strict=True):
        layer.momentum = momentum
        handle.remove()
    model.eval()
