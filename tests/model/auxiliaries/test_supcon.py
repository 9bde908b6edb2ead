"""Supervised contrast against a loop over the definition and against pytorch-metric-learning."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.model.auxiliaries.supcon import SupCon, supervised_contrast


def brute_force(z: Tensor, labels: Tensor, temperature: float) -> float:
    """Khosla et al. 2020, equation 2, over the images that have a partner."""
    found = []
    for i in range(len(z)):
        partners = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
        below = sum(math.exp(z[i] @ z[a] / temperature) for a in range(len(z)) if a != i)
        if partners:
            shares = [math.exp(z[i] @ z[p] / temperature) / below for p in partners]
            found.append(-sum(math.log(share) for share in shares) / len(partners))
    return sum(found) / len(found) if found else 0.0


def batch(labels: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(len(labels), 3, dtype=torch.float64, generator=generator)
    return F.normalize(z).requires_grad_(), torch.tensor(labels)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.floats(0.05, 2), st.integers(0, 2**31))
def test_it_is_the_sum_of_the_definition(labels: list[int], temperature: float, seed: int) -> None:
    z, truth = batch(labels, seed)
    loss = supervised_contrast(z, truth, temperature)
    assert loss.item() == pytest.approx(brute_force(z.detach(), truth, temperature), rel=1e-6, abs=1e-9)
    loss.backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 2, 3]])  # in the second, some have no partner
def test_the_loss_and_its_slope_are_those_of_the_reference(labels: list[int]) -> None:
    features, truth = torch.randn(len(labels), 3, requires_grad=True), torch.tensor(labels)
    ours = supervised_contrast(F.normalize(features), truth, 0.1)
    theirs = SupConLoss(temperature=0.1)(features, truth)  # which normalises them itself
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, features)[0] for loss in (ours, theirs)))


@pytest.mark.parametrize("labels", [[0, 1, 2], [0]])
def test_a_batch_without_a_pair_is_a_zero_that_can_be_learnt_from(labels: list[int]) -> None:
    torch.manual_seed(0)
    auxiliary = SupCon(5)
    loss = auxiliary(torch.randn(len(labels), 5), torch.tensor(labels))
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in auxiliary.parameters())


def test_the_projection_is_contrasted_and_weighted() -> None:
    torch.manual_seed(0)
    auxiliary, features, labels = SupCon(5, weight=0.5, projection=3), torch.randn(4, 5), torch.tensor([0, 0, 1, 1])
    z = F.normalize(auxiliary.project(features))
    assert z.shape == (4, 3)
    torch.testing.assert_close(auxiliary(features, labels), 0.5 * supervised_contrast(z, labels, 0.1))
    with torch.autocast("cpu", torch.bfloat16):
        assert auxiliary(features, labels).dtype == torch.float32


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"temperature": 0.0}, {"projection": 0}])
def test_options_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=rf"auxiliary\.{next(iter(options))} = .*\. Expected "):
        SupCon(5, **options)
