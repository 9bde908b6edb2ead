"""Is the training worth its time? With few images, the head of a probe is often as good as a network that was trained.

A probe learns from the same images in a fraction of the time, so it is fitted beside the training, and both answer the
same validation images.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import WeightsError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import load_recipe
from fieldmark.evaluation.beside_probe import BesideProbe
from fieldmark.evaluation.calibration import Held
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.holdout import hold_out, means_of
from fieldmark.model.choosing import knows_nothing

__all__ = ["beside_probe"]

_MOST = 3_000
"""Images to learn from. With more, a probe takes longer to fit and is seldom as good."""


def beside_probe(fit: Fit, held: Held, rows: NDArray[np.int64], validation: NDArray[np.int64]) -> BesideProbe | None:
    """The trained network, which answered `held`, beside a probe that starts from the same weights and learns from the
    same `rows`.

    None where that says nothing: for a probe itself, without pretrained weights, and for many images; and where these
    weights are gone.
    """
    own = fit.recipe
    if own.train.solver == "logistic" or knows_nothing(own.backbone) or len(rows) > _MOST:
        return None
    images = own.images.model_copy(update={"mirror": False})
    same = {"backbone": own.backbone, "images": images, "seed": own.seed}
    probe = replace(
        fit, recipe=load_recipe("probe").model_copy(update=same), listener=Listener(), name="probe", start=None
    )
    try:
        model = probe.train(rows, validation).model
    except WeightsError:  # a training that is resumed needs its first weights no more, and they may be gone
        return None
    answers = hold_out(probe, model, means_of(probe, model, rows), validation, learnt_from=rows)
    probed, trained = (one.logits.argmax(axis=1) == one.labels for one in (answers, held))
    return BesideProbe.of(probed, trained, held.units, seed=own.seed)
