"""Networks within a budget: a few against each other where there is time for that, and the best one to its end.

What a network has learnt while it was tried is kept: the winner goes on from its checkpoint, with the learning rate
that it would have had anyway (`fieldmark.learning.budget.pace`). None is trained again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, final

from fieldmark.core.errors import TrainingError
from fieldmark.core.listener import EpochEnded, Event, Listener, Listeners, StepTaken
from fieldmark.core.recipe import Recipe
from fieldmark.evaluation.outputs import Outputs
from fieldmark.learning.budget.pace import Pace
from fieldmark.learning.budget.plan import Way
from fieldmark.learning.budget.probes import Probe
from fieldmark.learning.budget.purse import Purse
from fieldmark.learning.budget.ways import (
    looks,
    num_adopted,
    plan_of,
    possible,
    recipe_of,
    reserve,
    why_none,
)
from fieldmark.learning.budget.work import Chosen, Work, percent
from fieldmark.learning.fitting.curriculum import schedule_of
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.tuning import tuned
from fieldmark.runs.facts import BudgetShare, BudgetTrial

__all__ = ["trained"]

_MOST_EPOCHS = 3
"""Times the epochs of the recipe: so many more were no better (benchmarks/README.md, "long mix")."""
_STRENGTHS = 3e-3, 1e-2
"""The values of C from which a head that begins as a probe's is chosen; features are standardised for it."""
_TUNED = 1e-3
"""The highest learning rate of a head that begins as a probe's, which has little left to learn."""


