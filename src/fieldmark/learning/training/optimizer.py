"""Parameter groups, optimizers and the learning-rate schedule as a pure function of the step."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from timm.models import group_parameters
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn
from torch.optim import Optimizer

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Train
from fieldmark.core.registry import Registry
from fieldmark.core.wording import counted
from fieldmark.model.backbone import Backbone
from fieldmark.model.model import Model

__all__ = ["OPTIMIZERS", "build_optimizer", "early_stages", "num_stages", "rate", "set_learning", "set_rates"]

OPTIMIZERS: Registry[Any] = Registry("optimizer")
_LEAST_RISE = 10
"""Steps."""


@OPTIMIZERS.register("adamw")
def _adamw(groups: list[dict[str, Any]], train: Train) -> Optimizer:
    """Loshchilov & Hutter 2019."""
    return torch.optim.AdamW(groups)


@OPTIMIZERS.register("adam")
def _adam(groups: list[dict[str, Any]], train: Train) -> Optimizer:
    """Kingma & Ba 2015; weight decay, if any, joins the gradient."""
    return torch.optim.Adam(groups)


@OPTIMIZERS.register("sgd")
def _sgd(groups: list[dict[str, Any]], train: Train) -> Optimizer:
    """With Nesterov's momentum."""
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum, nesterov=train.momentum > 0)


def build_optimizer(model: Model, train: Train) -> Optimizer:
    """Backbone groups with layer-wise rates, then everything else, the neck too, at `head_lr`.

    Vectors, such as biases and most norms, are not decayed. Each group carries its own peak rate as `peak`.
    """
    backbone: Any = model.backbone.model
    skip = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else ()
    groups = param_groups_layer_decay(
        backbone, train.weight_decay, no_weight_decay_list=skip, layer_decay=train.layer_decay
    )
    for group in groups:
        group["peak"] = train.lr * group.pop("lr_scale")
        group["part"] = "backbone"
    own = set(backbone.parameters())
    rest = [p for p in model.parameters() if p not in own]
    for decay, params in (
        (train.weight_decay, [p for p in rest if p.ndim > 1]),
        (0.0, [p for p in rest if p.ndim <= 1]),
    ):
        if params:
            groups.append({"params": params, "weight_decay": decay, "peak": train.head_lr, "part": "head"})
    return OPTIMIZERS.get(train.optimizer)(groups, train)


def rate(step: int, *, num_steps: int, warmup: float, schedule: str) -> float:
    """Share of the peak rate at `step`: a linear rise over `warmup` of the steps, then a cosine to zero.

    Cosine annealing without restarts, Loshchilov & Hutter, "SGDR" (2017).
    """
    rise = warmup * num_steps
    if step < rise:
        return (step + 1) / (math.floor(rise) + 1)
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, num_steps - rise)))


def set_rates(optimizer: Optimizer, step: int, *, head_steps: int, num_steps: int, train: Train) -> None:
    """Set each group's learning rate for `step`: during the first `head_steps` only the head learns.

    A rise takes ten steps at least, even if that is all there are: Adam's first steps are as long as its rate whatever
    the gradient, and a few photographs make few steps.
    """
    left = num_steps - head_steps
    warmup = max(train.warmup, _LEAST_RISE / max(1, left)) if train.warmup else 0.0
    share = rate(step - head_steps, num_steps=left, warmup=warmup, schedule=train.schedule)
    for group in optimizer.param_groups:
        if step < head_steps:
            group["lr"] = group["peak"] if group["part"] == "head" else 0.0
        else:
            group["lr"] = group["peak"] * share


def early_stages(backbone: Backbone, count: int | Literal["all"]) -> list[nn.Parameter]:
    """The parameters of the backbone's first `count` stages, the stem being the first; of a transformer, its blocks.

    What comes first sees edges and colours, which any weights know already; what is not trained costs no backward
    pass, and a CNN's first stages are where most of its time goes. Raises RecipeError where no stage would be left by
    a number.
    """
    if count == "all":
        return list(backbone.model.parameters())
    if not count:
        return []
    stages = _stages(backbone)
    if count > (last := max(stages.values())):
        raise RecipeError(
            f"train.freeze_stages = {count} freezes all of {backbone.name!r}",
            f"It has {counted(last + 1, 'stage')}: freeze at most {last}, or set train.freeze_stages='all'.",
        )
    return [param for name, param in backbone.model.named_parameters() if stages[name] < count]


def num_stages(backbone: Backbone) -> int:
    """How many stages the backbone has, as `early_stages` counts them."""
    return 1 + max(_stages(backbone).values())


def _stages(backbone: Backbone) -> dict[str, int]:
    """The stage of each of the backbone's parameters."""
    model: Any = backbone.model
    found: dict[str, int] = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    return found


def set_learning(model: Model, *, early: list[nn.Parameter], head_only: bool) -> None:
    """Put the model in training mode, but for what stays as it is: no gradient, BatchNorm's statistics kept, nothing
    dropped.

    A neck is as new as the head, and learns with it.
    """
    backbone: Any = model.backbone.model
    model.train()
    backbone.requires_grad_(not head_only)
    for param in early:
        param.requires_grad_(False)
    _let_rest(backbone)


def _let_rest(module: nn.Module) -> None:
    """Put what has weights, none of which learn, in evaluation mode: dropout in it, too."""
    weights = list(module.parameters())
    if weights and not any(weight.requires_grad for weight in weights):
        module.eval()
        return
    for child in module.children():
        _let_rest(child)
