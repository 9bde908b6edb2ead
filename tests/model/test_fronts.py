"""Going on from what a frozen front made of images gives what the whole backbone gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.learning.training.optimizer import early_stages, num_stages
from fieldmark.model.backbone import Backbone as Network
from fieldmark.model.backbone import Features
from fieldmark.model.build import build_model
from fieldmark.model.fronts import FirstStages, Pooled, Whole, found_front
from fieldmark.model.known import Absent, Known, NotKept
from fieldmark.model.model import Model

NETWORKS: dict[str, dict[str, int]] = {
    "resnet10t": {},
    "mobilenetv3_small_050": {},
    "vit_tiny_patch16_224": {"depth": 3, "embed_dim": 48, "num_heads": 3},
}


def make(backbone: str, method: str = "transfer", neck: str = "none") -> Model:
    torch.manual_seed(0)
    choice = Backbone(name=backbone, weights="none", options=NETWORKS[backbone])
    recipe = Recipe(images=Images(size=64), backbone=choice, method=Choice(name=method), neck=Choice(name=neck))
    return build_model(recipe, Task(3)).eval()


def answers(model: Model, images: Tensor) -> Tensor:
    return model.method(images).logits


@pytest.mark.parametrize("backbone", NETWORKS)
def test_a_forward_can_be_split_at_every_stage(backbone: str) -> None:
    model, images = make(backbone), torch.rand(3, 3, 64, 64)
    device = images.device
    with torch.no_grad():
        whole = answers(model, images)
        for count in range(1 + backbone.startswith("vit"), num_stages(model.backbone)):
            keeper = found_front(model, images, answers, frozen=early_stages(model.backbone, count))
            assert keeper is not None
            assert isinstance(keeper.front, FirstStages)
            kept = keeper.keep(model.backbone, images)
            assert torch.allclose(answers(model, keeper.known(kept, device)), whole, atol=1e-5)
            assert not any("forward" in vars(module) for module in model.modules())  # all as they were


def test_some_of_the_images_can_be_had() -> None:
    model, images = make("resnet10t"), torch.rand(3, 3, 64, 64)
    keeper = found_front(model, images, answers, frozen=None)
    assert keeper is not None
    with torch.no_grad():
        known = keeper.known(keeper.keep(model.backbone, images), images.device)[1:]
        assert known.shape == (2, 3, 64, 64)
        assert torch.allclose(answers(model, known), answers(model, images)[1:], atol=1e-5)


@pytest.mark.parametrize("backbone", NETWORKS)
def test_what_follows_the_front_still_learns(backbone: str) -> None:
    model, images = make(backbone), torch.rand(2, 3, 64, 64)
    early = early_stages(model.backbone, 2)
    keeper = found_front(model, images, answers, frozen=early)
    assert keeper is not None
    answers(model, keeper.known(keeper.keep(model.backbone, images), images.device)).sum().backward()
    frozen = set(map(id, early))
    learnt = {name for name, p in model.backbone.model.named_parameters() if p.grad is not None}
    assert learnt
    assert not [name for name, p in model.backbone.model.named_parameters() if id(p) in frozen and name in learnt]


@pytest.mark.parametrize(
    ("method", "neck", "front"),
    [
        ("transfer", "none", Pooled()),
        ("transfer", "attention", Whole()),
        ("part_discovery", "none", Whole((3,))),
        ("part_selection", "none", Whole((2, 3, 4))),
    ],
)
def test_no_more_is_kept_than_is_read(method: str, neck: str, front: object) -> None:
    model, images = make("resnet10t", method, neck), torch.rand(2, 3, 64, 64)
    keeper = found_front(model, images, answers, frozen=None)
    assert keeper is not None
    assert keeper.front == front
    with torch.no_grad():
        known = keeper.known(keeper.keep(model.backbone, images), images.device)
        assert torch.allclose(answers(model, known), answers(model, images), atol=1e-5)


def test_a_look_at_pixels_finds_no_front() -> None:
    model, images = make("resnet10t"), torch.rand(2, 3, 64, 64)
    assert found_front(model, images, lambda twin, seen: answers(twin, seen.flip(-1)), frozen=None) is None
    assert found_front(model, images, lambda twin, seen: twin.backbone.level(seen, 1), frozen=None) is None


def test_a_stand_in_has_a_shape_and_nothing_else() -> None:
    features = Features(torch.zeros(2, 4, 1, 1), torch.zeros(2, 4))

    def seen(backbone: Network, levels: tuple[int, ...]) -> Features:
        return features

    known = Known.by(seen, count=2, side=64, like=torch.zeros(1))
    assert (len(known), tuple(known.shape), known.ndim, known.dtype) == (2, (2, 3, 64, 64), 4, torch.float32)
    assert make("resnet10t").backbone(known) is features
    for read in (lambda: known + 1, lambda: known.flip(-1), lambda: torch.zeros(1) * known, lambda: known.mean()):
        with pytest.raises(NotKept):
            read()
    with pytest.raises(NotKept):
        torch.nn.functional.adaptive_avg_pool2d(Absent.of(2, 4, 7, 7, like=torch.zeros(1)), 1)
