"""Scaling against brute force, calibration error against torchmetrics and against what is known to be true."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from fieldmark.evaluation.scaling import (
    Scaling,
    calibrate,
    calibrated_reference,
    calibration_error,
    fit_temperature,
    fit_vector,
    nll,
    reliability,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Fit = Callable[[Floats, Ints], Scaling]


def drawn(count: int, num_classes: int = 6, seed: int = 0) -> tuple[Floats, Ints]:
    """Logits that are calibrated, and labels that were drawn from them."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, num_classes))
    cumulative = np.exp(log_softmax(logits, axis=1)).cumsum(axis=1)
    return logits, (rng.random((count, 1)) > cumulative).sum(axis=1).clip(0, num_classes - 1)


def penalised(scaling: Scaling, logits: Floats, labels: Ints, base: float = 1.0) -> float:
    """What the fits minimise, written out with torch."""
    z = torch.from_numpy(scaling.scale * logits + scaling.bias)
    prior = np.sum(np.log(scaling.scale / base) ** 2) + np.sum(scaling.bias**2)
    if scaling.kind == "temperature":
        prior = np.log(scaling.scale[0]) ** 2
    return float(with_one_mistake(z, labels)) + 0.5 * float(prior) / len(labels)


def with_one_mistake(z: torch.Tensor, labels: Ints) -> torch.Tensor:
    """Cross-entropy, and a share of 1/N for the answers to be wrong."""
    likelihood = torch.nn.functional.cross_entropy(z, torch.from_numpy(labels))
    return likelihood - torch.log(1 - z.softmax(dim=1).amax(dim=1)).mean() / len(labels)


# Scaling --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_a_temperature_is_found_again(factor: float) -> None:
    logits, labels = drawn(4000)
    assert fit_temperature(factor * logits, labels).temperature == pytest.approx(factor, rel=0.06)


def test_the_temperature_is_the_best_on_a_grid() -> None:
    logits, labels = drawn(300, seed=3)
    found = fit_temperature(logits, labels)
    grid = [Scaling("temperature", np.full(6, np.exp(x)), np.zeros(6)) for x in np.linspace(-2, 2, 2001)]
    best = min(grid, key=lambda scaling: penalised(scaling, logits, labels))
    assert found.scale[0] == pytest.approx(best.scale[0], rel=2e-3)
    assert penalised(found, logits, labels) <= penalised(best, logits, labels) + 1e-12


def test_vector_scaling_is_where_the_gradient_vanishes() -> None:
    """Against torch's own gradient of the loss written out."""
    logits, labels = drawn(400, num_classes=4, seed=1)
    base = fit_temperature(logits, labels).scale[0]
    found = fit_vector(logits, labels)
    scale = torch.tensor(np.log(found.scale / base), requires_grad=True)
    bias = torch.tensor(found.bias, requires_grad=True)
    z = base * scale.exp() * torch.from_numpy(logits) + bias
    (with_one_mistake(z, labels) + 0.5 * (scale.square().sum() + bias.square().sum()) / len(labels)).backward()
    assert scale.grad is not None
    assert bias.grad is not None
    assert float(scale.grad.abs().max()) < 1e-4
    assert float(bias.grad.abs().max()) < 1e-4


@pytest.mark.parametrize("count", [10, 45, 400])
@pytest.mark.parametrize("fit", [fit_temperature, fit_vector])
def test_images_that_are_all_right_make_no_surer_than_their_number_does(fit: Fit, count: int) -> None:
    labels = np.arange(count) % 5
    found = fit(4 * np.eye(5)[labels], labels)
    sure = np.exp(found(4 * np.eye(5))).max(axis=1)
    assert sure == pytest.approx(np.full(5, count / (count + 1)), abs=0.03)
    assert (sure < 1 - 0.5 / count).all()


def test_the_choice_is_a_temperature_unless_classes_differ_beyond_doubt() -> None:
    logits, labels = drawn(2000)
    assert calibrate(logits * 2, labels).scaling.kind == "temperature"
    uneven = calibrate(logits * np.linspace(0.5, 2, 6), labels).scaling
    assert uneven.kind == "vector"
    assert np.log(uneven.scale) == pytest.approx(-np.log(np.linspace(0.5, 2, 6)), abs=0.25)
    assert calibrate(logits[:11] * np.linspace(0.5, 2, 6), labels[:11]).scaling.kind == "temperature"


