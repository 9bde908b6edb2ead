"""Evidence adds up, taps read and exchange what they should, and nothing of them stays behind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldmark.answering.explaining import evidence
from fieldmark.answering.explaining.evidence import (
    MOST_STEPS,
    STEPS,
    AgainstAll,
    Contrast,
    find_evidence,
    mean_gradient,
    start_of,
)
from fieldmark.answering.explaining.explanation import margins_of, odds
from fieldmark.answering.explaining.taps import CELLS, answers, last_map, read, tap
from fieldmark.model.method import Method, Prediction

NETWORKS = ("test_resnet", "mobilenetv3_small_050", "vit_tiny_patch16_224")
Make = Callable[[str], Method]


def test_evidence_of_a_linear_head_over_pooled_cells_is_exact(make: Make, image: Tensor) -> None:
    method = make("test_resnet")
    linear = method.head.classifier.linear
    found = find_evidence(method, image, Contrast(2, 1), last_map(method))
    with torch.no_grad():
        features = method.backbone(image).map[0]
    weight, bias = linear.weight.detach().double(), linear.bias.detach().double()
    expected = np.zeros(features.shape[1:])
    for row in range(expected.shape[0]):
        for column in range(expected.shape[1]):
            cell = features[:, row, column].double()
            expected[row, column] = float((weight[2] - weight[1]) @ cell) / expected.size
    np.testing.assert_allclose(found.cells, expected, atol=1e-6)
    assert found.rest == pytest.approx(float(bias[2] - bias[1]), abs=1e-5)
    assert found.margin == pytest.approx(expected.sum() + float(bias[2] - bias[1]), abs=1e-5)


def test_scales_and_bias_are_those_of_the_margin(make: Make, image: Tensor) -> None:
    method = make("test_resnet")
    plain = find_evidence(method, image, Contrast(0, 3), last_map(method))
    with torch.no_grad():
        logits = method(image).logits[0]
    scaled = find_evidence(method, image, Contrast(0, 3, (2.0, 2.0), 0.5), last_map(method))
    np.testing.assert_allclose(scaled.cells, 2 * plain.cells, atol=1e-6)
    assert scaled.margin == pytest.approx(2 * float(logits[0] - logits[3]) + 0.5, abs=1e-5)


def test_against_all_is_the_log_odds_of_the_probability() -> None:
    logits, scale, bias = (
        torch.randn(5, 4, dtype=torch.float64),
        torch.tensor([1.0, 2, 3, 4]),
        torch.tensor([0.0, 1, 0, 2]),
    )
    probability = torch.softmax(scale * logits + bias, dim=1)[:, 2]
    torch.testing.assert_close(AgainstAll(2, scale, bias)(logits), torch.logit(probability))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_is_averaged_on_the_way(
    name: str, make: Make, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a plain loop; with their gap, the cells add up to the margin less that of the start."""
    method, contrast = make(name), Contrast(0, 1)
    place = tap(method, image.shape[-1])
    with torch.no_grad(), read((place,)) as found:
        method(image)
    own = found[place]
    start = own.mean((2, 3), keepdim=True).expand_as(own) if "vit" in name else 0 * own
    assert torch.equal(start_of(method, own), start)
    empty, whole = margins_of(method, image, contrast, place, torch.cat([start, own])).tolist()
    for steps, close in ((STEPS, 1.0), (MOST_STEPS, 0.0)):
        monkeypatch.setattr(evidence, "CLOSE", close)
        slopes = []
        for step in range(steps):
            one = (start + (step + 0.5) / steps * (own - start)).requires_grad_()
            margin = contrast(answers(method, image, place, one))[0]
            slopes.append(torch.autograd.grad(margin, one)[0])
        expected = torch.stack(slopes).mean(0)
        gradient, gaps = mean_gradient(method, image, contrast, place, own)
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-4)
        found = find_evidence(method, image, contrast, place)
        assert found.gap == pytest.approx(float(gaps[0]), abs=1e-6)
        assert found.cells.sum() + found.gap == pytest.approx(whole - empty, abs=1e-4)
        assert abs(found.gap) < 0.1 * abs(whole - empty) + 2e-3


