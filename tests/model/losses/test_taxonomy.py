"""The taxonomy loss against its definition by conditional probabilities, computed in loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from fieldmark.core.errors import RecipeError
from fieldmark.data.task import Task
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.model.losses.cross_entropy import CrossEntropy
from fieldmark.model.losses.taxonomy import TaxonomyLoss

GENUS = ("larus", "larus", "larus", "sterna", "sterna", "corvus")
FAMILY = ("gulls", "gulls", "gulls", "gulls", "gulls", "crows")
ABOVE = {"genus": GENUS, "family": FAMILY}


def task(above: dict[str, tuple[str, ...]], num_classes: int = 6) -> Task:
    return Task(num_classes, taxonomy=Taxonomy.of([f"class {k}" for k in range(num_classes)], above))


TASK = task(ABOVE)


def definition(logits: NDArray[np.float64], label: int, alpha: float) -> float:
    """−Σₕ exp(−α · (H − 1 − h)) · log p(Cʰ | Cʰ⁺¹), from the class to the root (Bertinetto et al. 2020, equation 3)."""
    p = softmax(logits)
    under = [
        {label},
        {k for k in range(6) if GENUS[k] == GENUS[label]},
        {k for k in range(6) if FAMILY[k] == FAMILY[label]},
        set(range(6)),
    ]
    total = 0.0
    for h in range(3):
        given_parent = sum(p[k] for k in under[h]) / sum(p[k] for k in under[h + 1])
        total -= math.exp(-alpha * (2 - h)) * math.log(given_parent)
    return total


@given(st.floats(0, 3), st.integers(0, 2**31))
def test_it_is_the_definition(alpha: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (6, 6))
    found = TaxonomyLoss(TASK, alpha=alpha).each(torch.from_numpy(logits), torch.arange(6))
    np.testing.assert_allclose(found, [definition(logits[k], k, alpha) for k in range(6)], rtol=1e-6, atol=1e-9)


def test_alpha_of_zero_is_cross_entropy() -> None:
    logits, labels = torch.randn(9, 6), torch.arange(9) % 6
    found = TaxonomyLoss(TASK, alpha=0.0).each(logits, labels)
    torch.testing.assert_close(found, F.cross_entropy(logits, labels, reduction="none"))


@given(st.floats(0, 0.5), st.sets(st.integers(0, 5), max_size=3))
def test_alpha_of_zero_is_cross_entropy_with_the_same_smoothing(smoothing: float, unlearnt: set[int]) -> None:
    some = replace(TASK, counts=tuple(0 if k in unlearnt else 3 for k in range(6)))
    logits, labels = torch.randn(9, 6), torch.arange(9) % 6
    found = TaxonomyLoss(some, alpha=0.0, label_smoothing=smoothing).each(logits, labels)
    torch.testing.assert_close(found, CrossEntropy(some, label_smoothing=smoothing).each(logits, labels))


def test_smoothing_is_a_share_of_the_loss() -> None:
    logits, labels = torch.randn(9, 6), torch.arange(9) % 6
    plain, all_alike = TaxonomyLoss(TASK).each(logits, labels), -F.log_softmax(logits, 1).mean(1)
    found = TaxonomyLoss(TASK, label_smoothing=0.1).each(logits, labels)
    torch.testing.assert_close(found, 0.9 * plain + 0.1 * all_alike)
    with pytest.raises(RecipeError, match="label_smoothing = 1"):
        TaxonomyLoss(TASK, label_smoothing=1)


def test_a_far_mistake_costs_more_than_a_near_one() -> None:
    near, far = torch.tensor([[0.0, 5, 0, 0, 0, 0]]), torch.tensor([[0.0, 0, 0, 0, 0, 5]])
    label = torch.tensor([0])
    assert F.cross_entropy(near, label) == F.cross_entropy(far, label)
    loss = TaxonomyLoss(TASK)
    assert loss.each(near, label) < loss.each(far, label)


def test_it_stays_finite_where_a_branch_is_all_but_impossible() -> None:
    logits = torch.tensor([[0.0, 0, 0, 0, 0, 500]], requires_grad=True)
    loss = TaxonomyLoss(TASK).each(logits, torch.tensor([0])).sum()
    assert loss.item() == pytest.approx(500, rel=0.05)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(gradient).all()


def test_levels_that_divide_nothing_are_no_levels() -> None:
    more = task({"species": tuple("abcdef"), **ABOVE, "kingdom": ("animals",) * 6})
    logits, labels = torch.randn(6, 6), torch.arange(6)
    torch.testing.assert_close(TaxonomyLoss(more).each(logits, labels), TaxonomyLoss(TASK).each(logits, labels))


@pytest.mark.parametrize(
    ("taxonomy", "message"),
    [
        ({}, r"needs a taxonomy of the classes, but the data has none\. Nest the class"),
        (
            {"kingdom": ("animals",) * 3},
            r"a level that groups some classes but not all, and there is none among kingdom\.",
        ),
        ({"species": ("a", "b", "c")}, r"and there is none among species\. Add classes that share, for"),
    ],
)
def test_without_a_taxonomy_it_is_refused(taxonomy: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        TaxonomyLoss(task(taxonomy, 3))


def test_where_no_taxonomy_is_known_it_is_refused() -> None:
    with pytest.raises(RecipeError, match="needs a taxonomy of the classes, but the data has none"):
        TaxonomyLoss(Task(3))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"loss\.alpha = -1"):
        TaxonomyLoss(TASK, alpha=-1)


def test_a_bundle_does_not_keep_it() -> None:
    assert TaxonomyLoss(TASK).state_dict() == {}