def test_what_scores_are_made_of_has_not_seen_its_labels() -> None:
    """What a scaling says of its own images promises more than other images keep."""
    off = np.linspace(-2, 2, 20)
    ratios = []
    for seed in range(5):
        (logits, labels), (others, truth) = drawn(300, 20, seed=seed), drawn(5000, 20, seed=100 + seed)
        found = calibrate(logits + off, labels)
        assert found.scaling.kind == "vector"
        own, held_out, fresh = (
            nll(values, truths).mean()
            for values, truths in (
                (found.scaling(logits + off), labels),
                (found.held_out, labels),
                (found.scaling(others + off), truth),
            )
        )
        assert own < held_out
        ratios.append((own / fresh, held_out / fresh))
    seen, unseen = np.mean(ratios, axis=0)
    assert seen < 0.95
    assert unseen == pytest.approx(1, abs=0.04)


def test_images_of_one_group_do_not_tell_of_each_other() -> None:
    logits, labels = drawn(300)
    groups = np.arange(300) // 3
    whole = calibrate(logits, labels, groups)
    last = groups == groups[-1]
    other = labels.copy()
    other[last] = (labels[last] + 1) % logits.shape[1]
    changed = calibrate(logits, other, groups)
    assert changed.scaling.scale != pytest.approx(whole.scaling.scale, abs=1e-9)
    np.testing.assert_array_equal(changed.held_out[last], whole.held_out[last])


def test_with_one_group_nothing_can_be_held_out() -> None:
    logits, labels = drawn(12)
    found = calibrate(logits, labels, np.zeros(12, int))
    np.testing.assert_array_equal(found.held_out, found.scaling(logits))


@given(st.integers(0, 10_000), st.floats(0.1, 8))
@settings(max_examples=30, deadline=None)
def test_a_temperature_leaves_the_argmax(seed: int, factor: float) -> None:
    logits, labels = drawn(40, seed=seed)
    logits *= factor
    found = fit_temperature(logits, labels)
    assert (found(logits).argmax(axis=1) == logits.argmax(axis=1)).all()
    assert np.exp(found(logits)).sum(axis=1) == pytest.approx(np.ones(40))
    raw = Scaling("temperature", np.ones(6), np.zeros(6))
    assert penalised(found, logits, labels) <= penalised(raw, logits, labels) + 1e-9


def test_logits_of_classes_that_were_never_seen() -> None:
    """A probe gives them a bias of −10,000."""
    logits, labels = drawn(200)
    found = fit_temperature(np.column_stack([logits, np.full(200, -1e4)]), labels)
    assert found.scale[0] == pytest.approx(fit_temperature(logits, labels).scale[0], rel=1e-3)


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(0, 4))
@settings(max_examples=25, deadline=None)
def test_a_class_without_images_is_scaled_as_the_others_on_average(seed: int, shown: int, hidden: int) -> None:
    """And what the others get does not depend on it."""
    rng = np.random.default_rng(seed)
    logits, labels = drawn(120, shown, seed)
    logits *= rng.uniform(0.5, 2, shown)
    columns = rng.permutation(shown + hidden)
    present, absent = columns[:shown], columns[shown:]
    wider = np.zeros((120, shown + hidden))
    wider[:, present], wider[:, absent] = logits, 3 * rng.normal(size=(120, hidden))
    alone, found = fit_vector(logits, labels), fit_vector(wider, present[labels])
    if len(np.unique(labels)) == shown:
        np.testing.assert_allclose(found.scale[present], alone.scale, rtol=1e-3)
        np.testing.assert_allclose(found.bias[present], alone.bias, atol=1e-3)
    scaled = found.scale * rng.normal(size=(10, 1)) + found.bias  # where all logits are equal
    np.testing.assert_allclose(scaled[:, absent], scaled[:, present].mean(axis=1, keepdims=True).repeat(hidden, axis=1))
    assert found.bias[present].mean() == pytest.approx(0, abs=1e-6)


def test_a_class_without_held_out_images_can_be_named() -> None:
    """Vector scaling once took its bias away, since only that made the held-out images likelier."""
    rng = np.random.default_rng(0)
    favoured = 1.2 * (np.arange(20) < 3)

    def answered(count: int, num_classes: int) -> tuple[Floats, Ints]:
        labels = rng.integers(num_classes, size=count)
        return 1.3 * rng.normal(size=(count, 20)) + 2.5 * np.eye(20)[labels] + favoured, labels

    found = calibrate(*answered(1500, 15)).scaling
    assert found.kind == "vector"
    logits, labels = answered(10_000, 20)
    rare = labels >= 15
    before, after = ((values.argmax(axis=1) == labels) for values in (logits, found(logits)))
    assert after[rare].mean() > before[rare].mean() - 0.02
    assert after[~rare].mean() > before[~rare].mean()


