"""Statistics of BatchNorm against what hooks see and torch computes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from fieldmark.learning.training.batchnorm import added_layers, adopt_statistics, freeze_statistics, refresh_statistics
from fieldmark.learning.training.optimizer import early_stages
from fieldmark.model.model import Model

Make = Callable[..., Model]
BACKBONES = ["test_resnet", "mobilenetv3_small_050", "test_byobnet"]


def layers(model: Model) -> dict[str, nn.Module]:
    return {name: m for name, m in model.named_modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))}


@pytest.fixture
def batches() -> list[Tensor]:
    """Pictures unlike ImageNet's, in batches of unlike size."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(low, high, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
        for count, low, high in ((6, 0, 100), (3, 150, 256), (5, 40, 60))
    ]


def lived_in(model: Model) -> Model:
    """Statistics, scales and shifts as if it had been trained on something else."""
    generator = torch.Generator().manual_seed(2)
    for layer in layers(model).values():
        for values, low, high in (
            (layer.running_mean, -0.5, 0.5),
            (layer.running_var, 0.3, 3.0),
            (layer.weight.data, 0.5, 1.5),
            (layer.bias.data, -0.5, 0.5),
        ):
            values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)
    return model.eval()


@contextmanager
def inputs_of(model: Model) -> Iterator[dict[str, list[Tensor]]]:
    """Everything that enters each layer, (C, B·h·w) for each forward."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers(model)}

    def watch(name: str) -> Callable[..., None]:
        return lambda layer, inputs: seen[name].append(inputs[0].double().transpose(0, 1).flatten(1))

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers(model).items()]
    yield seen
    for handle in handles:
        handle.remove()


@torch.no_grad()
def answers(model: Model, batches: list[Tensor]) -> Tensor:
    return torch.cat([model(model.backbone.normalization(images)).logits for images in batches])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_adopting_leaves_the_function_as_it_was(make: Make, batches: list[Tensor], backbone: str) -> None:
    model = lived_in(make(backbone))
    others = [torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))]
    before = answers(model, batches), answers(model, others)
    statistics = {name: layer.running_mean.clone() for name, layer in layers(model).items()}
    adopt_statistics(model, iter(batches))
    moved = [not torch.allclose(layer.running_mean, statistics[name]) for name, layer in layers(model).items()]
    assert all(moved)
    for then, now in zip(before, (answers(model, batches), answers(model, others)), strict=True):
        torch.testing.assert_close(now, then, rtol=1e-3, atol=1e-3 * float(then.abs().max()))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_adopted_statistics_are_those_of_the_data(make: Make, batches: list[Tensor], backbone: str) -> None:
    model = lived_in(make(backbone))
    adopt_statistics(model, batches)
    with inputs_of(model) as seen:
        answers(model, batches)
    for name, layer in layers(model).items():
        var, mean = torch.var_mean(torch.cat(seen[name], 1), dim=1, correction=0)
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-3, atol=1e-4, msg=name)
        torch.testing.assert_close(layer.running_var.double(), var.clamp_min(1e-6), rtol=1e-3, atol=1e-5, msg=name)


def test_adopting_normalises_what_a_layer_gives_to_training(make: Make, batches: list[Tensor]) -> None:
    """Adopted, the eval-mode function and the function under the batch's own statistics meet."""
    model = lived_in(make())
    together = torch.cat(batches)
    adopt_statistics(model, [together])
    fixed = answers(model, [together])
    model.train()
    torch.testing.assert_close(answers(model, [together]), fixed, rtol=1e-2, atol=1e-2 * float(fixed.abs().max()))


