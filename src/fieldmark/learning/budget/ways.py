"""Ways to train a network within a budget: what there are, what they cost, and which are worth trying."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from fieldmark.core.errors import RecipeError
from fieldmark.core.memory import lacks_memory
from fieldmark.core.recipe import Backbone, Recipe
from fieldmark.core.wording import counted
from fieldmark.learning.budget.begin import sizes_of
from fieldmark.learning.budget.plan import ENOUGH_STEPS, Heats, Way, heats, preferred, with_rivals
from fieldmark.learning.budget.probes import Probe
from fieldmark.learning.budget.work import Work
from fieldmark.learning.fitting.combinations import rehearse
from fieldmark.learning.fitting.curriculum import schedule_of

__all__ = [
    "looked_at_last",
    "looks",
    "num_adopted",
    "plan_of",
    "possible",
    "recipe_of",
    "reserve",
    "why_none",
]

_ADOPTED = 2048, 256
"""Images for the statistics of BatchNorm, at most and at least."""
_SAFETY = 1.15
"""What follows the last step cannot stop half-way."""
_PER_CLASS = 200
"""Images that the finished model looks at once more; see `learnt_of`."""


def possible(work: Work, probe: Probe | None) -> bool:
    """Whether there is time for a network."""
    return work.judged and bool(_preferred(work, probe, _ways(work, probe)))


def why_none(work: Work, probe: Probe) -> list[str]:
    """Why no network was trained, in a sentence."""
    if not work.judged:
        return []  # which was said before
    left = work.purse.meter.left
    most = max(_ways(work, probe), key=lambda way: way.steps(left))
    steps = counted(most.steps(left), "step")
    return [f"No network was trained: {steps} of {most.name} would have fitted, too few to be better than a probe."]


def plan_of(work: Work, probe: Probe | None) -> Heats:
    """Who is tried against whom. It is kept, so that whoever resumes goes on with the same."""
    if (kept := work.purse.facts.get("plan")) is not None:
        return Heats(
            tuple(
                replace(_way(work, probe, one["size"], one["freeze"], one.get("recipe", "")), start=one["start"])
                for one in kept["ways"]
            ),
            kept["each"],
        )
    ways = _ways(work, probe)
    able = _preferred(work, probe, ways) or [min(ways, key=lambda way: way.step)]
    if work.judged:
        rivals, left = _rivals(work, probe, ways), work.purse.meter.left
        plan = heats(with_rivals(able, rivals, left), left)
        if len(plan.ways) < 2:  # a rival's trial would take too long
            plan = heats(able, left)
    else:
        plan = Heats(tuple(able[:1]))
    plan = replace(plan, ways=tuple(_with_start(work, way, probe) for way in plan.ways))
    work.purse.facts["plan"] = {
        "ways": [
            {"recipe": way.recipe, "size": way.size, "freeze": way.freeze, "start": way.start} for way in plan.ways
        ],
        "each": plan.each,
    }
    work.purse.keep()
    return plan


def _preferred(work: Work, probe: Probe | None, ways: Sequence[Way]) -> list[Way]:
    return preferred(ways, work.purse.meter.left, probe.chosen.fit.recipe.images.size if probe else 0)


def _ways(work: Work, probe: Probe | None) -> list[Way]:
    """Those of the recipe that was asked for."""
    freezes = [work.fit.recipe.train.num_frozen]
    if probe and work.purse.leaves("freeze"):
        freezes = [0, probe.stages // 2]
    ways = list[Way]()
    for size in reversed(sizes_of(work.purse)):  # the small ones are quickly timed
        with suppress(RecipeError):  # a few networks are bound to their size, which is that of their probe
            ways += [_way(work, probe, size, freeze) for freeze in freezes]
    return ways


def _rivals(work: Work, probe: Probe | None, ways: Sequence[Way]) -> list[Way]:
    """Those of other recipes. A step of theirs takes longer than one of `ways`, so where there is no time for as many
    of these, nothing is measured."""
    left, found, freeze = work.purse.meter.left, list[Way](), min(way.freeze for way in ways)
    for name in work.purse.rivals:
        whole = _whole(work, name)
        for way in ways:
            if way.freeze == freeze and replace(way, whole=whole).fits_whole(left):
                try:
                    rehearse(recipe_of(work, probe, way.size, freeze, name))
                    found.append(_way(work, probe, way.size, freeze, name))
                except Exception as error:  # a processor's lack of memory has no class of its own
                    if not isinstance(error, RecipeError) and not lacks_memory(error):
                        raise
                    # a network or a size that it cannot do with, or that is too large: the others compete without it
    return found


def _whole(work: Work, rival: str) -> int:
    """The steps of a rival recipe without a budget."""
    recipe = work.purse.rivals[rival]
    return schedule_of(recipe, work.rows, work.fit.data.catalog.labels[work.rows]).num_steps


def _way(work: Work, probe: Probe | None, size: int, freeze: int, rival: str = "") -> Way:
    costs, recipe = work.costs, recipe_of(work, probe, size, freeze, rival)
    backbone, train = recipe.backbone, recipe.train
    costs.measure(backbone, size)
    costs.measure_learning(recipe, work.fit.task(work.rows), rival=rival)
    each = costs.answer(backbone, size)
    decoding = 0.0 if size == work.fit.recipe.images.size else costs.decode(len(work.rows) + len(work.validation))
    adopted = num_adopted(work, each) * each if train.batchnorm == "frozen" else 0.0
    return Way(
        backbone.name,
        size,
        freeze,
        probe.chosen.accuracy if probe else 0.0,
        costs.loading + adopted + decoding + costs.mirror(len(work.rows), len(work.fit.data.catalog.classes)),
        costs.step(recipe, work.step_size, rival=rival),
        looks(work) * len(work.validation) * each,
        reserve(work, backbone, size),
        train.head_start,
        rival,
        _whole(work, rival) if rival else 0,
    )


def _with_start(work: Work, way: Way, probe: Probe | None) -> Way:
    """The same, and how its head starts: with few steps, as that of the probe."""
    if probe and not way.recipe and work.purse.leaves("solver") and way.steps(work.purse.meter.left) < ENOUGH_STEPS:
        return replace(way, start="logistic")
    return way


def recipe_of(work: Work, probe: Probe | None, size: int, freeze: int, rival: str) -> Recipe:
    """The recipe of a way. A rival has the backbone of the others, unless it brings its own."""
    own = work.fit.recipe
    backbone = probe.backbone if probe else own.backbone
    other = work.purse.rivals[rival] if rival else own
    return other.model_copy(
        update={
            "backbone": backbone if other.backbone == own.backbone else other.backbone,
            "images": own.images.model_copy(update={"size": size}),
            "train": other.train.model_copy(update={"freeze_stages": freeze}),
        }
    )


def looks(work: Work) -> int:
    """At a picture, to answer: as the recipe that was asked for has it, since it may not be known yet what flips do."""
    return 1 + work.purse.recipe.images.mirror


def num_adopted(work: Work, each: float) -> int:
    """Images for statistics, which may take a fiftieth of what is left."""
    most, least = _ADOPTED
    return int(min(most, max(least, 0.02 * work.purse.meter.left / each)))


def reserve(work: Work, backbone: Backbone, size: int) -> float:
    """What follows the last step: answers for validation images and for those that were learnt, and the calibration."""
    images = looks(work) * len(work.validation) + looked_at_last(work)
    cost = images * work.costs.answer(backbone, size) + work.costs.finishing
    return _SAFETY * cost if work.purse.in_seconds else cost


def looked_at_last(work: Work) -> int:
    """Looks of a finished network at images that it has learnt."""
    counts = np.bincount(work.fit.data.catalog.labels[work.rows])
    return looks(work) * int(np.minimum(counts, _PER_CLASS).sum())
