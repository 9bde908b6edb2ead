"""Evidence adds up, taps read and exchange what they should, and nothing of them stays behind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldmark.answering.explaining.evidence import AgainstAll, Contrast, find_evidence, mean_gradient, start_of
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
def test_the_gradient_is_averaged_on_the_way(name: str, make: Make, image: Tensor) -> None:
    """Against a plain loop; the cells add up to the margin less that of the start."""
    method, contrast = make(name), Contrast(0, 1)
    place = tap(method, image.shape[-1])
    with torch.no_grad(), read((place,)) as found:
        method(image)
    own = found[place]
    start = own.mean((2, 3), keepdim=True).expand_as(own) if "vit" in name else 0 * own
    assert torch.equal(start_of(method, own), start)
    slopes = []
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        one = (start + share * (own - start)).requires_grad_()
        margin = contrast(answers(method, image, place, one))[0]
        slopes.append(torch.autograd.grad(margin, one)[0])
    expected = torch.stack(slopes).mean(0)
    torch.testing.assert_close(mean_gradient(method, image, contrast, place, own), expected, atol=1e-5, rtol=1e-4)
    empty, whole = margins_of(method, image, contrast, place, torch.cat([start, own])).tolist()
    cells = find_evidence(method, image, contrast, place).cells
    assert cells.sum() == pytest.approx(whole - empty, abs=0.1 * abs(whole - empty) + 2e-3)


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
