"""Learning from few labels: photographs without one get the label that their look-alikes suggest, and then teach too.

The labels that people gave train a model first. Over its embedding of all photographs they are propagated to those
without one (`fieldmark.learning.training.propagation`), and a second training learns from both, in which a photograph
without a label counts `train.pseudo_weight` times as certain as it is. Whether that helps depends on whether classes
lie apart in the embedding, and nothing but trying tells: a probe first answers images with labels that it has not seen,
and stays what it was unless it has more of them right with the others' help. With one image of a class nothing can be
tried. A network that is trained step by step is not tried either, since that would take three trainings more.

What is held out keeps out: pseudo-labels come from training images alone, in a cross-fit from those of the fold, and
they never judge, calibrate or choose anything.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler, normalize

from fieldmark.data.decisions import with_samples
from fieldmark.evaluation.unlabelled import PseudoLabelled
from fieldmark.learning.fitting.fit import Fit, Fitted
from fieldmark.learning.fitting.head import linear_head
from fieldmark.learning.training.propagation import Propagated, Tried, propagate, tried

__all__ = ["learn_with_pseudo_labels"]

Ints = NDArray[np.int64]
Vectors = NDArray[np.float32]


def learn_with_pseudo_labels(fit: Fit, rows: Ints, validation: Ints) -> Fitted:
    """What `fit.train` gives from labels alone, or what a second training does that learns from the others, too."""
    alone = replace(fit, name="labels alone" if fit.name == "model" else f"{fit.name}, labels alone")
    first = alone.train(rows, rows[:0])
    catalog = fit.data.catalog
    pool = len(catalog) + np.arange(len(fit.data.unlabelled))
    every = np.concatenate([rows, pool])
    seen = fit.embedding(first.model, every, stage="Looking at what has no label")
    known, unknown = seen[: len(rows)], seen[len(rows) :]
    found = propagate(known, catalog.labels[rows], unknown, len(catalog.classes))
    trial = _tried(fit, first, rows, seen)
    helps = trial is None or trial.taught > trial.alone
    used = found.certainty > 0 if helps else np.zeros(len(pool), np.bool_)
    certainty = float(found.certainty[used].mean()) if used.any() else 0.0
    said = PseudoLabelled(len(pool), int(used.sum()), certainty, *(trial or ()))
    fit.listener.note(said.sentence())
    if fit.name == "model":
        fit.run.decide("pseudo_labels", said._asdict())
    if not used.any():
        return first
    return _taught(fit, found, first.strength).train(np.concatenate([rows, pool[used]]), validation)


def _tried(fit: Fit, first: Fitted, rows: Ints, seen: Vectors) -> Tried | None:
    """What a trial of the probe says, given the embedding of the rows and then of what has no label."""
    if first.strength is None:
        return None
    read = normalize(seen) if linear_head(first.model, fit.recipe).unit else StandardScaler().fit_transform(seen)
    return tried(
        read[: len(rows)],
        fit.data.catalog.labels[rows],
        fit.data.units[rows],
        read[len(rows) :],
        len(fit.data.catalog.classes),
        strength=first.strength,
        weight=fit.recipe.train.pseudo_weight,
        seed=fit.recipe.seed,
    )


def _taught(fit: Fit, found: Propagated, strength: float | None) -> Fit:
    """The fit in which photographs without labels have those that were found, behind the catalogue's own rows."""
    data = fit.data
    weights = np.concatenate([np.ones(len(data.catalog)), fit.recipe.train.pseudo_weight * found.certainty])
    further = data.clusters.max() + 1 + np.arange(len(data.unlabelled))
    taught = replace(
        data,
        catalog=with_samples(data.catalog, data.unlabelled, found.labels.tolist()),
        clusters=np.concatenate([data.clusters, further]),
        unlabelled=(),
        weights=weights.astype(np.float32),
    )
    return replace(fit, data=taught, strengths=fit.strengths if strength is None else (strength,))
