"""Proxy-Anchor against pytorch-metric-learning."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.losses import ProxyAnchorLoss

from fieldmark.core.errors import RecipeError
from fieldmark.data.task import Task
from fieldmark.model.heads.cosine import cosines
from fieldmark.model.losses.proxy_anchor import ProxyAnchor

CLASSES, WIDTH, SCALE, MARGIN = 5, 4, 32.0, 0.1


@given(st.integers(0, 99), st.integers(1, 12))
def test_it_is_the_loss_of_the_paper(seed: int, images: int) -> None:
    torch.manual_seed(seed)
    theirs = ProxyAnchorLoss(CLASSES, WIDTH, margin=MARGIN, alpha=SCALE)
    features, labels = torch.randn(images, WIDTH, requires_grad=True), torch.randint(CLASSES, (images,))
    logits = SCALE * cosines(features, theirs.proxies)
    found = ProxyAnchor(Task(CLASSES), margin=SCALE * MARGIN)(logits[:, None], labels[:, None], torch.ones(images, 1))
    expected = theirs(features, labels)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    (ours,), (reference,) = (torch.autograd.grad(loss, features, retain_graph=True) for loss in (found, expected))
    torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-4)


def test_an_image_of_two_classes_counts_for_each_with_its_share() -> None:
    torch.manual_seed(0)
    loss, logits = ProxyAnchor(Task(CLASSES)), torch.randn(3, 1, CLASSES)
    whole = loss(logits, torch.tensor([[0], [1], [2]]), torch.ones(3, 1))
    twice = logits.expand(-1, 2, -1)
    same = loss(twice, torch.tensor([[0, 0], [1, 1], [2, 2]]), torch.tensor([[0.75, 0.25]] * 3))
    assert same.item() == pytest.approx(whole.item(), rel=1e-5)
    mixed = loss(twice, torch.tensor([[0, 1], [1, 1], [2, 2]]), torch.tensor([[0.75, 0.25], [1, 0], [1, 0]]))
    other = loss(logits, torch.tensor([[1], [1], [2]]), torch.ones(3, 1))
    assert mixed.item() not in (pytest.approx(whole.item()), pytest.approx(other.item()))


@pytest.mark.parametrize("weight", [1.0, 0.5, 0.1])
def test_an_image_that_counts_less_is_not_pushed_from_its_own_class(weight: float) -> None:
    logits = torch.tensor([[[20.0, 0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    ProxyAnchor(Task(CLASSES))(logits, torch.tensor([[0]]), torch.tensor([[weight]])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0] <= 0
    assert (logits.grad[0, 0, 1:] > 0).all()


def test_classes_that_are_not_learnt_have_no_proxy() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(4, 1, 3), torch.tensor([[0], [1], [1], [0]]), torch.ones(4, 1)
    silenced = logits + torch.tensor([0.0, 0.0, -1e4])
    few = ProxyAnchor(Task(3, unlearnt=(2,)))(silenced, labels, weights)
    assert few.item() == pytest.approx(ProxyAnchor(Task(2))(logits[..., :2], labels, weights).item())


def test_a_single_target_has_the_loss_of_its_batch() -> None:
    loss, logits, labels = ProxyAnchor(Task(3)), torch.randn(2, 3), torch.tensor([2, 0])
    for one, z, label in zip(loss.each(logits, labels), logits, labels, strict=True):
        assert one.item() == pytest.approx(loss(z.view(1, 1, 3), label.view(1, 1), torch.ones(1, 1)).item())


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"loss\.margin = -1 is not allowed\. Expected 0 or more"):
        ProxyAnchor(Task(2), margin=-1)
