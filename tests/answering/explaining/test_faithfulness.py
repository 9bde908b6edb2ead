"""`benchmarks/explanation_measures.py`, against algebra and by hand."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldmark.answering.explaining.evidence import Contrast, find_evidence
from fieldmark.answering.explaining.taps import last_map
from fieldmark.model.method import Method

Make = Callable[[str], Method]
MEASURES = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "explanation_measures.py"))
curves, gain, grad_cam, likeness, moved, nearest_point, peak_of, randomised = (
    MEASURES[name]
    for name in ("curves", "gain", "grad_cam", "likeness", "moved", "nearest_point", "peak_of", "randomised")
)


def test_grad_cam_of_a_pooled_linear_head_is_the_positive_contribution(make: Make, image: Tensor) -> None:
    """The case that is identical by algebra, and so says nothing when the two are compared."""
    method = make("test_resnet")
    place = last_map(method)
    own = find_evidence(method, image, Contrast(2, 0, (1.0, 0.0)), place).cells
    np.testing.assert_allclose(grad_cam(method, image, 2, place), own.clip(min=0), atol=1e-6)


def test_peaks_lie_between_cells() -> None:
    cells = np.zeros((4, 4), np.float32)
    cells[1, 1] = cells[1, 2] = 1
    x, y = peak_of(cells, 64)
    assert x == pytest.approx(32, abs=4)
    assert y == pytest.approx(24, abs=4)
    points = np.array([[x + 3, y + 4], [0, 60]])
    assert nearest_point(cells, points, 64) == pytest.approx(5)


class OnePixelCounts(torch.nn.Module):
    """Sure of class 1 as long as the top left corner is bright."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images[:, :, :8, :8].mean((1, 2, 3))
        return type("Answer", (), {"logits": torch.stack([0 * bright, 40 * bright - 20], dim=1)})


def test_curves_know_what_counts() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[..., :8, :8] = 1
    right, wrong = np.zeros((2, 4, 4), np.float32)
    right[0, 0] = wrong[3, 3] = 1
    good, bad = (curves(OnePixelCounts(), image, cells, 1) for cells in (right, wrong))
    assert good[0] < 0.15 < bad[0]
    assert good[1] > bad[1]


def test_a_moved_region_keeps_its_shape() -> None:
    cells = np.zeros((6, 6), bool)
    cells[2, 1:4] = cells[3, 2] = True
    for seed in range(20):
        there = moved(cells, np.random.default_rng(seed))
        assert there.sum() == 4
        assert not (there == cells).all()
    whole = np.ones((3, 3), bool)
    np.testing.assert_array_equal(moved(whole, np.random.default_rng(0)), whole)


def test_randomised_weights_change_the_evidence(make: Make, image: Tensor) -> None:
    learnt = make("test_resnet")
    before = find_evidence(learnt, image, Contrast(0, 1), last_map(learnt))
    for whole in (False, True):
        method = make("test_resnet")
        state = {key: value.clone() for key, value in method.state_dict().items()}
        randomised(method, seed=1, whole=whole)
        changed = [key for key, value in method.state_dict().items() if not torch.equal(value, state[key])]
        assert (changed == ["head.classifier.linear.weight"]) is not whole
        after = find_evidence(method, image, Contrast(0, 1), last_map(method))
        assert abs(likeness(before.cells, after.cells)) < 1
    assert likeness(before.cells, 2 * before.cells) == pytest.approx(1)


def test_gains_have_intervals() -> None:
    rng = np.random.default_rng(0)
    found = gain(list(rng.normal(0.5, 1, 400)))
    assert found.low < found.value < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