def test_there_are_more_steps_where_the_gap_is_wide(make: Make, image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    method, contrast = make("mobilenetv3_small_050"), Contrast(0, 1)
    place = tap(method, image.shape[-1])
    monkeypatch.setattr(evidence, "CLOSE", 1.0)
    rough = find_evidence(method, image, contrast, place)
    share = abs(rough.gap) / np.abs(rough.cells).sum()
    assert share > 1e-5
    monkeypatch.setattr(evidence, "CLOSE", 0.5 * share)
    monkeypatch.setattr(evidence, "MOST_STEPS", 1000)
    exact = find_evidence(method, image, contrast, place)
    assert abs(exact.gap) <= 0.5 * share * np.abs(exact.cells).sum()


def test_the_length_that_a_head_divides_by_is_no_evidence(make: Make, image: Tensor) -> None:
    """A linear head on features of unit length is as exact as any other; on the way the length is that of the image."""
    method = make("test_resnet")
    method.head.classifier.unit = True
    linear = method.head.classifier.linear
    with torch.no_grad():
        features = method.backbone(image)
        toward = (linear.weight[2] - linear.weight[1]) / features.pooled[0].norm()
        expected = torch.einsum("chw,c->hw", features.map[0], toward) / features.map[0, 0].numel()
    found = find_evidence(method, image, Contrast(2, 1), last_map(method))
    np.testing.assert_allclose(found.cells, expected.numpy(), atol=1e-5)
    assert found.gap == pytest.approx(0, abs=1e-5)
    assert found.rest == pytest.approx((linear.bias[2] - linear.bias[1]).item(), abs=1e-5)
    assert method.head.classifier.given is None
    early = find_evidence(method, image, Contrast(2, 1), tap(method, image.shape[-1]))
    assert abs(early.gap) < 0.1 * np.abs(early.cells).sum()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_tap_has_enough_cells_and_leaves_nothing_behind(name: str, make: Make, image: Tensor) -> None:
    method = make(name)
    with torch.no_grad():
        before = method(image).logits
        place = tap(method, image.shape[-1])
        with read((place, last_map(method))) as found:
            method(image)
        same, other = answers(method, image, place, torch.cat([found[place], torch.zeros_like(found[place])]))
        after = method(image).logits
    if "vit" not in name:  # its tokens are what they are
        assert found[place].shape[-1] >= CELLS
    torch.testing.assert_close(same, before[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(after, before)
    assert not torch.allclose(other, before[0], atol=1e-5)


class LooksTwice(torch.nn.Module):
    """The whole image and then, as crops would be, its mirror image."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method, self.backbone = method, method.backbone

    def forward(self, images: Tensor) -> Prediction:
        first, second = self.method(images), self.method(images.flip(3))
        embedding = torch.cat([first.embedding, second.embedding], dim=1)
        return Prediction(first.logits + second.logits, embedding, first.pooled)


def test_only_the_first_look_is_exchanged(make: Make, image: Tensor) -> None:
    once = make("test_resnet")
    twice = LooksTwice(once)
    place, bias = last_map(once), once.head.classifier.linear.bias.detach()
    with torch.no_grad():
        empty = torch.zeros(3, *once.backbone(image).map.shape[1:])
        expected = bias + once(image.flip(3)).logits[0]
        found = answers(twice, image, place, empty)  # as far as taps care it is a method
    torch.testing.assert_close(found, expected.expand(3, -1))


def test_a_class_token_that_ignores_the_last_cells_is_explained_by_those_before(make: Make, image: Tensor) -> None:
    method = make("vit_tiny_patch16_224")
    assert np.abs(find_evidence(method, image, Contrast(0, 1), last_map(method)).cells).max() == 0
    assert np.abs(find_evidence(method, image, Contrast(0, 1), tap(method, 64)).cells).max() > 0


@pytest.mark.parametrize(
    ("margin", "said"),
    [(0.0, "1.0 : 1"), (3.135, "23 : 1"), (-1.386, "1 : 4.0"), (9.0, "8,100 : 1"), (40.0, "over a million : 1")],
)
def test_odds_in_words(margin: float, said: str) -> None:
    assert odds(margin) == said