def test_classes_without_held_out_images_do_not_choose_vector_scaling() -> None:
    """That they are not shown speaks for silencing them, and so for vector scaling, however even the others are."""
    logits, labels = drawn(2000)
    shown = labels < 4
    assert calibrate(logits[shown], labels[shown]).scaling.kind == "temperature"


# How far off ----------------------------------------------------------------------------------------------------------


def answers(count: int, seed: int, excess: float = 0.0) -> tuple[Floats, NDArray[np.bool_]]:
    """Confidences in [0.5, 1) and answers that are right with that probability less `excess`."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.5, 1, count)
    return confidence, rng.random(count) < confidence - excess


def test_the_error_by_a_loop() -> None:
    confidence, right = answers(160, seed=5, excess=0.3)
    order = np.argsort(confidence)
    total = 0.0
    for inside in (order[np.arange(160) * 15 // 160 == k] for k in range(15)):  # bins of ten or eleven
        share = right[inside].mean()
        total += len(inside) * ((confidence[inside].mean() - share) ** 2 - right[inside].var(ddof=1) / len(inside))
    assert calibration_error(confidence, right) == pytest.approx(np.sqrt(total / 160), rel=1e-6)


def test_the_error_of_many_images_is_torchmetrics_and_the_truth() -> None:
    """With so many images the correction vanishes; bins of uniform confidences are of equal width, too."""
    confidence, right = answers(60_000, seed=1, excess=0.1)
    confidence = (confidence - 0.5) * 2
    found = calibration_error(confidence, right)
    logits = torch.from_numpy(np.column_stack([confidence, 1 - confidence]))
    confident = torch.from_numpy(np.where(right, logits.argmax(1), 1 - logits.argmax(1)))
    keep = logits.argmax(1) == 0  # where the first column is the confidence
    reference = multiclass_calibration_error(logits[keep], confident[keep], 2, n_bins=30, norm="l2")
    assert calibration_error(confidence[keep], right[keep]) == pytest.approx(float(reference), rel=0.02)
    assert found > 0.1


def test_the_correction_removes_the_bias() -> None:
    """Squared, the mean over samples of a calibrated model is zero, and that of an excess of 0.1 is 0.01."""
    from fieldmark.evaluation.scaling import _debiased

    for excess in (0.0, 0.1):
        squared = [_debiased(c, r[None].astype(float))[0] for c, r in (answers(300, s, excess) for s in range(400))]
        standard_error = np.std(squared) / np.sqrt(len(squared))
        assert np.mean(squared) == pytest.approx(excess**2, abs=4 * standard_error)


def test_what_a_calibrated_model_would_show() -> None:
    confidence, _ = answers(300, seed=0)
    rng = np.random.default_rng(9)
    shown = [calibration_error(confidence, rng.random(300) < confidence) for _ in range(400)]
    mean, most = calibrated_reference(confidence)
    assert mean == pytest.approx(np.mean(shown), abs=0.004)
    assert most == pytest.approx(np.quantile(shown, 0.95), abs=0.01)


def test_what_is_usual_of_few_is_below_what_is_rare() -> None:
    """Bins of one or two images would be corrected to nothing, and the 95th percentile with them."""
    confidence, _ = answers(21, seed=0)
    mean, most = calibrated_reference(confidence)
    assert 0 < mean < most


def test_a_reliability_diagram() -> None:
    confidence, right = answers(300, seed=2)
    diagram = reliability(confidence, right)
    assert [point.num_images for point in diagram] == [20] * 15
    order = np.argsort(confidence)
    assert [point.confidence for point in diagram] == pytest.approx(confidence[order].reshape(15, 20).mean(1))
    assert [point.accuracy for point in diagram] == pytest.approx(right[order].reshape(15, 20).mean(1))
    assert all(point.low <= point.accuracy <= point.high for point in diagram)


def test_few_images_and_equal_confidences() -> None:
    assert calibration_error(np.array([0.9]), np.array([True])) == 0  # one image says nothing
    same = np.full(50, 0.7)
    right = np.arange(50) < 20
    assert len(reliability(same, right)) == 1
    assert calibration_error(same, right) == pytest.approx(np.sqrt(0.3**2 - 0.4 * 0.6 / 49))


def test_a_bound_is_reached_by_any_class() -> None:
    flat = np.zeros(3)
    assert not Scaling("vector", np.ones(3), flat).at_bound
    assert Scaling("vector", np.exp([7.0, -7.0, 0.0]), flat).at_bound  # whose geometric mean is 1
    assert Scaling("vector", np.ones(3), np.array([0.0, -7.0, 0.0])).at_bound
