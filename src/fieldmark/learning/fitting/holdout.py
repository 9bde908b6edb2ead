"""What a training holds out, and the calibration that results from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.wording import counted, first_few
from fieldmark.data.splits import folds
from fieldmark.evaluation.calibration import Calibration, Held, Source
from fieldmark.evaluation.enrolment import MOST_KEPT, Kept
from fieldmark.evaluation.outputs import Outputs, unit
from fieldmark.evaluation.plda import means_and_counts
from fieldmark.evaluation.scaling import calibrate
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import class_means, nearness
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.learn import learn
from fieldmark.model.model import Model

__all__ = ["Learnt", "cross_fit", "fit_calibration", "hold_out", "kept_of", "learnt_of", "means_of", "settled"]

Ints = NDArray[np.int64]

_ENOUGH = 200
"""Images of a class that its mean is taken of: what more of them would move it by is a fraction of their spread."""
_MOST_LOGITS = 2**24
"""Of held-out images that a bundle keeps: 64 MB."""


def cross_fit(fit: Fit, rows: Ints) -> tuple[Held, list[float]]:
    """Answer every training row by a model that has not seen it (out-of-fold predictions), and give the C of each
    fold's probe.

    Each fold's model has an embedding space of its own, in which the class means of another model mean nothing. So
    nearness is measured within the fold, to the means of the images that this fold's model learnt from, and no
    embedding leaves it.
    """
    catalog = fit.data.catalog
    pooled = replace(catalog, splits=np.where(catalog.splits == "val", "train", catalog.splits))
    fold_of = folds(pooled, k=fit.recipe.folds, clusters=fit.data.clusters, seed=fit.recipe.seed)[rows]
    task = fit.task(rows)
    logits, near = np.zeros((len(rows), len(catalog.classes)), np.float32), np.zeros(len(rows))
    learnt = np.ones(len(rows), np.bool_)
    attributes = tuple(np.zeros((len(rows), len(one.values)), np.float32) for one in task.attributes)
    strengths: list[float] = []
    for fold in range(fit.recipe.folds):
        held = fold_of == fold
        own = replace(fit, name=f"fold {fold}", start=None)  # an older run has seen what the fold holds out
        model, strength = learn(own, rows[~held], rows[:0])
        strengths += [] if strength is None else [strength]
        answers = hold_out(own, model, means_of(own, model, rows[~held]), rows[held], learnt_from=rows[~held])
        logits[held], near[held] = answers.logits, answers.nearness
        learnt[held] = answers.learnt
        for values, found in zip(attributes, answers.attributes, strict=True):
            values[held] = found
    return Held(logits, near, catalog.labels[rows], fit.data.units[rows], attributes, learnt), strengths


def settled(fit: Fit, strengths: Sequence[float]) -> Fit:
    """The fit of the model that is shipped, with the C that the folds chose.

    A probe's C decides how large its logits are, and so which temperature fits them. Chosen anew on all rows, it made
    the folds' temperature wrong by half: on CUB-50 C tripled, and confidence was ten points above accuracy. C weighs a
    sum over images: scaled by their number, the regularisation of each image stays as it was.
    """
    if fit.recipe.train.solver != "logistic" or not strengths:  # a discriminant has none
        return fit
    folds = fit.recipe.folds
    return replace(fit, strengths=(float(np.median(strengths)) * (folds - 1) / folds,))


def hold_out(
    fit: Fit,
    model: Model,
    means: NDArray[np.float64],
    rows: Ints,
    *,
    learnt_from: Ints,
    answered: Outputs | None = None,
) -> Held:
    """The model's answers for rows other than those that it has `learnt_from`; `means` (K, D) are its own.

    `answered` is what it says of these rows, where somebody has asked before.
    """
    outputs, catalog = answered or fit.outputs(model, rows), fit.data.catalog
    near, labels = nearness(outputs.embedding, means), catalog.labels[rows]
    learnt = np.isin(labels, catalog.labels[learnt_from])
    return Held(outputs.logits, near, labels, fit.data.units[rows], outputs.attributes, learnt, outputs.embedding)


class Learnt(NamedTuple):
    """How a model sees images that it learnt from, `_ENOUGH` of a class at most."""

    rows: Ints
    """(N,) ascending."""
    labels: Ints
    embedding: NDArray[np.float32]
    """(N, D)."""
    num_classes: int

    @property
    def means(self) -> NDArray[np.float64]:
        """(K, D) class means, in the method's space, of unit length."""
        return class_means(self.embedding, self.labels, self.num_classes)


def learnt_of(fit: Fit, model: Model, rows: Ints, answered: Outputs | None = None) -> Learnt:
    """How the model sees the rows that it learnt from; `answered` is what it says of all of them, if that is known."""
    catalog = fit.data.catalog
    few = _few_of_each(rows, catalog.labels[rows], seed=fit.recipe.seed)
    known = answered.embedding[np.searchsorted(rows, few)] if answered else fit.embedding(model, few)
    return Learnt(few, catalog.labels[few], known, len(catalog.classes))


def means_of(fit: Fit, model: Model, rows: Ints) -> NDArray[np.float64]:
    """(K, D) class means, in the method's space, of the rows that it learnt from; of `_ENOUGH` of a class at most."""
    return learnt_of(fit, model, rows).means


