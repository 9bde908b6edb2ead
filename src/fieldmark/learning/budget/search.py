"""Training within a budget, from cheap to dear: probes, a few networks, and the best model of them all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.recipe import Recipe
from fieldmark.core.wording import counted
from fieldmark.learning.budget.networks import trained
from fieldmark.learning.budget.probes import probed, probed_further
from fieldmark.learning.budget.purse import Purse
from fieldmark.learning.budget.ways import looked_at_last, possible
from fieldmark.learning.budget.work import Chosen, Work, percent
from fieldmark.learning.fitting.fit import Fit
from fieldmark.model.choosing import weights_name
from fieldmark.runs.budgeted import settle_recipe

__all__ = ["chosen_within"]

Ints = NDArray[np.int64]


def chosen_within(purse: Purse, fit: Fit, rows: Ints, validation: Ints) -> Chosen:
    """Spend what is left, and give the best model that was found. The run's recipe becomes that of the model."""
    work = Work(purse, fit, rows, validation, [])
    purse.facts["validation"] = len(validation)
    by_folds = not work.judged and not purse.only_network
    purse.facts["by"] = "folds" if by_folds else "validation"
    if by_folds:
        fit.listener.note(
            f"With {counted(len(validation), 'validation image')} nothing can judge a training, so probes are tried "
            "alone, and chosen by cross-validation"
        )
    solver, any_solver = fit.recipe.train.solver, purse.leaves("solver")
    try:
        probe = None if purse.only_network else probed(work)
        if probe:
            probe = probed_further(work, probe, leave=any_solver and possible(work, probe))
        network = trained(work, probe) if any_solver or solver != "logistic" else None
        if probe and not (network and network.accuracy > probe.chosen.accuracy):  # what it still needed is left
            probe = probed_further(work, probe, leave=False)
    finally:
        purse.keep()  # who stops here goes on with what is left
    chosen = _better(work, probe.chosen if probe else None, network)
    if chosen is network:
        purse.meter.look(looked_at_last(work))
    _settle(work, chosen)
    return chosen


def _better(work: Work, probe: Chosen | None, network: Chosen | None) -> Chosen:
    """Of equals the probe, which is what it seems: a network could have been trained longer."""
    if network is None:
        assert probe is not None
        return probe
    if probe is None:
        return network
    better = network.accuracy > probe.accuracy
    ends = "which is what the probe has"
    if network.accuracy != probe.accuracy:
        ends = f"a probe {percent(probe.accuracy)}{work.gained(probe.held, network.held)}"
    work.because.append(
        f"The trained network has {percent(network.accuracy)} of {counted(len(work.validation), 'validation image')} "
        f"right, {ends}{'' if better else ': the probe ships'}."
    )
    return network if better else probe


def _settle(work: Work, chosen: Chosen) -> None:
    """Write down what was chosen and why, and the recipe that repeats it."""
    run, asked, recipe = work.fit.run, work.purse.recipe, chosen.fit.recipe
    mirror = asked.images.mirror and (recipe.train.solver != "logistic" or recipe.images.mirror)
    images = asked.images.model_copy(update={"size": recipe.images.size, "mirror": mirror})
    train = recipe.train
    if train.solver != "logistic" and train.precision == "auto":  # another training might not measure the same
        train = train.model_copy(update={"precision": chosen.fit.machine.precision})
    settled = recipe.model_copy(update={"images": images, "labels": asked.labels, "train": train})
    settle_recipe(run, settled)
    if chosen.fit.start is None:
        run.decide("weights", weights_name(settled.backbone))
    run.decide("solver", settled.train.solver)
    work.purse.facts |= {"chosen": _described(settled), "because": work.because}
    work.purse.keep()
    work.fit.listener.note(f"Chose {_described(settled)}")
    for text in work.because:
        work.fit.listener.note(text)


def _described(recipe: Recipe) -> str:
    """ "bilinear_attention, tf_efficientnet_lite0 at 160 px, trained for 12 epochs, 4 stages frozen"."""
    method = f"{recipe.method.name}, " if recipe.method.name != "transfer" else ""
    where = f"{method}{recipe.backbone.name} at {recipe.images.size} px"
    if recipe.train.solver == "logistic":
        return f"a probe of {where}"
    frozen = f", {counted(recipe.train.num_frozen, 'stage')} frozen" if recipe.train.num_frozen else ""
    assert isinstance(recipe.train.epochs, int)
    start = ", from the head of a probe" if recipe.train.head_start == "logistic" else ""
    return f"{where}, trained for {counted(recipe.train.epochs, 'epoch')}{frozen}{start}"
