"""Probes within a budget: the features of each backbone are computed once, and what they are worth is nearly free."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.core.errors import RecipeError, RunError, WeightsError
from fieldmark.core.listener import Advanced, Event, Listener
from fieldmark.core.recipe import Backbone, Recipe, load_recipe
from fieldmark.evaluation.outputs import Outputs
from fieldmark.learning.budget.work import Chosen, Work, percent
from fieldmark.learning.fitting.head import fit_head
from fieldmark.learning.fitting.holdout import fit_calibration, hold_out, learnt_of
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.learning.fitting.weights import tell_license
from fieldmark.learning.training.optimizer import num_stages
from fieldmark.model.at_hand import weights_at_hand
from fieldmark.model.license import is_noncommercial, weights_license
from fieldmark.model.model import Model
from fieldmark.runs.facts import BudgetProbe

__all__ = ["Probe", "probed", "probed_further"]

_CHOICE, _FURTHER, _ALL = 0.15, 0.12, 0.8
"""The shares of what is left that may go to the choice of C, and to each further probe, with a network to follow and
without."""


class Probe(NamedTuple):
    """A probe, and its features of the images that it learnt from (N, D)."""

    chosen: Chosen
    features: NDArray[np.float32]
    strength: float | None
    """Its C; None for a discriminant."""
    stages: int
    """Of its backbone."""

    @property
    def backbone(self) -> Backbone:
        return self.chosen.fit.recipe.backbone


def probed(work: Work) -> Probe:
    """A probe of the recipe's backbone; in a later sitting, the best one of those that were tried.

    Raises RunError if that one's weights are gone.
    """
    own, known = work.fit.recipe.backbone, work.purse.facts["probes"]
    if known:  # in an earlier sitting; only the best one is made again
        best = max(known, key=lambda one: one["accuracy"])["backbone"]
        here = {one.name: one for one in (*_at_hand(own), own)}
        if best not in here:
            raise RunError(f"The weights of {best}, whose probe was the best, are gone", "Install them again.")
        own = here[best]
    first = _probe(work, own)
    _time_calibration(work, first)
    return first


def probed_further(work: Work, first: Probe, *, leave: bool) -> Probe:
    """The best of the probes that fit, of each other backbone at hand; small ones only, to `leave` time for a network.

    Nothing is tried twice: in a later sitting, it was.
    """
    own, found = first.backbone, [first]
    if len(work.purse.facts["probes"]) > 1:
        return first
    for backbone in _at_hand(own) if work.purse.leaves("backbone") else ():
        allowed = (_FURTHER if leave else _ALL) * (work.purse.meter.left - work.costs.finishing)
        if _cost(work, own) > allowed:  # then it is not worth measuring, either
            continue
        try:
            work.costs.measure(backbone, work.fit.recipe.images.size)
            if _cost(work, backbone) <= allowed:
                found.append(_probe(work, backbone))
        except (RecipeError, WeightsError) as error:  # what happens to lie in the hub's cache need not be of use
            work.fit.listener.note(f"{error.problem}, so {backbone.name} is passed over")
    best_found = max(found, key=lambda one: one.chosen.accuracy)
    if len(found) > 1:
        work.because.append(f"Of the probes of {len(found)} backbones, that of {best_found.backbone.name} is the best.")
    if best_found is not first:  # whose licence was told before
        tell_license(best_found.chosen.fit.recipe, work.fit.listener)
    return best_found


def _at_hand(own: Backbone) -> list[Backbone]:
    """Backbones beside the recipe's own, but for weights that forbid commercial use, which nobody has named."""
    found = [Backbone(name=one.backbone, weights=one.source) for one in weights_at_hand()]
    return [one for one in found if one.name != own.name and not is_noncommercial(weights_license(one))]


def _cost(work: Work, backbone: Backbone) -> float:
    """Of a probe."""
    images, size = len(work.rows) + len(work.validation), work.fit.recipe.images.size
    return work.costs.loading + images * work.costs.answer(backbone, size) + work.costs.heads(1)


def _probe(work: Work, backbone: Backbone) -> Probe:
    """One of these features."""
    meter, costs, size = work.purse.meter, work.costs, work.fit.recipe.images.size
    began = meter.spent
    fit = replace(work.fit, recipe=_recipe(work, backbone), name="probe", listener=_Progress(work.fit.listener))
    model = fit.build(work.rows, load_weights=fit.start is None)
    loaded, rows = meter.spent, np.concatenate([work.rows, work.validation])
    both = fit.embedding(model, rows, stage=f"Computing features by {backbone.name}")
    meter.look(len(both))
    costs.answered(backbone, size, (meter.spent - loaded) / len(both))
    features = both[: len(work.rows)]
    known = [one["strength"] for one in work.purse.facts["probes"] if one["backbone"] == backbone.name]
    strengths = [one for one in known if one] or costs.strengths(_CHOICE * (meter.left - costs.finishing))
    computed = meter.spent
    fitted = fit_head(model, features, work.rows, fit.recipe, fit.data, fit.listener, strengths)
    costs.fitted(meter.spent - computed, len(strengths))
    model.eval()
    learnt, held = _said(model, features), _said(model, both[len(work.rows) :])
    accuracy = work.accuracy(held) if work.judged else fitted.accuracy or 0.0
    facts: BudgetProbe = {
        "backbone": backbone.name,
        "size": size,
        "spent": round(meter.spent - began, 2),
        "accuracy": round(accuracy, 4),
        "strength": fitted.strength or 0.0,
    }
    if not known:
        work.purse.facts["probes"].append(facts)
    work.purse.keep()
    how = "of validation images" if work.judged else "of training images, cross-validated"
    work.fit.listener.note(
        f"Probe of {backbone.name} at {size} px: {percent(accuracy)} {how}, in {work.purse.said(facts['spent'])}"
    )
    own = replace(fit, listener=work.fit.listener, name="model")
    return Probe(Chosen(own, model, accuracy, learnt, held), features, fitted.strength, num_stages(model.backbone))


def _recipe(work: Work, backbone: Backbone) -> Recipe:
    own, probe = work.fit.recipe, load_recipe("probe")
    if not work.purse.leaves("solver"):
        return own.model_copy(update={"backbone": backbone})
    images = own.images.model_copy(update={"mirror": False})
    same = {"backbone": backbone, "images": images, "seed": own.seed, "labels": own.labels}
    return resolve_recipe(probe.model_copy(update=same))


def _time_calibration(work: Work, probe: Probe) -> None:
    """What comes last is done once beforehand, to know how long it takes."""
    if not len(work.validation):
        return
    began, chosen = work.purse.meter.spent, probe.chosen
    fit = replace(chosen.fit, listener=_Progress(Listener()))
    means = learnt_of(fit, chosen.model, work.rows, chosen.learnt).means
    held = hold_out(fit, chosen.model, means, work.validation, learnt_from=work.rows, answered=chosen.held)
    fit_calibration(fit, held, means)
    work.costs.calibrated(work.purse.meter.spent - began)


@torch.no_grad()
def _said(model: Model, features: NDArray[np.float32]) -> Outputs:
    """What a model says whose embedding of images is known: (N, D)."""
    seen = torch.from_numpy(features).to(next(model.parameters()).device)
    attributes = () if model.attributes is None else model.attributes(seen)
    logits = model.method.head(seen)
    return Outputs(logits.cpu().numpy(), features, tuple(values.cpu().numpy() for values in attributes))


class _Progress(Listener):
    """Passes on how work advances, and nothing else: the search speaks for itself."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def hear(self, event: Event) -> None:
        if isinstance(event, Advanced):
            self.listener.hear(event)
