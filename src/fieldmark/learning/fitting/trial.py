"""Few images: does the network learn from them, or does it forget? What decides is a trial on the images themselves.

Where features already tell the classes apart, a handful of images can spoil them, and a probe is better; where they do
not, the network is better by far (Kumar et al., "Fine-tuning can distort pretrained features and underperform
out-of-distribution", 2022). No rule about numbers tells which it is (benchmarks/README.md), so both learn from two
thirds of the images and answer the last third. No validation image is looked at, so these can still judge.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, RecipeError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Choice, Recipe
from fieldmark.core.wording import counted
from fieldmark.data.splits import folds
from fieldmark.evaluation.beside_probe import Trial
from fieldmark.learning.fitting.combinations import check_combination
from fieldmark.learning.fitting.fit import Fit
from fieldmark.model.choosing import knows_nothing

__all__ = ["TRIAL", "is_tried", "settle_solver", "solved"]

Ints = NDArray[np.int64]

TRIAL = "trial"
"""The name of the network's fit. What it has learnt is no part of the run's own trainings."""
_FEW = 8
"""Images of a class, on average, up to which there is a trial, which takes as long as a training: with ten of them, the
network was better on birds, too, which a probe knows best."""
_MOST = 20_000
"""Images up to which there is a trial: with few images of thousands of classes, it would take hours."""
_FOLDS = 3
_LEAST = 10
"""Fewer answers decide nothing."""


def is_tried(recipe: Recipe, num_images: int, num_classes: int) -> bool:
    """Whether there is a trial before a training on so many images of so many classes."""
    if recipe.train.solver != "auto" or knows_nothing(recipe.backbone):
        return False
    return num_images <= min(_MOST, _FEW * num_classes)


def settle_solver(fit: Fit, rows: Ints) -> Fit:
    """The fit with a solver: where the recipe leaves it open, the one that a trial on `rows` finds, once for a run."""
    if fit.recipe.train.solver != "auto":
        return fit
    solver = fit.run.decided("solver")
    if solver is None:
        held = _held_out(fit, rows)
        if held is None:
            solver = "gradient"
        elif (images := int(held.sum())) < _LEAST:
            fit.listener.note(
                f"With {counted(len(rows), 'training image')} a probe is fitted: a trial of the network could hold out "
                f"only {images:,} to judge by (set train.solver=gradient to train the network)"
            )
            solver = "logistic"
        else:
            trial = _tried(fit, rows, held)
            fit.listener.note(trial.sentence())
            fit.run.decide("trial", trial._asdict())
            solver = trial.solver
        fit.run.decide("solver", solver)
    return replace(fit, recipe=solved(fit.recipe, solver))


def solved(recipe: Recipe, solver: str) -> Recipe:
    """The recipe where its solver was left open and this one was settled."""
    changes: dict[str, object] = {"train": recipe.train.model_copy(update={"solver": solver})}
    if solver == "logistic":  # which has one loss
        changes |= {"head": recipe.head.model_copy(update={"unit": True}), "loss": Choice(name="cross_entropy")}
    return recipe.model_copy(update=changes)


def _held_out(fit: Fit, rows: Ints) -> NDArray[np.bool_] | None:
    """(R,) which of the rows a trial answers, perhaps none; None where there is nothing to choose between, or enough
    images."""
    recipe, catalog = fit.recipe, fit.data.catalog
    labels = catalog.labels[rows]
    if not is_tried(recipe, len(rows), len(np.unique(labels))):
        return None
    try:
        check_combination(solved(recipe, "logistic"))
    except RecipeError:  # a probe can do nothing with it
        return None
    learnt = np.isin(np.arange(len(catalog)), rows)
    pool = replace(catalog, splits=np.where(learnt, "train", "test").astype(catalog.splits.dtype))
    none = np.zeros(len(rows), np.bool_)
    try:
        held = folds(pool, k=_FOLDS, clusters=fit.data.clusters, seed=recipe.seed)[rows] == 0
    except DataError:  # too few images
        return none
    return held if len(np.unique(labels[~held])) > 1 else none


def _tried(fit: Fit, rows: Ints, held: NDArray[np.bool_]) -> Trial:
    """What the trial found that answers the rows which are held out (R,)."""
    labels = fit.data.catalog.labels[rows]
    fit.listener.note(
        f"With few images a probe may be better, so there is a trial first: the network and a probe learn from "
        f"{counted(int((~held).sum()), 'image')} and answer the other {int(held.sum()):,}"
    )
    answers = {
        "network": replace(fit, recipe=solved(fit.recipe, "gradient"), name=TRIAL),
        "probe": replace(fit, recipe=solved(fit.recipe, "logistic"), name="probe of the trial", listener=Listener()),
    }
    right = {}
    for name, own in answers.items():
        logits = own.outputs(own.train(rows[~held], rows[:0]).model, rows[held]).logits
        right[name] = logits.argmax(axis=1) == labels[held]
    return Trial.of(right["probe"], right["network"])
