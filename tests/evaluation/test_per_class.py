"""Scores of single classes, against scikit-learn, and the operating point of a class of interest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from fieldmark.core.errors import RunError
from fieldmark.evaluation.metrics import majority
from fieldmark.evaluation.per_class import (
    area_under_roc,
    check_detection,
    class_scores,
    detection,
    operating_point,
    worst,
)

CLASSES = ("nevus", "melanoma", "keratosis")


def answers(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=200, p=[0.8, 0.05, 0.15])
    z = rng.normal(size=(200, 3)) + 1.5 * np.eye(3)[labels]
    return z - np.logaddexp.reduce(z, axis=1, keepdims=True), labels


def test_recall_precision_and_area_are_those_of_scikit_learn() -> None:
    values, labels = answers()
    said = values.argmax(axis=1)
    found = class_scores(values, labels, CLASSES, units=np.arange(200))
    assert [one.name for one in found] == list(CLASSES)
    recall, precision = (score(labels, said, average=None) for score in (recall_score, precision_score))
    for k, one in enumerate(found):
        assert one.recall.value == pytest.approx(recall[k])
        assert one.precision is not None
        assert one.precision.value == pytest.approx(precision[k])
        assert one.auroc == pytest.approx(roc_auc_score(labels == k, values[:, k]))
        assert one.recall.low <= one.recall.value <= one.recall.high
        assert one.num_images == (labels == k).sum()
        assert one.covered is None
        assert not one.is_below
        assert not one.is_above


def test_a_class_that_is_never_answered_or_the_only_one() -> None:
    values, labels = np.log([[0.9, 0.1], [0.8, 0.2]]), np.array([1, 1])
    (only,) = class_scores(values, labels, CLASSES, units=np.arange(2))
    assert (only.recall.value, only.precision, only.auroc) == (0, None, None)


def test_coverage_outside_its_band_is_marked() -> None:
    values, labels = answers()
    inside = np.ones((200, 3), bool)
    inside[labels == 1, 1] = False
    bands = [(0.85, 0.95), (0.6, 1.0), (0.8, 1.0)]
    covered = inside[np.arange(200), labels]
    found = class_scores(values, labels, CLASSES, units=np.arange(200), covered=covered, bands=bands)
    assert [(one.is_below, one.is_above) for one in found] == [(False, True), (True, False), (False, False)]
    assert [one.covered.value for one in found if one.covered] == [1, 0, 1]


def test_few_images_do_not_make_a_class_the_worst() -> None:
    labels = np.repeat([0, 1, 2], [100, 1, 50])
    values = np.log(np.full((151, 3), 1 / 3))
    values[:, 0] += 1
    values[:30, 2] += 2
    found = class_scores(values, labels, CLASSES, units=np.arange(151))
    assert [one.name for one in worst(found, 2)] == ["keratosis", "nevus"]  # 0 of 50, 70 of 100, 0 of 1


@given(st.integers(0, 1000), st.integers(1, 40))
@settings(max_examples=30)
def test_ties_count_half(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    scores, positive = rng.integers(levels, size=60).astype(float), np.arange(60) % 3 == 0
    assert area_under_roc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))


def test_new_images_reach_the_operating_point_as_often_as_asked() -> None:
    """On average over draws of the held-out images, and never much more often than asked."""
    rng = np.random.default_rng(0)
    for count, sensitivity in ((9, 0.9), (30, 0.9), (100, 0.8)):
        thresholds = np.array([operating_point(rng.random(count), sensitivity) for _ in range(4000)])
        missed = np.floor(round((1 - sensitivity) * (count + 1), 9)) / (count + 1)
        assert 1 - thresholds.mean() == pytest.approx(1 - missed, abs=0.01)
        assert 1 - missed >= sensitivity


def test_a_class_of_interest() -> None:
    values, labels = answers()
    p, own = np.exp(values[:, 1]), labels == 1
    held = np.linspace(0.05, 0.95, 19)
    found = detection("melanoma", p, own, held, sensitivity=0.9, units=np.arange(200))
    assert found.threshold == held[1]  # of 20 places, two may be missed
    assert found.sensitivity.value == (p[own] >= held[1]).mean()
    assert found.specificity.value == (p[~own] < held[1]).mean()
    assert found.auroc.value == pytest.approx(roc_auc_score(own, p))
    assert found.auroc.low < found.auroc.value < found.auroc.high
    assert found.as_dict()["specificity"]["value"] == found.specificity.value
    with pytest.raises(RunError, match=r"takes 9 held-out images of it, but the model was calibrated on 8\. Ask for a"):
        check_detection("melanoma", 8, own, sensitivity=0.9)
    with pytest.raises(RunError, match="'melanoma' cannot be scored: there is no image of it among those scored"):
        check_detection("melanoma", 40, own & False, sensitivity=0.9)


def test_the_majority_is_what_a_model_has_to_beat() -> None:
    assert majority(np.array([1, 1, 0, 1])).value == 0.75
