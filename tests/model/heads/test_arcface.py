"""Sub-centre ArcFace against pytorch-metric-learning and against angles."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SubCenterArcFaceLoss

from fieldmark.core.errors import RecipeError
from fieldmark.data.task import Task
from fieldmark.model.heads.arcface import ArcFaceClassifier, with_margin
from fieldmark.model.losses.cross_entropy import CrossEntropy

WIDTH, CLASSES = 6, 4


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1.2), st.floats(1, 64), st.integers(1, 3), st.integers(0, 2**31))
def test_the_loss_is_that_of_the_reference(margin: float, scale: float, centres: int, seed: int) -> None:
    torch.manual_seed(seed)
    head = ArcFaceClassifier(WIDTH, CLASSES, margin=margin, scale=scale, sub_centres=centres).double()
    theirs = SubCenterArcFaceLoss(
        num_classes=CLASSES, embedding_size=WIDTH, margin=math.degrees(margin), scale=scale, sub_centers=centres
    ).double()
    theirs.W.data = head.weight.data.t().clone()
    features = torch.randn(8, WIDTH, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(8) % CLASSES
    with torch.no_grad():
        features[0] = -head.weight[0] + 0.1 * head.weight[1]  # beyond π − margin
    loss = CrossEntropy(Task(CLASSES))
    ours = loss(head.towards(features, labels.unsqueeze(1)), labels.unsqueeze(1), torch.ones(8, 1))
    expected = theirs(features, labels)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-5)
    (slope,), (reference,) = (torch.autograd.grad(value, features) for value in (ours, expected))
    torch.testing.assert_close(slope, reference, rtol=1e-3, atol=1e-4 * scale)


def test_the_margin_widens_the_angle_and_never_rewards_a_larger_one() -> None:
    angles = torch.linspace(0.01, math.pi - 0.01, 300, dtype=torch.float64)
    learnt = with_margin(angles.cos(), 0.5)
    below = angles < math.pi - 0.5
    torch.testing.assert_close(learnt[below], (angles[below] + 0.5).cos(), atol=1e-6, rtol=0)
    assert (learnt.diff() < 0).all()
    assert (learnt < angles.cos()).all()


def test_a_slope_where_features_meet_their_centre() -> None:
    cosine = torch.tensor([1.0, -1.0], requires_grad=True)
    with_margin(cosine, 0.5).sum().backward()
    assert cosine.grad is not None
    assert cosine.grad.isfinite().all()


def test_the_answer_has_no_margin_and_the_nearest_centre_counts() -> None:
    head = ArcFaceClassifier(2, 2, scale=10.0, sub_centres=2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [-2.0, -2.0]]))
    logits = head(torch.tensor([[0.0, 5.0], [-1.0, -1.0]]))
    torch.testing.assert_close(logits, 10 * torch.tensor([[1.0, 0.0], [-math.sqrt(0.5), 1.0]]))


def test_each_target_of_a_mixed_image_has_its_margin() -> None:
    torch.manual_seed(0)
    head, features = ArcFaceClassifier(WIDTH, CLASSES), torch.randn(3, WIDTH)
    labels = torch.tensor([[0, 1], [2, 2], [3, 0]])
    both = head.towards(features, labels)
    for t in range(2):
        torch.testing.assert_close(both[:, t], head.towards(features, labels[:, t : t + 1])[:, 0])
    plain = head(features)
    changed = both != plain.unsqueeze(1)
    assert (changed == torch.nn.functional.one_hot(labels, CLASSES).bool()).all()


@pytest.mark.parametrize("options", [{"margin": 2.0}, {"margin": -0.1}, {"scale": 0.0}, {"sub_centres": 0}])
def test_options_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=rf"head\.{next(iter(options))} = .*\. Expected .*; the paper uses "):
        ArcFaceClassifier(WIDTH, CLASSES, **options)
