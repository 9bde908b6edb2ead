"""What is not like anything known, with nothing but tensor operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from fieldmark.evaluation.unknown import class_means, fit_familiarity, nearness


def test_means_and_nearness_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    embedding, labels = rng.normal(size=(40, 6)).astype(np.float32), np.arange(40) % 3
    means = class_means(embedding, labels, 4)
    plain = np.stack([embedding[labels == k].mean(axis=0) for k in range(3)])
    assert means[:3] == pytest.approx(plain / np.linalg.norm(plain, axis=1, keepdims=True), abs=1e-6)
    assert (means[3] == 0).all()  # a class without an image is near to nothing
    expected = cosine_similarity(embedding, plain).max(axis=1)
    assert nearness(embedding, means) == pytest.approx(expected.clip(0), abs=1e-6)


def test_it_is_plain_tensor_operations() -> None:
    """As an exported graph would have it: a matrix product, two maxima and a sum."""
    rng = np.random.default_rng(1)
    embedding, logits = rng.normal(size=(30, 8)), rng.normal(size=(30, 5))
    means = class_means(rng.normal(size=(50, 8)), np.arange(50) % 5, 5)
    probability = torch.from_numpy(logits).softmax(1).amax(1)
    known = fit_familiarity(probability.numpy(), nearness(embedding, means))
    near = (torch.nn.functional.normalize(torch.from_numpy(embedding)) @ torch.from_numpy(means).T).amax(1)
    centre, spread = torch.from_numpy(known.centre), torch.from_numpy(known.spread)
    score = (probability - centre[0]) / spread[0] + (near - centre[1]) / spread[1]
    assert known.score(probability.numpy(), near.numpy()) == pytest.approx(score.numpy())


@given(st.integers(0, 1000), st.integers(30, 300))
@settings(max_examples=25, deadline=None)
def test_the_threshold_lets_its_share_of_known_images_pass(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    confidence, near = rng.random(count), rng.random(count)
    known = fit_familiarity(confidence, near)
    accepted = known.accepts(known.score(confidence, near)).mean()
    assert 0.95 - 1 / count <= accepted <= 0.95 + 2 / count
    new = known.share_below(known.score(rng.random(4000), rng.random(4000)))
    assert new.min() >= 1 / (count + 1)


def test_too_few_known_images_refuse_nothing() -> None:
    known = fit_familiarity(np.array([0.9, 0.8, 0.7]), np.array([0.5, 0.6, 0.7]))
    assert known.accepts(known.score(np.array([0.01]), np.array([-1.0]))).all()


def test_each_doubt_notices_what_the_other_cannot() -> None:
    rng = np.random.default_rng(2)
    known = rng.normal([0.8, 0.7], 0.05, size=(500, 2))
    doubtful = rng.normal([0.6, 0.7], 0.05, size=(500, 2))  # between two classes
    strange = rng.normal([0.8, 0.5], 0.05, size=(500, 2))  # sure, and like nothing
    familiarity = fit_familiarity(known[:, 0], known[:, 1])
    own = familiarity.score(known[:, 0], known[:, 1])
    for other in (doubtful, strange):
        truth = np.repeat([1, 0], 500)
        assert roc_auc_score(truth, np.concatenate([own, familiarity.score(other[:, 0], other[:, 1])])) > 0.95
