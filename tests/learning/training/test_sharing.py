"""Steps that several processes take together are the steps of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from fieldmark.core import ranks
from fieldmark.core.errors import TrainingError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.loader import Samples, Schedule
from fieldmark.data.task import Attribute, Task
from fieldmark.learning.training.loop import train_steps
from fieldmark.learning.training.optimizer import build_optimizer
from fieldmark.learning.training.setting import Setting
from fieldmark.learning.training.sharing import add_gradients, whole_statistics
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.build import build_model
from fieldmark.model.method import METHODS
from fieldmark.model.model import Model
from support.ranks import forks, in_ranks

pytestmark = forks

SIZE, CLASSES, EPOCHS = 32, 3, 4
VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}


class Taken(NamedTuple):
    """What a process saw of ten steps, and its weights behind them."""

    losses: list[float]
    rows: list[list[int]]
    weights: dict[str, Tensor]


def recipe(backbone: str = "vit_tiny_patch16_224", **changes: Any) -> Recipe:
    train = {"epochs": EPOCHS, "batch_size": 7, "lr": 1e-3, "head_lr": 1e-2, "warmup": 0.0, "precision": "fp32"}
    pieces = {key: changes[key] for key in ("method", "loss", "auxiliary") if key in changes}
    return Recipe(
        images=Images(size=SIZE),
        backbone=Backbone(name=backbone, weights="none", options=VIT if backbone.startswith("vit") else {}),
        **{key: Choice.model_validate(value) for key, value in pieces.items()},
        train=train | changes.get("train", {}),  # type: ignore[arg-type]  # pydantic makes a Train of it
        augment={"mix": "none"} | changes.get("augment", {}),  # type: ignore[arg-type]  # likewise
    )


def ten_steps(chosen: Recipe, samples: Samples, prepare: Callable[[Model], None] = lambda model: None) -> Taken:
    """Of a model that begins alike everywhere."""
    torch.manual_seed(0)
    task = Task(CLASSES, keypoints=("beak",), attributes=(Attribute("tail", ("long", "short"), (12, 12)),))
    model = build_model(chosen, task).to(memory_format=torch.channels_last)
    prepare(model)
    state = TrainingState.begin(model, build_optimizer(model, chosen.train), ema=False, num_steps=12)
    seen: list[list[int]] = []
    losses = model.losses

    def witnessed(batch: Any, step: int) -> dict[str, Tensor]:
        if step == 0:
            seen.append(batch.rows.tolist())
        return losses(batch, step)

    model.losses = witnessed  # type: ignore[method-assign]  # of this model alone
    schedule = Schedule(np.arange(len(samples.catalog)), chosen.train.batch_size, EPOCHS, 0)
    attributes = torch.arange(len(samples.catalog)).unsqueeze(1) % 3 - 1
    steps = train_steps(state, samples, schedule, Setting(chosen, Machine("cpu", 1, 0, "fp32"), attributes=attributes))
    means = [progress.loss for progress, _ in zip(steps, range(10), strict=False)]
    per_epoch = schedule.steps_per_epoch
    each = [
        mean * (k % per_epoch + 1) - (means[k - 1] * (k % per_epoch) if k % per_epoch else 0)
        for k, mean in enumerate(means)
    ]
    return Taken(each, seen, {key: value.clone() for key, value in model.state_dict().items()})


def still(model: Model) -> None:
    """Without dropout, which each process draws for its share."""

    def stays(self: Any, mode: bool = True) -> Any:
        return self

    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
            layer.train = stays.__get__(layer)  # type: ignore[method-assign]  # of this layer alone


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"augment": {"mix": "both"}},
        {"augment": {"mix": "snapmix"}},
        {"auxiliary": {"name": "supcon"}},
        {"loss": {"name": "proxy_anchor"}, "train": {"clip_norm": 0.5, "optimizer": "sgd"}},
        {"method": {"name": "progressive_jigsaw"}, "train": {"optimizer": "sgd", "head_epochs": 1}},
        {"backbone": "test_resnet", "train": {"batchnorm": "refreshed"}},
        {"method": {"name": "part_discovery", "equivariance": 0.0, "part_dropout": 0.0}},
    ],
    ids=["plain", "mixed", "snapmix", "supcon", "proxy_anchor", "jigsaw", "batchnorm", "parts"],
)
def test_two_processes_take_the_steps_of_one(changes: dict[str, Any], samples: Samples) -> None:
    chosen = recipe(**changes)
    alone = ten_steps(chosen, samples, still)
    one, other = in_ranks(2, lambda: ten_steps(chosen, samples, still))
    assert [a + b for a, b in zip(one.rows, other.rows, strict=True)] == alone.rows
    np.testing.assert_allclose(one.losses, alone.losses, atol=1e-5)
    assert one.losses == other.losses
    for key, value in one.weights.items():
        assert torch.equal(value, other.weights[key]), key
        torch.testing.assert_close(value, alone.weights[key], rtol=1e-2, atol=2e-4)


def test_any_number_of_processes_sees_the_same_samples(samples: Samples) -> None:
    """Each image once an epoch, but for those that make no full batch."""
    chosen = recipe(train={"batch_size": 8})
    alone = ten_steps(chosen, samples)
    for count in (2, 4):
        found = in_ranks(count, lambda: ten_steps(chosen, samples))
        together = [list(chain(*rows)) for rows in zip(*(one.rows for one in found), strict=True)]
        assert together == alone.rows
        assert all(sorted(chain(*together[k : k + 3])) == list(range(24)) for k in (0, 3, 6))
        np.testing.assert_allclose(found[0].losses, alone.losses, atol=1e-5)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_stays_one_model(name: str, samples: Samples) -> None:
    """Weights, statistics, centres: what one process has, all have, with dropout and draws of its own."""
    chosen = recipe("test_resnet", method={"name": name}, train={"batchnorm": "refreshed"})
    one, other = in_ranks(2, lambda: ten_steps(chosen, samples))
    assert all(map(math.isfinite, one.losses))
    assert [key for key, value in one.weights.items() if not torch.equal(value, other.weights[key])] == []


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d, nn.BatchNorm1d])
def test_batchnorm_sees_the_whole_batch(kind: type[nn.Module]) -> None:
    """Of five images, processes have two and three."""
    shape = (5, 3) if kind is nn.BatchNorm1d else (5, 3, 2, 4)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3 + 1

    def passed() -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        layer: Any = kind(3)
        nn.init.uniform_(layer.weight)
        own = images[ranks.share(5)].clone().requires_grad_()
        with whole_statistics(nn.Sequential(layer)):
            y = layer(own)
        assert "forward" not in vars(layer)
        (y.square().cumsum(1).sum()).backward()
        mine = layer.weight.grad.clone()
        return (
            y.detach(),
            own.grad,
            ranks.summed(mine),
            layer.running_mean,
            layer.running_var,
            layer.num_batches_tracked,
        )

    alone = passed()
    one, other = in_ranks(2, passed)
    for index in (0, 1):
        torch.testing.assert_close(torch.cat([one[index], other[index]]), alone[index])
    for index in (2, 3, 4, 5):
        torch.testing.assert_close(one[index], alone[index])
        assert torch.equal(one[index], other[index])


def test_a_loss_that_is_no_number_anywhere_ends_all(samples: Samples) -> None:
    def spoil(model: Model) -> None:
        losses = model.losses
        model.losses = lambda batch, step: (  # type: ignore[method-assign]  # of this model alone
            {key: value * math.nan for key, value in losses(batch, step).items()}
            if ranks.rank() == 1
            else losses(batch, step)
        )

    def act() -> str:
        with pytest.raises(TrainingError) as raised:
            ten_steps(recipe(), samples, spoil)
        return raised.value.problem

    one, other = in_ranks(2, act)
    assert one == other
    assert one.startswith("The loss became nan at step 1 (")


def test_a_parameter_without_a_gradient_stays_without(samples: Samples) -> None:
    """Not one that is zero: momentum would move it."""

    def act() -> list[bool]:
        torch.manual_seed(0)
        model = build_model(recipe("test_resnet"), Task(CLASSES))
        first, second, *rest = list(model.parameters())
        if ranks.rank() == 1:
            first.grad = torch.ones_like(first)
        second.grad = torch.ones_like(second)
        add_gradients(model)
        assert first.grad is not None
        assert second.grad is not None
        assert torch.equal(second.grad, torch.full_like(second, 2))
        return [first.grad.eq(1).all().item(), *(param.grad is None for param in rest)]

    assert all(all(found) for found in in_ranks(2, act))