def kept_of(fit: Fit, model: Model, learnt: Learnt, held: Held | None, rows: Ints) -> Kept | None:
    """What a bundle keeps so that classes can be enrolled; None where too little was learnt for that.

    `held` are the answers for `rows` that calibrate the bundle; None if nothing was held out. Those of a cross-fit come
    from models with embedding spaces of their own, so the same images are kept as the model that is shipped sees them.
    It has learnt from them: a network that was trained sees them closer to their classes than it sees others, and its
    new classes get fewer images than they could. A probe's embedding is not learnt, and loses nothing.
    """
    embedding = unit(learnt.embedding.astype(np.float64))
    means, counts = means_and_counts(embedding, learnt.labels, learnt.num_classes)
    if (counts > 1).sum() < 2:
        return None
    half, few = embedding.astype(np.float16), min(MOST_KEPT, max(1, _MOST_LOGITS // learnt.num_classes))
    some = _drawn(len(half), few, fit.recipe.seed)
    known = means.astype(np.float32), counts
    if held is not None and held.embedding is not None:
        own = held.of_learnt_classes()
        if not len(own.labels):
            return None
        own = own.at(_drawn(len(own.labels), few, fit.recipe.seed))
        assert own.embedding is not None
        seen = unit(own.embedding.astype(np.float64)).astype(np.float16)
        return Kept(own.logits, own.nearness, own.labels, own.units, seen, *known, half[some], learnt.labels[some])
    if held is None:
        near, logits = nearness(learnt.embedding[some], learnt.means), fit.outputs(model, learnt.rows[some]).logits
        answers = Held(logits, near, learnt.labels[some], fit.data.units[learnt.rows[some]])
    else:
        at = np.searchsorted(rows, learnt.rows)
        if held.learnt is not None:
            some = some[held.learnt[at[some]]]
        answers = held.at(at[some])
    return Kept(answers.logits, answers.nearness, answers.labels, answers.units, half[some], *known)


def _drawn(count: int, most: int, seed: int) -> Ints:
    """So many of the rows (N,) at random, ascending; all if there are fewer."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _few_of_each(rows: Ints, labels: Ints, *, seed: int) -> Ints:
    """`_ENOUGH` of the rows (N,) of each label (N,), drawn at random, in their order; all of a class that has fewer."""
    drawn = np.random.default_rng(seed).permutation(len(rows))
    by_class = drawn[np.argsort(labels[drawn], kind="stable")]
    place = np.arange(len(rows)) - np.searchsorted(labels[by_class], labels[by_class])  # within its class
    return rows[np.sort(by_class[place < _ENOUGH])]


def fit_calibration(
    fit: Fit, held: Held, means: NDArray[np.float64]
) -> tuple[Calibration | None, NDArray[np.floating]]:
    """The calibration that the protocol allows, and the values (N, K) by which the held-out answers are scored.

    `means` are those of the model that is shipped. The values are log-probabilities, each calibrated by the others, or
    the plain logits if there is no calibration.

    Images of one class do not calibrate, since they say nothing about telling it from others. So it is wherever a fold
    left its model a single class: all others are in that fold alone, and nobody has learnt them. That such a model
    cannot answer wrongly once drove a temperature to 300.
    """
    recipe, catalog = fit.recipe, fit.data.catalog
    if recipe.protocol == "refit":
        fit.listener.note(
            "Not calibrated, because the protocol 'refit' holds out no images for it: verdicts are plain softmax"
        )
        return None, held.logits
    source: Source = "validation" if recipe.protocol == "holdout" else "out-of-fold"
    known = held.of_learnt_classes()
    _tell_of_strangers(fit, held)
    if problem := _of_too_few_classes(known.labels, catalog.classes, source):
        fit.listener.warn(problem)
        return None, held.logits
    calibrated = calibrate(known.logits, known.labels, known.units, seed=recipe.seed)
    if calibrated.at_bound:
        fit.listener.warn(
            f"The calibration (temperature {calibrated.scaling.temperature:.3g}) ended at the end of its range, so "
            "probabilities mean little. Check the labels of the validation images, and that the model is better than "
            "chance"
        )
    made = Calibration.fit(known, means, catalog.taxonomy, source=source, seed=recipe.seed, calibrated=calibrated)
    images = counted(len(known.labels), f"{source} image")
    fit.listener.note(
        f"Calibrated on {images} ({made.scaling.kind} scaling, temperature {made.scaling.temperature:.2f})"
    )
    thresholds = Thresholds.of(made, catalog.taxonomy)
    for note in thresholds.notes or (thresholds.promise.kept,):
        fit.listener.note(f"{note}.")
    if known is held:
        return made, calibrated.held_out
    values = made.scaling(held.logits)
    assert held.learnt is not None, "else all of them are known"
    values[held.learnt] = calibrated.held_out
    return made, values


def _of_too_few_classes(labels: Ints, classes: Sequence[str], source: Source) -> str:
    """Why images of these labels (N,) do not calibrate, in words; "" if they do."""
    present = np.unique(labels)
    if len(present) > 1:
        return ""
    found = f"no {source} image is of a class that was learnt"
    if len(present):
        found = f"all {source} images of classes that were learnt are of one class, {classes[present[0]]!r}"
    needed = "validation images" if source == "validation" else "images in two groups or more"
    return f"Not calibrated, so verdicts are plain softmax: {found}. At least two classes must have {needed}"


def _tell_of_strangers(fit: Fit, held: Held) -> None:
    """Name the classes of held-out images that the answering model has not learnt."""
    if held.learnt is None or held.learnt.all():
        return
    strange = held.labels[~held.learnt]
    names = first_few(fit.data.catalog.classes[k] for k in np.unique(strange))
    who = (
        "whose fold left none of their class to learn from"
        if fit.recipe.protocol == "crossfit"
        else "whose class has no training images"
    )
    fit.listener.warn(f"{counted(len(strange), 'held-out image')}, {who}, left out of the calibration: {names}")