def test_a_layer_that_cannot_compensate_keeps_its_statistics(make: Make, batches: list[Tensor]) -> None:
    model = lived_in(make())
    model.backbone.model.bn1 = nn.BatchNorm2d(model.backbone.model.bn1.num_features, affine=False)
    model.backbone.model.bn1.running_mean.fill_(0.1)
    before = answers(model.eval(), batches)
    adopt_statistics(model, batches)
    assert (model.backbone.model.bn1.running_mean == 0.1).all()
    torch.testing.assert_close(answers(model, batches), before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def test_a_silent_channel_gets_no_endless_scale(make: Make, batches: list[Tensor]) -> None:
    model = lived_in(make())
    model.backbone.model.conv1[0].weight.data[0] = 0.0
    before = answers(model, batches)
    adopt_statistics(model, batches)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    torch.testing.assert_close(answers(model, batches), before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_refreshed_statistics_are_the_average_over_images(make: Make, batches: list[Tensor], backbone: str) -> None:
    model = lived_in(make(backbone))
    reference = copy.deepcopy(model).eval()
    for layer in layers(reference).values():
        layer.train()  # each batch is normalised by its own statistics
    with inputs_of(reference) as seen:
        answers(reference, batches)
    momenta = [layer.momentum for layer in layers(model).values()]
    refresh_statistics(model, iter(batches), precision="fp32")
    for name, layer in layers(model).items():
        moments = [torch.var_mean(batch, dim=1, correction=1) for batch in seen[name]]
        shares = torch.tensor([len(images) for images in batches]).double() / sum(map(len, batches))
        var, mean = (torch.einsum("n,nc->c", shares, torch.stack(one)) for one in zip(*moments, strict=True))
        torch.testing.assert_close(layer.running_mean.double(), mean, rtol=1e-3, atol=1e-4, msg=name)
        torch.testing.assert_close(layer.running_var.double(), var, rtol=1e-3, atol=1e-4, msg=name)
        assert layer.num_batches_tracked == len(batches)
    assert [layer.momentum for layer in layers(model).values()] == momenta
    assert not any(module.training for module in model.modules())
    assert {k: v for k, v in model.named_parameters() if not torch.equal(v, reference.get_parameter(k))} == {}


@pytest.mark.parametrize("sizes", [[64, 1], [7, 2, 5], [4, 4], [3]])
def test_the_mean_of_the_first_layer_is_that_of_the_set(make: Make, sizes: list[int]) -> None:
    """Nothing before it depends on how images are divided into batches."""
    model, generator = lived_in(make()), torch.Generator().manual_seed(4)
    images = torch.randint(0, 90, (sum(sizes), 3, 32, 32), generator=generator, dtype=torch.uint8)
    images[-1] = 255  # unlike the others
    refresh_statistics(model, images.split(sizes), precision="fp32")
    name, first = next(iter(layers(model).items()))
    with inputs_of(model) as seen:
        answers(model, [images])
    torch.testing.assert_close(first.running_mean.double(), seen[name][0].mean(1), rtol=1e-4, atol=1e-5)


def test_one_image_that_is_left_over_is_no_batch_where_it_is_one_value(extended: Model, batches: list[Tensor]) -> None:
    """A layer behind pooling would have its variance of one number."""
    refresh_statistics(extended, batches[:1], precision="fp32", added_only=True)
    before = {name: layer.running_var.clone() for name, layer in layers(extended).items()}
    refresh_statistics(extended, [batches[0], batches[1][:1]], precision="fp32", added_only=True)
    for name, layer in layers(extended).items():
        torch.testing.assert_close(layer.running_var, before[name], msg=name)


def test_refreshing_an_average_leaves_what_did_not_learn(make: Make, batches: list[Tensor]) -> None:
    model = lived_in(make())
    average = copy.deepcopy(model).requires_grad_(False)
    for param in early_stages(model.backbone, 2):
        param.requires_grad_(False)
    before = copy.deepcopy(average.state_dict())
    refresh_statistics(average, batches, precision="fp32", trained=model)
    kept = {name for name, layer in layers(model).items() if not layer.weight.requires_grad}
    assert kept
    assert kept == {name for name in layers(model) if torch.equal(
        average.state_dict()[f"{name}.running_mean"], before[f"{name}.running_mean"])}  # fmt: skip


def test_a_backbone_without_batchnorm_is_left_alone(make: Make, batches: list[Tensor]) -> None:
    model = make("vit_tiny_patch16_224").eval()
    before = answers(model, batches)
    adopt_statistics(model, batches)
    refresh_statistics(model, batches, precision="fp32")
    assert torch.equal(answers(model, batches), before)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_do_not_move_in_training(make: Make, batches: list[Tensor], frozen: bool) -> None:
    model = lived_in(make()).train()
    if frozen:
        freeze_statistics(model)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for images in batches:
        optimizer.zero_grad()
        model(model.backbone.normalization(images)).logits.square().mean().backward()
        optimizer.step()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    statistics = {key for key in before if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert statistics
    assert moved & statistics == (set() if frozen else statistics)
    assert {f"{name}.weight" for name in layers(model)} <= moved  # scale and shift still learn
    assert {f"{name}.bias" for name in layers(model)} <= moved
    assert model.training


@pytest.fixture
def extended(make: Make) -> Model:
    """A model whose method has layers of its own: one that answers pass, and one that they do not."""
    model = make()
    model.backbone.neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(model.backbone.channels))
    model.method.unused = nn.BatchNorm1d(4)
    return model


def test_added_layers_are_those_beside_the_backbones(extended: Model) -> None:
    assert [id(layer) for layer in added_layers(extended)] == [
        id(extended.backbone.neck[2]),
        id(extended.method.unused),
    ]


def test_added_layers_learn_their_statistics_where_the_backbones_are_frozen(
    extended: Model, batches: list[Tensor]
) -> None:
    adopt_statistics(extended, batches)
    own = extended.backbone.neck[2]
    assert (own.running_mean == 0).all()  # they say nothing of any images
    extended.train()
    freeze_statistics(extended)
    kept = {name: layer.running_mean.clone() for name, layer in layers(extended).items()}
    extended(extended.backbone.normalization(batches[0]))
    moved = {name for name, layer in layers(extended).items() if not torch.equal(layer.running_mean, kept[name])}
    assert moved == {"method.backbone.neck.2"}


def test_what_is_added_can_be_refreshed_alone(extended: Model, batches: list[Tensor]) -> None:
    kept = {name: layer.running_mean.clone() for name, layer in layers(extended).items()}
    with inputs_of(extended) as seen:
        refresh_statistics(extended, batches, precision="fp32", added_only=True)
    moved = {name for name, layer in layers(extended).items() if not torch.equal(layer.running_mean, kept[name])}
    assert moved == {"method.backbone.neck.2"}
    means = torch.cat(seen["method.backbone.neck.2"], 1).mean(1)
    torch.testing.assert_close(extended.backbone.neck[2].running_mean.double(), means, rtol=1e-4, atol=1e-5)


def test_a_layer_that_answers_pass_by_is_left_alone(make: Make, batches: list[Tensor]) -> None:
    model = make("mobilenetv3_small_050")
    model.backbone.neck = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())  # in place of the backbone's own head
    model.backbone.model.unused = nn.BatchNorm2d(4)
    model.method.head.classifier.linear = nn.Linear(model.backbone.channels, 3)
    adopt_statistics(model, batches)
    assert torch.isfinite(model.backbone.model.unused.running_mean).all()
    assert (model.backbone.model.unused.weight == 1).all()
