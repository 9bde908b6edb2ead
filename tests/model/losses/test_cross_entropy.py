"""Weighted cross-entropy against a brute-force loop and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.data.task import Task
from fieldmark.model.losses.cross_entropy import CrossEntropy


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Each target sees the same logits (B, K)."""
    loss = CrossEntropy(Task(logits.shape[1]), label_smoothing=smoothing)
    return loss(logits.unsqueeze(1).expand(-1, labels.shape[1], -1), labels, weights)


def brute_force(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float) -> float:
    """(1/B) Σᵢ Σₜ wᵢₜ Σₖ −qₖ log pᵢₖ with q = (1 − s) · onehot + s/K (Szegedy et al. 2016, section 7)."""
    log_p = log_softmax(logits.double().numpy(), axis=1)
    count, classes = log_p.shape
    total = 0.0
    for i in range(count):
        for t in range(labels.shape[1]):
            for k in range(classes):
                q = (1 - smoothing) * (labels[i, t] == k).item() + smoothing / classes
                total -= weights[i, t].item() * q * log_p[i, k]
    return total / count


@given(st.integers(1, 5), st.integers(2, 6), st.integers(1, 3), st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 2**31))
def test_it_is_the_sum_of_the_definition(count: int, classes: int, targets: int, smoothing: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 4, (count, classes)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, classes, (count, targets)))
    weights = torch.from_numpy(rng.random((count, targets)).astype(np.float32))  # need not sum to one
    loss = cross_entropy(logits, labels, weights, smoothing=smoothing)
    np.testing.assert_allclose(loss, brute_force(logits, labels, weights, smoothing), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_target_of_full_weight_is_torchs_own(smoothing: float) -> None:
    logits = torch.randn(8, 5, requires_grad=True)
    labels = torch.arange(8) % 5
    ours = cross_entropy(logits, labels.unsqueeze(1), torch.ones(8, 1), smoothing=smoothing)
    theirs = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_two_mixed_targets_are_torchs_soft_labels() -> None:
    logits, labels, share = torch.randn(6, 4), torch.tensor([[0, 1], [2, 2], [3, 0], [1, 3], [0, 2], [1, 1]]), 0.3
    weights = torch.tensor([share, 1 - share]).expand(6, 2)
    soft = share * F.one_hot(labels[:, 0], 4) + (1 - share) * F.one_hot(labels[:, 1], 4)
    torch.testing.assert_close(cross_entropy(logits, labels, weights), F.cross_entropy(logits, soft))


def test_logits_of_half_precision_are_summed_in_full() -> None:
    logits = torch.tensor([[10.0, 10.0625, -10.0]])
    labels, weights = torch.tensor([[0]]), torch.ones(1, 1)
    loss = cross_entropy(logits.bfloat16(), labels, weights)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits, labels, weights))


def test_adjusted_logits_are_those_of_the_definition() -> None:
    counts, logits, labels = (90, 9, 1), torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 0])
    loss = CrossEntropy(Task(3, counts), logit_adjustment=1.5)
    prior = torch.tensor(counts) / 100
    pairs = zip(logits, labels, strict=True)  # Menon et al. 2021, equation 10
    expected = torch.stack([-torch.log(prior[y] ** 1.5 * z[y].exp() / (prior**1.5 * z.exp()).sum()) for z, y in pairs])
    torch.testing.assert_close(loss.each(logits, labels), expected)
    assert loss.state_dict() == {}


def test_a_class_without_images_leaves_the_loss_finite() -> None:
    loss = CrossEntropy(Task(2, (3, 0)), logit_adjustment=1.0)
    assert torch.isfinite(loss.each(torch.zeros(2, 2), torch.tensor([0, 1]))).all()


@pytest.mark.parametrize(("options", "key"), [({"label_smoothing": 1.0}, "label_smoothing"),
                                              ({"logit_adjustment": -1.0}, "logit_adjustment")])  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, float], key: str) -> None:
    with pytest.raises(RecipeError, match=rf"loss\.{key} = "):
        CrossEntropy(Task(2), **options)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classes_without_training_images_have_no_share(smoothing: float) -> None:
    """Silenced logits of −10,000 once made a smoothed loss of 250."""
    logits, labels = torch.randn(8, 5), torch.arange(8) % 3
    silenced = logits.clone()
    silenced[:, 3:] = -1e4
    loss = CrossEntropy(Task(5, unlearnt=(3, 4)), label_smoothing=smoothing)
    found = loss(silenced.unsqueeze(1), labels.unsqueeze(1), torch.ones(8, 1))
    torch.testing.assert_close(found, F.cross_entropy(logits[:, :3], labels, label_smoothing=smoothing))
