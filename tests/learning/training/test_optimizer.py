"""Which parameter learns how fast, and when."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Train
from fieldmark.learning.training.optimizer import build_optimizer, early_stages, rate, set_learning, set_rates
from fieldmark.model.model import Model
from fieldmark.model.necks.attention import AttentionPooling

Make = Callable[..., Model]


def rates(num_steps: int, warmup: float, schedule: str) -> list[float]:
    return [rate(step, num_steps=num_steps, warmup=warmup, schedule=schedule) for step in range(num_steps)]


def test_the_cosine_is_torchs() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = CosineAnnealingLR(optimizer, T_max=37)
    reference = []
    for _ in range(37):
        reference.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates(37, 0.0, "cosine") == pytest.approx(reference, abs=1e-9)


def test_warm_up_by_example() -> None:
    assert rates(8, 0.5, "constant") == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1])
    half = math.sqrt(0.5) / 2
    assert rates(8, 0.5, "cosine") == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 0.5 + half, 0.5, 0.5 - half])


@given(st.integers(1, 400), st.floats(0, 0.99), st.sampled_from(["cosine", "constant"]))
def test_a_rise_then_a_fall(num_steps: int, warmup: float, schedule: str) -> None:
    shares = rates(num_steps, warmup, schedule)
    rise = sum(step < warmup * num_steps for step in range(num_steps))
    assert all(0 < share <= 1 for share in shares)
    assert shares[:rise] == sorted(shares[:rise])
    assert shares[rise:] == sorted(shares[rise:], reverse=True)
    assert schedule == "cosine" or shares[rise:] == [1.0] * (num_steps - rise)


def test_the_cosine_ends_near_zero() -> None:
    assert rates(1000, 0.1, "cosine")[-1] < 1e-5


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("test_resnet", ["conv1.0.weight", "layer1.0.conv1.weight", "layer2.0.conv1.weight", "layer4.0.conv1.weight"]),
        (
            "vit_tiny_patch16_224",
            ["patch_embed.proj.weight", "blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc1.weight"],
        ),
    ],
)
def test_earlier_layers_learn_more_slowly(make: Make, backbone: str, layers: list[str]) -> None:
    model = make(backbone)
    optimizer = build_optimizer(model, Train(lr=0.4, head_lr=3.0, layer_decay=0.5))
    peaks = {id(p): group["peak"] for group in optimizer.param_groups for p in group["params"]}
    named = {name: peaks[id(p)] for name, p in model.backbone.model.named_parameters()}
    along = [named[name] for name in layers]
    assert along == sorted(set(along))  # strictly rising
    assert along[-1] == 0.4
    assert all(math.log2(0.4 / peak).is_integer() for peak in along)
    assert {peaks[id(p)] for p in model.method.head.parameters()} == {3.0}


@pytest.mark.parametrize("backbone", ["test_resnet", "vit_tiny_patch16_224"])
def test_without_decay_all_layers_learn_alike(make: Make, backbone: str) -> None:
    optimizer = build_optimizer(make(backbone), Train(lr=0.4, head_lr=3.0))
    assert {(group["part"], group["peak"]) for group in optimizer.param_groups} == {("backbone", 0.4), ("head", 3.0)}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("backbone", ["test_resnet", "vit_tiny_patch16_224"])
def test_every_parameter_is_in_one_group_and_vectors_are_not_decayed(make: Make, backbone: str, name: str) -> None:
    model = make(backbone)
    optimizer = build_optimizer(model, Train(optimizer=name, weight_decay=0.05, layer_decay=0.8))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for key, p in model.named_parameters():
        spared = p.ndim <= 1 or key.endswith(("pos_embed", "cls_token"))
        assert decays[id(p)] == (0.0 if spared else 0.05), key


def test_the_named_optimizers(make: Make) -> None:
    kinds = {"adamw": AdamW, "adam": Adam, "sgd": SGD}
    for name, kind in kinds.items():
        assert type(build_optimizer(make(), Train(optimizer=name))) is kind
    momenta = build_optimizer(make(), Train(optimizer="sgd", momentum=0.8)).param_groups
    assert {(group["momentum"], group["nesterov"]) for group in momenta} == {(0.8, True)}
    plain = build_optimizer(make(), Train(optimizer="sgd", momentum=0.0)).param_groups
    assert {(group["momentum"], group["nesterov"]) for group in plain} == {(0.0, False)}


def test_rates_follow_the_step(make: Make) -> None:
    train = Train(lr=0.1, head_lr=0.5, warmup=0.0)
    optimizer = build_optimizer(make(), train)

    def now(step: int) -> dict[str, float]:
        set_rates(optimizer, step, head_steps=4, num_steps=12, train=train)
        return {group["part"]: group["lr"] for group in optimizer.param_groups}

    assert [now(step) for step in range(4)] == [{"backbone": 0.0, "head": 0.5}] * 4
    assert now(4) == {"backbone": 0.1, "head": 0.5}  # the schedule begins when the backbone does
    assert now(8) == pytest.approx({"backbone": 0.05, "head": 0.25})
    assert now(11) == pytest.approx(
        {k: v * rate(7, num_steps=8, warmup=0, schedule="cosine") for k, v in now(4).items()}
    )


def test_a_rise_takes_ten_steps_where_a_tenth_of_all_is_less(make: Make) -> None:
    """Unless none is asked for."""
    optimizer = build_optimizer(make(), Train(lr=1.0))

    def rates_of(num_steps: int, warmup: float) -> list[float]:
        found = []
        for step in range(num_steps):
            set_rates(optimizer, step, head_steps=0, num_steps=num_steps, train=Train(lr=1.0, warmup=warmup))
            found.append(optimizer.param_groups[0]["lr"])
        return found

    assert rates_of(4, 0.1) == pytest.approx([1 / 11, 2 / 11, 3 / 11, 4 / 11])
    assert rates_of(40, 0.1)[:11] == pytest.approx([*(k / 11 for k in range(1, 11)), 1.0])
    assert rates_of(100, 0.1) == rates(100, 0.1, "cosine")
    assert rates_of(4, 0.0) == rates(4, 0.0, "cosine")


def test_learning_the_head_only(make: Make) -> None:
    model = make()
    set_learning(model, early=[], head_only=True)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert all(p.requires_grad for p in model.method.head.parameters())
    assert not any(module.training for module in model.backbone.model.modules())
    assert model.training
    set_learning(model, early=[], head_only=False)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(("backbone", "fixed"), [("test_resnet", "conv1."), ("vit_tiny_patch16_224", "patch_embed.")])
def test_early_stages_stay_as_they_are(make: Make, backbone: str, fixed: str) -> None:
    model = make(backbone)
    early = early_stages(model.backbone, 2)
    set_learning(model, early=early, head_only=False)
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, Train(optimizer="sgd", lr=0.1, weight_decay=0.1))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    size = model.backbone.fixed_size or 32
    model(torch.randn(4, 3, size, size)).logits.square().mean().backward()
    optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    kept = {name for name, param in model.named_parameters() if any(param is one for one in early)}
    assert any(fixed in name for name in kept)
    assert not moved & kept
    assert "method.head.classifier.linear.weight" in moved
    statistics = {name for name in moved if name.endswith("running_mean")}
    assert not any(name.replace("running_mean", "weight") in kept for name in statistics)
    assert statistics or backbone.startswith("vit")


def test_no_early_stage_unless_asked(make: Make) -> None:
    assert early_stages(make().backbone, 0) == []


def test_freezing_everything_is_refused(make: Make) -> None:
    with pytest.raises(RecipeError, match="freeze_stages = 5 freezes all of"):
        early_stages(make().backbone, 5)


def test_all_may_be_frozen(make: Make) -> None:
    model = make()
    set_learning(model, early=early_stages(model.backbone, "all"), head_only=False)
    assert not any(param.requires_grad for param in model.backbone.model.parameters())
    assert not any(module.training for module in model.backbone.model.modules())
    assert model.method.head.training


def test_nothing_is_dropped_in_a_stage_that_stays(make: Make) -> None:
    model = make("vit_tiny_patch16_224")
    set_learning(model, early=early_stages(model.backbone, 2), head_only=False)
    first, second = model.backbone.model.blocks
    assert not any(module.training for module in first.modules())
    assert all(module.training for module in second.modules())


def test_a_neck_learns_with_the_head(make: Make) -> None:
    model = make()
    model.backbone.neck = neck = AttentionPooling(model.backbone.channels)
    grouped = {id(p): group["part"] for group in build_optimizer(model, Train()).param_groups for p in group["params"]}
    assert grouped.keys() == {id(p) for p in model.parameters()}
    assert {grouped[id(p)] for p in neck.parameters()} == {"head"}
    set_learning(model, early=[], head_only=True)
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert still == {f"method.backbone.model.{name}" for name, _ in model.backbone.model.named_parameters()}
    assert neck.training
