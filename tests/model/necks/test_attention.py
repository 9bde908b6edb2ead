"""Gated attention pooling against a loop over cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import RecipeError
from fieldmark.model.necks.attention import AttentionPooling


def pooling(channels: int, hidden: int, seed: int) -> AttentionPooling:
    """With scores that are not all zero, as after some training."""
    torch.manual_seed(seed)
    neck = AttentionPooling(channels, hidden=hidden)
    torch.nn.init.normal_(neck.score.weight)
    return neck


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(2, 6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_it_is_the_sum_of_the_definition(count: int, channels: int, height: int, width: int, seed: int) -> None:
    neck = pooling(channels, 3, seed)
    features = torch.randn(count, channels, height, width)
    matrices = (neck.content, neck.gate)
    (v, v0), (u, u0) = ((m.weight.detach().numpy(), m.bias.detach().numpy()) for m in matrices)
    w = neck.score.weight.detach().numpy()[0]
    for image, answer in zip(features.numpy(), neck(features).detach().numpy(), strict=True):
        cells = [image[:, y, x] for y in range(height) for x in range(width)]
        scores = []
        for h in cells:
            n = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
            scores.append(np.exp(w @ (np.tanh(v @ n + v0) / (1 + np.exp(-(u @ n + u0))))))
        expected = sum(score * h for score, h in zip(scores, cells, strict=True)) / sum(scores)
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-4)


def test_it_starts_as_the_mean_over_cells() -> None:
    features = torch.randn(2, 8, 3, 5)
    torch.testing.assert_close(AttentionPooling(8)(features), features.mean((2, 3)))


def test_the_shares_of_the_cells_sum_to_one_and_move_with_them() -> None:
    neck, features = pooling(8, 4, 0), torch.randn(2, 8, 3, 5)
    shares = neck.weights(features)
    assert shares.shape == (2, 3, 5)
    torch.testing.assert_close(shares.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(neck.weights(features.flip(3)), shares.flip(2))


def test_a_width_that_makes_no_sense() -> None:
    with pytest.raises(RecipeError, match=r"neck\.hidden = 0 is not allowed\. Expected at least 1"):
        AttentionPooling(8, hidden=0)
