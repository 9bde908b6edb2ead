"""What a training is, from the outside: everything between prepared data and a model, in order.

1. `ready` settles, once for a run, what a recipe leaves open: whether a network or a probe learns
   (`fieldmark.learning.fitting.trial`), and how this machine computes fastest (`fieldmark.learning.fitting.tuning`).
2. `learn` trains one model, for each fold of a cross-fit and for what is shipped. `Fit.train` takes the steps of its
   members, one after the other, or fits a probe; what has a checkpoint is not begun again.
3. Where there are photographs without labels, `learn` trains a second time with the labels that the first model
   suggests (`fieldmark.learning.fitting.pseudo_labels`).

Within a budget (`fieldmark.learning.budget`), a search stands in place of all that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.learning.fitting.fit import Fit, Fitted
from fieldmark.learning.fitting.pseudo_labels import learn_with_pseudo_labels
from fieldmark.learning.fitting.trial import settle_solver
from fieldmark.learning.fitting.tuning import tuned

__all__ = ["learn", "ready"]

Ints = NDArray[np.int64]


def ready(fit: Fit, rows: Ints) -> Fit:
    """The fit with all settled that is settled once for a run, by `rows`: those of the model that is shipped."""
    return tuned(settle_solver(fit, rows), rows)


def learn(fit: Fit, rows: Ints, validation: Ints) -> Fitted:
    """Learn from `rows` and, if the recipe says so, from photographs without labels; see `Fit.train`.

    Raises TrainingError, and `Stopped` where the listener asks to stop.
    """
    if fit.data.unlabelled and fit.recipe.train.pseudo_weight:
        return learn_with_pseudo_labels(fit, rows, validation)
    return fit.train(rows, validation)
