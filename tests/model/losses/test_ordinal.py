"""The ordinal loss against the paper's formula and against torch's cross-entropy with soft targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from fieldmark.core.errors import RecipeError
from fieldmark.data.task import Task
from fieldmark.model.losses.ordinal import OrdinalLoss


@given(st.permutations(range(5)), st.floats(0.1, 4), st.integers(0, 2**31))
def test_it_is_the_definition(grades: list[int], sharpness: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (5, 5))
    found = OrdinalLoss(Task(5, grades=tuple(grades)), sharpness=sharpness).each(
        torch.from_numpy(logits), torch.arange(5)
    )
    for label in range(5):
        near = [math.exp(-sharpness * (grades[k] - grades[label]) ** 2) for k in range(5)]
        expected = -sum(q * z for q, z in zip(near, log_softmax(logits[label]), strict=True)) / sum(near)
        assert found[label].item() == pytest.approx(expected, rel=1e-5)


def test_it_is_cross_entropy_with_soft_targets_and_all_but_plain_when_sharp() -> None:
    logits, labels = torch.randn(8, 4), torch.arange(8) % 4
    loss = OrdinalLoss(Task(4, grades=(0, 1, 2, 3)))
    torch.testing.assert_close(
        loss.each(logits, labels), F.cross_entropy(logits, loss.targets[labels], reduction="none")
    )
    sharp = OrdinalLoss(Task(4, grades=(0, 1, 2, 3)), sharpness=50.0)
    torch.testing.assert_close(sharp.each(logits, labels), F.cross_entropy(logits, labels, reduction="none"))


def test_a_far_mistake_costs_more_than_a_near_one() -> None:
    logits, label = torch.tensor([[0.0, 4, 0, 0, 0], [0, 0, 0, 0, 4]]), torch.tensor([0, 0])
    near, far = OrdinalLoss(Task(5, grades=(0, 1, 2, 3, 4))).each(logits, label)
    assert near < far


def test_without_an_order_it_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"needs ordered classes.* labels\.order = \[\"none\", \"mild\", \"severe\"\]"
    ):
        OrdinalLoss(Task(3))
    with pytest.raises(RecipeError, match=r"loss\.sharpness = 0"):
        OrdinalLoss(Task(3, grades=(0, 1, 2)), sharpness=0.0)


def test_a_bundle_does_not_keep_it() -> None:
    assert OrdinalLoss(Task(3, grades=(0, 1, 2))).state_dict() == {}