def trained(work: Work, probe: Probe | None) -> Chosen | None:
    """The best network, or None where no training is worth its time, or where it fails. Without a probe there is always
    one; raises TrainingError if that fails."""
    work = _on_fastest_machine(work, probe)
    if probe and not possible(work, probe) and "plan" not in work.purse.facts:
        work.because.extend(why_none(work, probe))
        return None
    work = work.with_flips()
    plan = plan_of(work, probe)
    ways, judged, rounds = list(plan.ways), dict[Way, _Standing](), 0
    while len(ways) > 1:
        rounds += 1
        for way in ways:
            judged[way] = _judged(work, way, probe, plan.each, rounds)
        ways.sort(key=lambda way: -judged[way].accuracy)
        failed = work.purse.facts.get("failed", {})
        work.because.extend(f"{way.name} was out of a trial: {failed[way.name]}." for way in ways if way.name in failed)
        ahead, behind, ways = ways[0], ways[len(ways) // 2], ways[: len(ways) // 2]
        if behind.name not in failed:
            stands = "ahead of" if judged[ahead].accuracy > judged[behind].accuracy else "level with"
            work.because.append(
                f"{ahead.name} was {stands} {behind.name} in a trial: {percent(judged[ahead].accuracy)} against "
                f"{percent(judged[behind].accuracy)}{work.gained(judged[behind].held, judged[ahead].held)}."
            )
    return _trained_to_its_end(work, ways[0], probe)


def _trained_to_its_end(work: Work, way: Way, probe: Probe | None) -> Chosen | None:
    """None where it fails and a probe can ship in its place."""
    if probe is None:
        return _run(work, way, None)
    if way.name not in work.purse.facts.get("failed", {}):
        try:
            return _run(work, way, probe)
        except TrainingError as error:
            _fail(work, way, error)
    work.because.append(f"{way.name} was not trained to its end: {work.purse.facts['failed'][way.name]}.")
    return None


def _fail(work: Work, way: Way, error: TrainingError) -> None:
    """Remember that it cannot be trained, so that whoever resumes does not try again."""
    facts = work.purse.facts
    facts["failed"] = facts.get("failed", {}) | {way.name: error.problem}
    work.purse.keep()
    work.fit.listener.note(f"{way.name} is out: {error.problem}")


def _on_fastest_machine(work: Work, probe: Probe | None) -> Work:
    """The same on the machine as it computes the network fastest, as far as that is known or pays to find out."""
    if probe and not possible(work, probe):  # then a trial would be for nothing
        return work
    own, meter = work.fit.recipe, work.purse.meter
    backbone = probe.backbone if probe else own.backbone
    left = meter.left - reserve(work, backbone, own.images.size)
    most = _length(work, own)[1] * work.step_size
    train = own.train.model_copy(update={"solver": "gradient"})
    asked = replace(work.fit, recipe=own.model_copy(update={"backbone": backbone, "train": train}))
    if work.purse.in_seconds:
        fit = tuned(asked, work.rows, images=most, seconds=max(0.0, left))
    else:
        fit = tuned(asked, work.rows, images=max(1, min(most, int(left))))
    work.costs.settle(fit.machine)
    return replace(work, fit=replace(work.fit, machine=fit.machine))


class _Standing(NamedTuple):
    """A contender after a trial."""

    accuracy: float
    held: Outputs | None
    """What it said of validation images; None where that was in an earlier sitting."""


_OUT = _Standing(-1.0, None)
"""Of a contender that could not be trained."""


def _judged(work: Work, way: Way, probe: Probe | None, each: float, rounds: int) -> _Standing:
    """A contender after so many rounds, in which it spends `each` on steps."""
    facts = work.purse.facts
    known = [one for one in facts["trials"] if one["name"] == way.name]
    if known and (stood := _stood(known[0], rounds)) is not None:  # in an earlier sitting
        return _Standing(stood, None)
    if way.name in facts.get("failed", {}):
        return _OUT
    try:
        found = _run(work, way, probe, each, rounds)
    except TrainingError as error:  # it diverges, or is too large for this memory: the others compete without it
        _fail(work, way, error)
        return _OUT
    work.fit.listener.note(f"{way.name}: {percent(found.accuracy)} of validation images so far")
    return _Standing(found.accuracy, found.held)


def _stood(known: BudgetTrial, rounds: int) -> float | None:
    """The accuracy after so many rounds, which decided; None if they are not over. A run of before knows the last."""
    if "stood" not in known:
        return known["accuracy"] if known["rounds"] >= rounds or not known["rounds"] else None
    return known["stood"][rounds - 1] if len(known["stood"]) >= rounds else None


def _run(work: Work, way: Way, probe: Probe | None, pause: float | None = None, rounds: int = 0) -> Chosen:
    """Train it from where it stands, until it pauses or the budget ends, and judge it."""
    meter, costs = work.purse.meter, work.costs
    began, job = meter.spent, _job(work, way, probe)
    trying = _trying(work, way, rounds)
    backbone = job.fit.recipe.backbone
    earlier = [one for one in work.purse.facts["trials"] if one["name"] == way.name]
    begun = job.fit.run.checkpoint(job.fit.name).is_file()
    if not begun and job.fit.recipe.train.batchnorm == "frozen":
        meter.look(min(job.fit.num_adopted, len(work.rows)))
    pace = Pace(
        meter,
        step=earlier[0]["step"] if earlier else way.step,
        batch=work.step_size,
        reserve=reserve(work, backbone, way.size),
        pause=None if pause is None else pause - trying["spent"],
        most=job.most,
    )
    noting = Listeners(job.fit.listener, _Noting(work.purse, job.fit.recipe.train.checkpoint_steps, trying, pace))
    model = replace(job.fit, pace=pace, listener=noting).train(work.rows, work.validation[:0]).model
    answered = meter.spent
    held = job.fit.outputs(model, work.validation, stage="Judging") if len(work.validation) else None
    meter.look(looks(work) * len(work.validation))
    if held is not None:
        costs.answered(backbone, way.size, (meter.spent - answered) / (looks(work) * len(work.validation)))
    accuracy = work.accuracy(held) if held is not None else 0.0
    spent = meter.spent - began + sum(one["spent"] for one in earlier)
    _keep(work, way, job, pace, rounds, spent, accuracy)
    if pause is None and pace.done >= job.most and work.purse.leaves("epochs"):
        work.because.append(
            f"It ended before the budget did: {job.most // job.per_epoch} epochs are {_MOST_EPOCHS} times as many as "
            "the recipe has, and more seldom help."
        )
    epochs, own = max(1, round(pace.done / job.per_epoch)), work.fit.recipe.train
    train = job.fit.recipe.train.model_copy(update={"epochs": epochs, "validate_epochs": own.validate_epochs})
    done = replace(job.fit, recipe=job.fit.recipe.model_copy(update={"train": train}))
    return Chosen(done, model, accuracy, None, held)


def _keep(work: Work, way: Way, job: _Job, pace: Pace, rounds: int, spent: float, accuracy: float) -> None:
    """Remember a training as far as it has come."""
    facts: BudgetTrial = {
        "name": way.name,
        "recipe": way.recipe,
        "backbone": way.backbone,
        "size": way.size,
        "freeze": way.freeze,
        "start": way.start,
        "rounds": rounds,
        "steps": pace.done,
        "epochs": round(pace.done / job.per_epoch, 2),
        "step": round(pace.step, 4),
        "spent": round(spent, 2),
        "accuracy": round(accuracy, 4),
    }
    trials = work.purse.facts["trials"]
    before = [one for one in trials if one["name"] == way.name]
    if not before or "stood" in before[0]:
        facts["stood"] = [*(before[0]["stood"] if before else []), *([accuracy] if rounds else [])]
    work.purse.facts.pop("trying", None)
    work.purse.facts["trials"] = [one for one in trials if one["name"] != way.name] + [facts]
    work.purse.keep()


def _trying(work: Work, way: Way, rounds: int) -> BudgetShare:
    """What it has taken in this round already, in an earlier sitting."""
    known = work.purse.facts.get("trying")
    if known is None or (known["name"], known["rounds"]) != (way.name, rounds):
        known = work.purse.facts["trying"] = {"name": way.name, "rounds": rounds, "spent": 0.0}
    return known


@final
class _Noting(Listener):
    """Writes down what is spent with each checkpoint: a process that is killed, and resumed, does not get it again, and
    neither does a contender get its share again."""

    def __init__(self, purse: Purse, every: int, trying: BudgetShare, pace: Pace) -> None:
        """`every`: the steps after which there is a checkpoint within an epoch; 0 for none."""
        self.purse, self.every = purse, every
        self.trying, self.before, self.pace = trying, trying["spent"], pace

    def hear(self, event: Event) -> None:
        self.trying["spent"] = round(self.before + self.pace.taken, 2)
        within = isinstance(event, StepTaken) and self.every and event.step % self.every == 0
        if within or isinstance(event, EpochEnded):
            self.purse.keep()


class _Job(NamedTuple):
    """A fit that has no end yet."""

    fit: Fit
    per_epoch: int
    """Steps."""
    most: int
    """Steps."""


def _job(work: Work, way: Way, probe: Probe | None) -> _Job:
    """What trains in this way."""
    recipe = recipe_of(work, probe, way.size, way.freeze, way.recipe)
    per_epoch, most = _length(work, recipe)
    from_probe = None
    if probe and way.start == "logistic" and work.purse.leaves("solver") and recipe.backbone == probe.backbone:
        from_probe = probe
    train = recipe.train.model_copy(
        update={
            "solver": "gradient",
            "epochs": most // per_epoch,
            "validate_epochs": False,
            "head_start": way.start,
            "head_lr": min(recipe.train.head_lr, _TUNED) if from_probe else recipe.train.head_lr,
        }
    )
    recipe = recipe.model_copy(update={"train": train})
    fit = replace(
        work.fit,
        recipe=recipe,
        data=work.pictures(way.size),
        name=way.name,
        features=from_probe.features if from_probe else None,
        strengths=_STRENGTHS if from_probe else None,
        num_adopted=num_adopted(work, work.costs.answer(recipe.backbone, way.size)),
    )
    return _Job(fit, per_epoch, most)


def _length(work: Work, recipe: Recipe) -> tuple[int, int]:
    """The steps of an epoch, and the most of a training."""
    schedule = schedule_of(recipe, work.rows, work.fit.data.catalog.labels[work.rows])
    epochs = schedule.epochs * (_MOST_EPOCHS if work.purse.leaves("epochs") else 1)
    return schedule.steps_per_epoch, epochs * schedule.steps_per_epoch
