"""Heads for attributes against the sum of their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from fieldmark.data.task import Attribute
from fieldmark.model.attributes import AttributeHeads

BEAK = Attribute("beak", ("red", "yellow", "black"), (80, 15, 5))
RING = Attribute("eye ring", ("no", "yes"), (50, 50))


@pytest.fixture
def heads() -> AttributeHeads:
    torch.manual_seed(0)
    return AttributeHeads(7, (BEAK, RING), weight=0.5)


def test_the_loss_is_that_of_the_definition(heads: AttributeHeads) -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(5, 7)).astype(np.float32))
    targets = torch.tensor([[0, 1], [2, -1], [-1, -1], [1, 0], [-1, 1]])
    weights = torch.tensor([1.0, 0.7, 1.0, 0.2, 1.0])
    logits = heads(features)
    assert [tuple(z.shape) for z in logits] == [(5, 3), (5, 2)]
    total = 0.0
    for attribute, (z, counts) in enumerate(zip(logits, (BEAK.counts, RING.counts), strict=True)):
        prior = np.log(np.array(counts) / sum(counts))
        adjusted = log_softmax(z.detach().double().numpy() + prior, axis=1)  # Menon et al. 2021, equation 10
        for image in range(5):
            if (value := int(targets[image, attribute])) >= 0:
                total -= weights[image].item() * adjusted[image, value]
    assert heads.loss(features, targets, weights).item() == pytest.approx(0.5 * total / 10, rel=1e-5)


def test_what_is_unknown_teaches_nothing(heads: AttributeHeads) -> None:
    features = torch.randn(4, 7, requires_grad=True)
    heads.loss(features, torch.full((4, 2), -1), torch.ones(4)).backward()
    assert features.grad is not None
    assert not features.grad.any()


def test_only_the_classifiers_are_kept(heads: AttributeHeads) -> None:
    assert list(heads.state_dict()) == ["linear.0.weight", "linear.0.bias", "linear.1.weight", "linear.1.bias"]
