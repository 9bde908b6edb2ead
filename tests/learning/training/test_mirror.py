"""Classes that a mirror exchanges: found where there are some, and nowhere else."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from fieldmark.learning.training.mirror import SIZE, find_mirror_pair, mirror_features


def cloud(num_classes: int, each: int, seed: int, *, apart: float, handed: float) -> tuple[np.ndarray, ...]:
    """Features with a half that a mirror leaves and a half that it negates.

    Classes differ by `apart` in the first; 0 and 1 also, each in its own way, by `handed` in the second.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), each)
    even = rng.normal(size=(num_classes, 8))[np.where(labels == 1, 0, labels)] * apart + rng.normal(
        size=(len(labels), 8)
    )
    odd = rng.normal(size=(len(labels), 4))
    odd[labels == 0] += handed
    odd[labels == 1] -= handed
    return np.hstack([even, odd]), np.hstack([even, -odd]), labels, np.arange(len(labels))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), num_classes=st.integers(2, 8))
def test_classes_that_a_mirror_exchanges_are_found(seed: int, num_classes: int) -> None:
    pair = find_mirror_pair(*cloud(num_classes, 40, seed, apart=2.0, handed=1.5))
    assert pair is not None
    assert (pair.first, pair.second) == (0, 1)
    assert pair.right > 0.9
    assert pair.exchanged > 0.9
    pairs = num_classes * (num_classes - 1) / 2
    worst = round(min(pair.right, pair.exchanged) * 80)
    assert pair.probability == np.float64(binomtest(worst, 80, alternative="greater").pvalue * pairs)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), num_classes=st.integers(2, 12), each=st.integers(1, 30), apart=st.floats(0, 3))
def test_others_are_not(seed: int, num_classes: int, each: int, apart: float) -> None:
    """Look-alikes (0 and 1 are the same here), classes that are told apart, and few images."""
    assert find_mirror_pair(*cloud(num_classes, each, seed, apart=apart, handed=0.0)) is None


def test_classes_that_differ_in_more_than_their_side_are_not_exchanged() -> None:
    """One class is mostly seen from the left and one from the right, and they differ besides: a flip does no harm."""
    features, mirrored, labels, units = cloud(4, 40, 0, apart=2.0, handed=0.6)
    features[labels == 1, :8] += 3
    mirrored[labels == 1, :8] += 3
    assert find_mirror_pair(features, mirrored, labels, units) is None


def test_a_burst_has_one_vote() -> None:
    features, mirrored, labels, _ = cloud(2, 40, 0, apart=1.0, handed=2.0)
    assert find_mirror_pair(features, mirrored, labels, np.arange(80) // 20) is None
    assert find_mirror_pair(features, mirrored, labels, np.arange(80)) is not None


def test_labels_need_not_be_consecutive() -> None:
    features, mirrored, labels, units = cloud(3, 40, 0, apart=2.0, handed=2.0)
    pair = find_mirror_pair(features, mirrored, labels * 5 + 2, units)
    assert pair is not None
    assert (pair.first, pair.second) == (2, 7)


def test_features_of_mirror_images_are_those_of_flipped_ones() -> None:
    images = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state = torch.random.get_rng_state()
    own, mirrored = mirror_features([images[:2], images[2:]])
    again, twice = mirror_features([images.flip(3)])
    assert own.shape == mirrored.shape
    assert len(own) == 3
    np.testing.assert_allclose(mirrored, again, atol=1e-4)
    np.testing.assert_allclose(own, twice, atol=1e-4)
    assert np.abs(own - mirrored).max() > 0.01
    assert torch.equal(state, torch.random.get_rng_state())
