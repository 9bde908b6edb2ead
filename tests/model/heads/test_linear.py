"""The linear classifier, which may read features of unit length."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fieldmark.model.heads.linear import LinearClassifier


@pytest.fixture
def head() -> LinearClassifier:
    torch.manual_seed(0)
    return LinearClassifier(6, 4, unit=True).double()


FEATURES = torch.rand(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_length_of_features_does_not_matter(head: LinearClassifier) -> None:
    torch.testing.assert_close(head(FEATURES), head(7 * FEATURES))
    torch.testing.assert_close(head(FEATURES), head.linear(F.normalize(FEATURES)))


def test_without_it_logits_are_products() -> None:
    plain = LinearClassifier(6, 4).double()
    torch.testing.assert_close(plain(FEATURES), FEATURES @ plain.linear.weight.T + plain.linear.bias)


def test_shares_of_an_answer_add_up(head: LinearClassifier) -> None:
    """Gradient times features: what explanations show of each cell."""
    features = FEATURES.clone().requires_grad_()
    margin = head.eval()(features)[:, 0] - head(features)[:, 1]
    (gradient,) = torch.autograd.grad(margin.sum(), features)
    bias = head.linear.bias[0] - head.linear.bias[1]
    torch.testing.assert_close((gradient * features).sum(1) + bias, margin)


def test_learning_knows_that_the_length_changes(head: LinearClassifier) -> None:
    features = FEATURES.clone().requires_grad_()
    assert torch.autograd.gradcheck(head.train(), (features,))


def test_features_without_a_direction(head: LinearClassifier) -> None:
    features = torch.zeros(2, 6, dtype=torch.float64, requires_grad=True)
    logits = head.train()(features)
    torch.testing.assert_close(logits, head.linear.bias.expand(2, -1))
    logits.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
