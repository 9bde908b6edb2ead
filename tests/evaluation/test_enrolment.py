"""New classes beside those that were learnt: their logits, what they may take, and which photographs are odd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from fieldmark.answering.network import enrolled_module
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import Calibration, Held
from fieldmark.evaluation.enrolment import (
    LOST,
    UNMEASURED,
    Fitted,
    Gate,
    Kept,
    Shown,
    _left_out,
    _near_others,
    fit_enrolment,
)
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.plda import means_and_counts
from fieldmark.evaluation.unknown import class_means, nearness

KNOWN, NEW, WIDTH = 8, 3, 24
NAMES = tuple("abcdefghijk")


def drawn(classes: np.ndarray, seed: int) -> np.ndarray:
    """Embeddings (N, D) of classes that lie apart, in a space in which some directions tell them apart better."""
    means = np.random.default_rng(0).normal(size=(KNOWN + NEW, WIDTH))
    noise = np.random.default_rng(seed).normal(size=(len(classes), WIDTH)) * np.linspace(0.2, 1.2, WIDTH)
    return unit(means[classes] + noise)


def kept_from(*, separate: bool = True, held: int = 60, learnt: int = 20) -> tuple[Kept, Calibration]:
    """What a training keeps whose logits are cosines to its class means; not `separate` as after a cross-fit."""
    labels, learnt_labels = np.repeat(np.arange(KNOWN), held), np.repeat(np.arange(KNOWN), learnt)
    embedding, own = drawn(labels, 1), drawn(learnt_labels, 2)
    if not separate:
        own, learnt_labels = embedding, labels
    means, counts = means_and_counts(own, learnt_labels, KNOWN)
    centres = class_means(own, learnt_labels, KNOWN)
    logits = (12 * embedding @ centres.T).astype(np.float32)
    near, units = nearness(embedding, centres), np.arange(len(labels))
    half = own.astype(np.float16)
    extra = (half, learnt_labels) if separate else ()
    kept = Kept(logits, near, labels, units, embedding.astype(np.float16), means.astype(np.float32), counts, *extra)
    held_out = Held(logits, near, labels, units)
    return kept, Calibration.fit(held_out, centres, Taxonomy(NAMES[:KNOWN]), source="validation")


def logits_of(kept: Kept, embedding: np.ndarray) -> np.ndarray:
    centres = kept.means / np.linalg.norm(kept.means, axis=1, keepdims=True)
    return (12 * embedding @ centres.T).astype(np.float32)


def photographs(kept: Kept, counts: tuple[int, ...] = (5, 5, 5), seed: int = 3) -> Shown:
    labels = np.repeat(np.arange(len(counts)), counts)
    embedding = drawn(KNOWN + labels, seed)
    return Shown(logits_of(kept, embedding), embedding.astype(np.float16), labels)


def fitted(kept: Kept, shown: Shown, base: Calibration | None) -> Fitted:
    return fit_enrolment(kept, shown, base, Taxonomy(NAMES[: KNOWN + len(shown.counts)]))


@pytest.mark.parametrize("separate", [True, False])
def test_new_classes_are_found_and_known_ones_kept(separate: bool) -> None:
    kept, base = kept_from(separate=separate)
    found = fitted(kept, photographs(kept), base)
    labels = np.repeat(np.arange(KNOWN + NEW), 100)
    embedding = drawn(labels, 4)
    logits = logits_of(kept, embedding)
    right = found.gate(logits, embedding).argmax(axis=1) == labels
    known = labels < KNOWN
    before = logits[known].argmax(axis=1) == labels[known]
    assert right[known].mean() > before.mean() - 2 * LOST
    assert right[~known].mean() > 0.6
    assert found.recognised.mean() > 0.6
    assert found.calibration
    assert found.calibration.num_images == len(kept.labels) + 15
    assert found.calibration.means.shape == (KNOWN + NEW, WIDTH)


def test_new_classes_take_no_more_held_out_images_than_they_may() -> None:
    kept, base = kept_from()
    gate = fitted(kept, photographs(kept), base).gate
    right = kept.logits.argmax(axis=1) == kept.labels
    joint = gate(kept.logits, kept.embedding.astype(np.float64))
    assert (joint[right].argmax(axis=1) >= KNOWN).mean() <= LOST
    assert gate.offset >= 0


def test_known_classes_keep_their_odds_among_each_other() -> None:
    kept, base = kept_from()
    joint = fitted(kept, photographs(kept), base).gate(kept.logits, kept.embedding.astype(np.float64))
    np.testing.assert_allclose(log_softmax(joint[:, :KNOWN], axis=1), log_softmax(kept.logits, axis=1), atol=1e-5)


@pytest.mark.parametrize("separate", [True, False])
def test_a_class_without_training_images_stays_out_of_it(separate: bool) -> None:
    kept, base = kept_from(separate=separate)
    counts, means = kept.counts.copy(), kept.means.copy()
    counts[2], means[2] = 0, 0
    some = kept.labels != 2
    rest = kept._replace(
        counts=counts,
        means=means,
        **{name: getattr(kept, name)[some] for name in ("logits", "near", "labels", "units", "embedding")},
    )
    if kept.learnt is not None and kept.learnt_labels is not None:
        taught = kept.learnt_labels != 2
        rest = rest._replace(learnt=kept.learnt[taught], learnt_labels=kept.learnt_labels[taught])
    gate = fitted(rest, photographs(kept), base).gate
    assert len(gate.expected) == KNOWN - 1 + NEW
    assert np.isfinite(gate(kept.logits, kept.embedding.astype(np.float64))).all()


@pytest.mark.parametrize("learnt", [20, 4])
def test_the_odd_one_out_is_named(learnt: int) -> None:
    """Also among more photographs than known classes have."""
    kept, base = kept_from(learnt=learnt)
    shown = photographs(kept, (6,))
    stranger = -shown.embedding[4:5]
    embedding = np.concatenate([shown.embedding[:4], stranger, shown.embedding[5:]])
    logits = np.concatenate([shown.logits[:4], logits_of(kept, stranger), shown.logits[5:]])
    assert not fitted(kept, shown, base).odd.any()
    assert np.flatnonzero(fitted(kept, shown._replace(embedding=embedding, logits=logits), base).odd).tolist() == [4]


def test_a_single_photograph_is_neither_odd_nor_held_out() -> None:
    kept, base = kept_from()
    found = fitted(kept, photographs(kept, (1, 5)), base)
    assert not found.odd[0]
    assert found.calibration
    assert found.calibration.num_images == len(kept.labels) + 5


def test_without_held_out_images_the_offset_is_the_usual_one() -> None:
    kept, _ = kept_from(separate=False)
    found = fitted(kept, photographs(kept), None)
    assert found.gate.offset == UNMEASURED
    assert found.calibration is None


def test_the_network_computes_the_same() -> None:
    kept, base = kept_from()
    gate = fitted(kept, photographs(kept), base).gate
    module = enrolled_module(Gate.restored(gate.arrays(), gate.num_new))
    embedding = 3 * kept.embedding.astype(np.float32)  # of any length
    theirs = module(torch.from_numpy(kept.logits), torch.from_numpy(embedding)).numpy()
    np.testing.assert_allclose(theirs, gate(kept.logits, embedding), rtol=1e-4, atol=1e-3)
    assert not list(module.parameters())
    assert not module.state_dict()


def photograph_by_photograph(gate: Gate, shown: Shown, means: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scores, the likeness and the nearness of photographs, each with a model made without it."""
    embedding, plda = shown.embedding.astype(np.float64), gate.plda
    scores, likeness = gate.scores(embedding), np.full(len(embedding), np.inf)
    near = np.empty(len(embedding))
    for at, label in enumerate(shown.labels):
        rest = np.arange(len(embedding)) != at
        without = class_means(embedding[rest], shown.labels[rest], gate.num_new)
        near[at] = nearness(embedding[at : at + 1], np.concatenate([means, without]))[0]
        if others := np.flatnonzero(rest & (shown.labels == label)).tolist():
            own, count = plda.coordinates(embedding[at : at + 1]), np.array([len(others)])
            mean = plda.coordinates(embedding[others].mean(axis=0, keepdims=True))
            column = len(gate.expected) - gate.num_new + label
            scores[at, column] = plda.log_densities(own, *plda.known(mean, count))[0, 0]
            likeness[at] = plda.likeness(own, mean, count)[0]
    return scores, likeness, near


@pytest.mark.parametrize("counts", [(5, 5, 5), (1, 2, 40), (1,), (7,)])
def test_photographs_are_left_out_one_by_one(counts: tuple[int, ...]) -> None:
    kept, base = kept_from()
    shown = photographs(kept, counts)
    gate = fitted(kept, shown, base).gate
    scores, likeness, near = photograph_by_photograph(gate, shown, base.means)
    found, looks = _left_out(gate, shown)
    np.testing.assert_allclose(found, gate.joined(shown.logits, scores), rtol=1e-9)
    np.testing.assert_allclose(looks, likeness, rtol=1e-9)
    new = class_means(shown.embedding.astype(np.float64), shown.labels, gate.num_new)
    np.testing.assert_allclose(_near_others(shown, base.means, new), near, atol=1e-12)


def test_the_photographs_of_a_class_are_added_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for each of them anew."""
    kept, base = kept_from()
    summed: list[int] = []

    def counted(embedding: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
        summed.append(len(embedding))
        return class_means(embedding, labels, num_classes)

    monkeypatch.setattr("fieldmark.evaluation.enrolment.class_means", counted)
    fitted(kept, photographs(kept, (50, 50)), base)
    assert sum(summed) <= 200
