"""WS-DAN and CAL against loops over cells, maps and images."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldmark.augment.attention import closer
from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.methods.bilinear_attention import BilinearAttention, bilinear_attention_pooling
from fieldmark.model.batch import Batch
from support.models import build_method

CLASSES, SIZE = 3, 64


def build(backbone: str = "test_resnet", **options: Any) -> BilinearAttention:
    torch.manual_seed(0)
    vit = {"depth": 2, "embed_dim": 48, "num_heads": 3} if backbone.startswith("vit") else {}
    recipe = Recipe(
        images=Images(size=SIZE),
        backbone=Backbone(name=backbone, weights="none", options=vit),
        method=Choice(name="bilinear_attention", **({"maps": 4} | options)),
    )
    method = build_method(recipe, Task(CLASSES))
    assert isinstance(method, BilinearAttention)
    return method


def batch_of(labels: list[list[int]], weights: list[list[float]] | None = None) -> Batch:
    images = torch.randn(len(labels), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    shares = torch.tensor(weights) if weights else torch.ones(len(labels), len(labels[0]))
    return Batch(images, torch.tensor(labels), shares, torch.arange(len(labels)))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**30))
def test_pooling_is_a_loop(channels: int, num_maps: int, height: int, width: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    cells = torch.randn(2, channels, height, width, generator=draw)
    maps = torch.rand(2, num_maps, height, width, generator=draw)
    found = bilinear_attention_pooling(cells, maps)
    for b in range(2):
        expected = []
        for m in range(num_maps):
            for c in range(channels):
                total = sum(
                    float(maps[b, m, i, j]) * float(cells[b, c, i, j]) for i in range(height) for j in range(width)
                )
                mean = total / (height * width)
                expected.append(math.copysign(math.sqrt(abs(mean) + 1e-6), mean))
        length = math.sqrt(sum(value**2 for value in expected))
        assert found[b].tolist() == pytest.approx([value / length for value in expected], abs=1e-5)


def test_pooling_is_precise_in_bf16() -> None:
    cells, maps = torch.randn(2, 8, 5, 5), torch.rand(2, 4, 5, 5)
    plain = bilinear_attention_pooling(cells, maps)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bilinear_attention_pooling(cells, maps), plain)
        method = build().train()
        losses = method.losses(batch_of([[0], [1]]), 0).terms
        maps = method.eval().class_maps(batch_of([[0], [1]]).images, torch.tensor([0, 1]))
    assert all(torch.isfinite(value) for value in losses.values())
    assert torch.isfinite(maps).all()
    torch.stack([value.float() for value in losses.values()]).sum().backward()
    assert torch.isfinite(method.attention[0].weight.grad).all()


def test_a_map_that_sees_nothing_has_a_slope() -> None:
    cells, maps = torch.randn(1, 3, 2, 2, requires_grad=True), torch.zeros(1, 2, 2, 2, requires_grad=True)
    bilinear_attention_pooling(cells, maps).sum().backward()
    assert torch.isfinite(maps.grad).all()
    assert torch.isfinite(cells.grad).all()


def test_the_effect_by_hand() -> None:
    """Cross-entropy on what attention adds to each logit, compared with attention that was drawn."""
    method = build(counterfactual=True).train()
    batch = batch_of([[0], [2]])
    seen = method._see(batch.images)
    torch.manual_seed(7)
    losses = method._head_losses(seen, batch)
    torch.manual_seed(7)
    anywhere = torch.empty_like(seen.maps).uniform_(0, 2)
    assert 0 <= anywhere.min() < 0.5 < 1.5 < anywhere.max() < 2
    weight, bias = method.head.classifier.linear.weight, method.head.classifier.linear.bias
    expected = []
    for i, label in enumerate([0, 2]):
        fact = 100 * weight @ seen.matrix[i] + bias
        pooled = bilinear_attention_pooling(seen.cells[i : i + 1], anywhere[i : i + 1])[0]
        effect = fact - (100 * weight @ pooled + bias)
        expected.append(-(effect[label] - effect.exp().sum().log()))
    torch.testing.assert_close(losses["effect"], torch.stack(expected).mean())
    plain = F.cross_entropy(100 * seen.matrix @ weight.T + bias, torch.tensor([0, 2]))
    torch.testing.assert_close(losses["classification"], plain)


@pytest.mark.parametrize("counterfactual", [True, False])
def test_which_losses_there_are(counterfactual: bool) -> None:
    losses = build(counterfactual=counterfactual).losses(batch_of([[0], [1], [2]]), 0).terms
    effects = {"image_effect", "views_effect"} if counterfactual else set()
    assert set(losses) == {"image_classification", "views_classification", "centres"} | effects


def test_views_share_the_weight_of_the_loss() -> None:
    """Where crop and drop are the image itself, all three parts are the plain loss together."""
    method = build(counterfactual=False).eval()
    batch = batch_of([[0], [1]])
    method._views = lambda images, maps: images.repeat(2, 1, 1, 1)
    losses = method.losses(batch, 0).terms
    plain = F.cross_entropy(method(batch.images).logits, batch.labels[:, 0])
    torch.testing.assert_close(losses["image_classification"] + losses["views_classification"], plain)


def loop_over_centres(
    centres: Tensor, matrix: Tensor, labels: list[list[int]], weights: list[list[float]], beta: float
) -> tuple[float, Tensor]:
    loss, after = 0.0, centres.clone()
    for f, own, shares in zip(matrix, labels, weights, strict=True):
        for label, share in zip(own, shares, strict=True):
            centre = centres[label] / max(float(centres[label].norm()), 1e-12)
            loss += share * float(((f - centre) ** 2).sum())
    for label in range(len(centres)):
        members = [
            (share, f) for f, own, shares in zip(matrix, labels, weights, strict=True)
            for at, share in zip(own, shares, strict=True) if at == label
        ]  # fmt: skip
        total = sum(share for share, _ in members)
        if members:
            pull = sum(share * (f - centres[label]) for share, f in members)
            after[label] = centres[label] + beta * pull / max(total, 1.0)
    return loss / len(matrix), after


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        ([[0], [2], [0]], [[1.0], [1.0], [1.0]]),
        ([[0, 1], [1, 0], [1, 1]], [[0.7, 0.3], [0.9, 0.4], [0.2, 0.1]]),
    ],
)
def test_centres_are_a_loop(labels: list[list[int]], weights: list[list[float]]) -> None:
    method = build(beta=0.1).train()
    method.centres.copy_(torch.randn(method.centres.shape, generator=torch.Generator().manual_seed(3)))
    matrix = F.normalize(torch.randn(3, method.centres.shape[1]), dim=1)
    loss, after = loop_over_centres(method.centres, matrix, labels, weights, 0.1)
    found = method._centre_loss(matrix, batch_of(labels, weights))
    assert float(found) == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(method.centres, after)


def test_centres_rest_when_nothing_is_learnt() -> None:
    method = build().eval()
    method.losses(batch_of([[0], [1]]), 0)
    assert (method.centres == 0).all()


def test_views_are_drawn_from_torchs_generator() -> None:
    method = build().train()
    batch = batch_of([[0], [1], [2]])
    maps = method._see(batch.images).maps.detach()
    torch.manual_seed(3)
    first = method._views(batch.images, maps)
    torch.manual_seed(3)
    assert torch.equal(first, method._views(batch.images, maps))
    assert first.shape == (6, 3, SIZE, SIZE)
    assert not torch.equal(first, method._views(batch.images, maps))


@pytest.mark.parametrize("backbone", ["test_resnet", "vit_tiny_patch16_224", "mobilenetv2_035"])
def test_class_maps_sum_to_the_logit(backbone: str) -> None:
    method = build(backbone).eval()
    with torch.no_grad():
        batch, labels = batch_of([[0], [1], [2]]), torch.tensor([2, 0, 1])
        prediction = method(batch.images)
        maps = method.class_maps(batch.images, labels)
    assert maps.shape == (3, *prediction.parts.shape[-2:])
    assert prediction.parts.shape[1] == 4
    expected = prediction.logits.gather(1, labels[:, None])[:, 0] - method.head.classifier.linear.bias[labels]
    torch.testing.assert_close(maps.sum((1, 2)), expected, rtol=2e-2, atol=2e-2)
    assert all(p.grad is None for p in method.parameters())


def test_a_second_look_is_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, refined = build().eval(), build(refine=True).eval()
    images, boxes = batch_of([[0], [1]]).images, torch.tensor([[8, 0, 40, 32], [0, 16, 64, 60]])
    asked: list[Tensor] = []

    def drawn(maps: Tensor, size: tuple[int, int], thresholds: Tensor, *, padding: float) -> Tensor:
        asked.append(maps)
        return boxes

    monkeypatch.setattr("fieldmark.methods.bilinear_attention.regions", drawn)
    with torch.no_grad():
        one, two, both = plain(images), plain(closer(images, boxes)), refined(images)
    torch.testing.assert_close(both.logits, (one.logits + two.logits) / 2)
    assert not torch.allclose(one.logits, two.logits)
    assert torch.equal(one.embedding, both.embedding)
    assert torch.equal(asked[0], both.parts.mean(1))


def test_mixed_targets_weigh_all_terms() -> None:
    method = build().train()
    batch = batch_of([[0, 1], [1, 2]], [[0.5, 0.5], [1.0, 0.0]])
    torch.manual_seed(0)
    once = method.losses(batch, 0).terms
    method.centres.zero_()
    torch.manual_seed(0)
    twice = method.losses(replace(batch, weights=2 * batch.weights), 0).terms
    for name, value in once.items():
        torch.testing.assert_close(twice[name], 2 * value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": 1}, "method.maps = 1 is not allowed. Expected at least two"),
        ({"beta": 1.5}, "method.beta = 1.5 is not allowed. Expected a share"),
        ({"scale": 0.0}, "method.scale = 0.0 is not allowed. Expected a positive number"),
    ],
)
def test_messages(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        build(**options)
