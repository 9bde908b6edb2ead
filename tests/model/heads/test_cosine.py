"""Cosine logits against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fieldmark.core.errors import RecipeError
from fieldmark.model.heads.cosine import CosineClassifier


def test_logits_are_scaled_cosines() -> None:
    torch.manual_seed(0)
    head, features = CosineClassifier(5, 3, scale=8.0), torch.randn(4, 5)
    f, w = features.numpy(), head.weight.detach().numpy()
    expected = [[8 * (a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b)) for b in w] for a in f]
    np.testing.assert_allclose(head(features).detach(), expected, rtol=1e-5)
    torch.testing.assert_close(head(100 * features), head(features))
    torch.testing.assert_close(head.towards(features, torch.zeros(4, 2, dtype=torch.int64))[:, 1], head(features))


@pytest.mark.parametrize("learn_scale", [True, False])
def test_the_scale_is_learnt_or_not_and_saved(learn_scale: bool) -> None:
    head = CosineClassifier(5, 3, scale=8.0, learn_scale=learn_scale)
    assert ("log_scale" in dict(head.named_parameters())) is learn_scale
    assert head.state_dict()["log_scale"].exp() == pytest.approx(8.0)


def test_cosines_are_taken_in_full_precision() -> None:
    head, features = CosineClassifier(64, 3), torch.randn(4, 64)
    with torch.autocast("cpu", torch.bfloat16):
        half = head(features)
    torch.testing.assert_close(half, head(features))


def test_a_scale_that_makes_no_sense() -> None:
    with pytest.raises(RecipeError, match=r"head\.scale = 0\.0 is not allowed\. Expected a positive number"):
        CosineClassifier(5, 3, scale=0.0)
